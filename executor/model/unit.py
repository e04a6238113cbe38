"""Runs one checkpointed unit: FORWARD, which keeps no activation, RECOMPUTE from the boundary, and BACKWARD.

What RECOMPUTE must find again is saved at FORWARD: the random and the autocast state, and the values from before of
what the unit's modules change in themselves. The same code runs on every device, and under calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._python_dispatch import _disable_current_modes

from loadahead.executor.model.saved import SavedTensors, UsedInForward
from loadahead.executor.model.state import Before, ModuleState
from loadahead.executor.tensors.digests import digest
from loadahead.executor.tensors.layout import Layout, storage_id
from loadahead.executor.tensors.randomness import (
    DrawFromState,
    Draws,
    RandomState,
    drawing_from,
    global_states,
    seeded_state,
)
from loadahead.executor.tensors.sparse import keep_apart, sparse_weights
from loadahead.executor.tensors.values import Form, Parts, Value, owned, plain_tensor, storages, views_of
from loadahead.sim.errors import InputError, InternalError, LoadaheadError, one_line

LossOf = Callable[[Any], torch.Tensor]
NO_HANDED: Mapping[int, torch.Tensor] = {}


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[None]:
    """Return an autocast context; ``None`` switches autocast off."""
    kind = "cpu" if device.type == "meta" else device.type
    return torch.autocast(kind, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


@contextmanager
def model_errors_in_one_line(where: str) -> Iterator[None]:
    """Raise what the user's layers raise inside as an InputError in one line that says ``where``.

    Running out of device memory stays the error it is.
    """
    try:
        yield
    except (LoadaheadError, InternalError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        text = one_line(error)
        advice = (
            "; run without the check of gradients"
            if "does not have a deterministic implementation" in str(error)
            else ""
        )
        raise InputError(f"the model fails {where}: {type(error).__name__}: {text}{advice}") from error


@dataclass(frozen=True, slots=True)
class UnitContext:
    """Holds the random and the autocast state under which a unit runs."""

    random: RandomState
    autocast: torch.dtype | None
    device: torch.device
    shared: bool
    draws: Draws
    turns: bool = False

    @contextmanager
    def active(self) -> Iterator[DrawFromState | None]:
        """Run the body under these states."""
        drawing = drawing_from(self.random, self.device, self.shared, self.draws, self.turns)
        with drawing as drawn, autocast(self.device, self.autocast):
            yield drawn


@dataclass(frozen=True, slots=True)
class Foreseen:
    """Says what a unit does at some time that its traced microbatch does not show.

    Attributes:
        paths: of pieces of its modules' state that its FORWARD changes.
        draws: random numbers that it draws.
    """

    paths: frozenset[str] = frozenset()
    draws: Draws = field(default_factory=lambda: Draws(torch=False))

    def __or__(self, other: Foreseen) -> Foreseen:
        return Foreseen(self.paths | other.paths, self.draws | other.draws)


class Unforeseen(Exception):
    """Says that a watched unit did what was not foreseen, so that the run has to begin anew."""

    def __init__(self, unit: str, what: Foreseen) -> None:
        super().__init__(unit, what)
        self.unit, self.what = unit, what


class _GraphInput(torch.autograd.Function):
    """Is the identity at a unit's boundary; its backward hands out the gradient as it is.

    Autograd's own accumulation into a leaf would copy it, which plain training does not do between two layers. The leaf
    is a stand-in, and the boundary comes in a list: so the graph does not hold the boundary, which the plan frees.
    """

    @staticmethod
    def forward(ctx: Any, leaf: torch.Tensor, boundary: list[torch.Tensor], sink: list[torch.Tensor]) -> torch.Tensor:
        ctx.sink = sink
        return boundary[0].detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[None, None, None]:
        ctx.sink.append(gradients[0])
        return None, None, None


def graph_input(x: torch.Tensor, needed: bool, sink: list[torch.Tensor]) -> torch.Tensor:
    """Return one of the boundary's tensors as a unit's graph begins with it; without a gradient it stays as it is."""
    if not needed:
        return x.detach()
    leaf = torch.empty(0, device=x.device, requires_grad=True)
    return _GraphInput.apply(leaf, [x], sink)  # type: ignore[no-untyped-call,no-any-return]


def _output_edge(out: torch.Tensor) -> GradientEdge:
    """Return the place in the graph where the output's gradient enters, without the output.

    Before torch 2.7 such a place does not keep a node alive that is written in Python; a view's node does.
    """
    written_in_python = isinstance(out.grad_fn, torch.autograd.function.BackwardCFunction)
    return get_gradient_edge(out.view_as(out) if written_in_python else out)


def _backward_from(ends: Sequence[GradientEdge], gradients: Sequence[torch.Tensor]) -> None:
    """Do as ``torch.autograd.backward``, from places in the graph, for which torch before 2.7 takes tensors alone.

    So it goes to the engine by the call that torch's own functions make, alike in torch 2.6 to 2.13.
    """
    run: Any = torch.autograd.graph._engine_run_backward
    run(tuple(ends), tuple(gradients), False, False, (), allow_unreachable=True, accumulate_grad=True)


@dataclass(slots=True)
class _Graph:
    """Holds what stays between FORWARD and BACKWARD.

    Attributes:
        ends: where the gradient of each output that has one enters: the output itself is the plan's to free.
        outputs: the layouts of these, by their places among the outputs that need a gradient.
        boundary: layouts of what the unit reads and needs a gradient of.
        sinks: each gets the gradient of one of these.
        saved: what RECOMPUTE has to restore; None without checkpointing.
        before: what the unit's modules held before FORWARD changed it; None without checkpointing.
        boundary_storages: the ids of the boundary's memory, in which BACKWARD's tensors may lie.
        read: a digest of each of the boundary's tensors as FORWARD read them, where that is looked at.
    """

    ends: dict[int, GradientEdge]
    outputs: dict[int, Layout]
    boundary: tuple[Layout, ...]
    sinks: list[list[torch.Tensor]]
    saved: SavedTensors | None
    before: Before | None
    boundary_storages: frozenset[int]
    read: tuple[int | None, ...] = ()


@dataclass(slots=True)
class Seen:
    """Collects what a watched unit did otherwise in RECOMPUTE than in FORWARD.

    Attributes:
        reread: microbatches whose boundary held other numbers at RECOMPUTE, with a sentence each.
        different: microbatches whose RECOMPUTE saved other numbers from the same boundary, with what differed.
    """

    reread: dict[int, str] = field(default_factory=dict)
    different: dict[int, str] = field(default_factory=dict)


class CheckpointedUnit:
    """Holds a unit's layers and, per microbatch, what is kept between its operations.

    Args:
        shared: other threads of the process draw random numbers at the same time.
        first_layer: the number of the first layer in the model.

    Attributes:
        form: how the unit's boundary is put together.
        out: how the boundary above it is; None where the unit ends in the loss.
        draws: which random numbers its layers draw.
        state: what its modules may change in themselves.
        state_bytes: bytes of the values from before of what a FORWARD changes.
        computes_gradients: whether its FORWARD itself computes gradients.
        fills_late: whether a kernel of it fills a tensor that was saved before the kernel ran.
        autocasts: whether its layers, or the whole model, run under autocast.
        resident: the ids of its weights' and buffers' storages.
        in_turns: whether no other rank's unit may run meanwhile.
        unhookable: whether its layers do what torch cannot do under saved-tensor hooks, which checkpointing needs.
        forgiving: whether a RECOMPUTE may start from other values than its FORWARD, as nobody looks at the numbers.
        watched: whether what RECOMPUTE saves is compared with what FORWARD saved, and all its state is looked at.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        name: str,
        device: torch.device,
        dtype: torch.dtype | None,
        shared: bool = False,
        first_layer: int = 0,
    ) -> None:
        self.layers = tuple(layers)
        self.name = name
        self.form: Form | None = None
        self.out: Form | None = None
        self.draws = Draws()
        self.computes_gradients = False
        self.fills_late = False
        self.autocasts = False
        self.state = ModuleState(self.layers, name, first_layer)
        self.watched = self.forgiving = self.in_turns = self.unhookable = False
        self.seen = Seen()
        self.state_bytes = 0
        self.device = device
        self._autocast, self._shared = dtype, shared
        self.resident = frozenset(storage_id(tensor) for tensor in self._weights())
        self._sparse = tuple(sparse_weights(self.layers).values())
        self._trained = tuple({id(p): p for p in self.parameters() if p.requires_grad}.values())
        self._contexts: dict[int, UnitContext] = {}
        self._graph: dict[int, _Graph] = {}

    def reset(self) -> None:
        """Forget all that is kept, so that a step after a failed one starts clean."""
        self._contexts.clear()
        self._graph.clear()
        self.seen = Seen()

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the layers' parameters."""
        for layer in self.layers:
            yield from layer.parameters()

    def _weights(self) -> Iterator[torch.Tensor]:
        for layer in self.layers:
            for tensor in (*layer.parameters(), *layer.buffers()):
                if tensor.layout is torch.strided:
                    yield tensor
        yield from self.state.held()

    def run(self, value: Any, loss: LossOf | None = None) -> Any:
        """Return what the layers make of a value, or the loss where the model ends; InputError where a layer fails."""
        with model_errors_in_one_line(f"in unit {self.name}"):
            out: Any = value
            for layer in self.layers:
                out = layer(out)
        return out if loss is None else loss(out)

    def context(self, seed: int, shared: bool | None = None) -> UnitContext:
        """Return the states under which the unit runs with a seed."""
        together = self._shared if shared is None else shared
        # Torch empties autocast's cache of cast weights, which is the process's, when any thread leaves autocast.
        turns = together and (self.autocasts or self.in_turns)
        draws = self.draws | Draws(torch=together and self.watched)
        return UnitContext(seeded_state(seed, self.device), self._autocast, self.device, together, draws, turns)

    # ---- the operations ----

    def forward(
        self,
        microbatch: int,
        value: Value,
        seed: int,
        loss: LossOf | None,
        handed: Mapping[int, torch.Tensor] = NO_HANDED,
    ) -> Made:
        """Run FORWARD, whose graph keeps no tensor; return what it makes, or the loss, in memory of its own."""
        if self.unhookable:
            raise InputError(
                f"the model's unit {self.name} uses transforms of torch.func, which cannot run under the hooks that "
                "checkpointing needs; use checkpoint.enabled = false"
            )
        self._contexts[microbatch] = context = self.context(seed)
        digested = self.watched and not self.fills_late
        saved = SavedTensors(self.name, digested, self.computes_gradients, self.fills_late)
        before = self._before()
        versions = [tensor._version for tensor in (*value.tensors, *handed.values())]
        marks = None if self.watched else self.state.cheap_marks()
        read = tuple(map(digest, value.tensors)) if self.watched else ()
        with self._foreseeing(checkpointed=True) as drawn, context.active() as drawing, saved.discarding():
            made, graph = self._attach(value, handed, loss)
            drawn.append(drawing)
        self._require_known_changes(marks)
        self._require_unchanged(value, handed, versions)
        if self.computes_gradients:
            saved.end_forward()
        graph.saved, graph.before, graph.read = saved, before, read
        self._graph[microbatch] = graph
        return self._owned(made, graph.boundary_storages)

    def forward_with_graph(
        self,
        microbatch: int,
        value: Value,
        seed: int,
        loss: LossOf | None,
        handed: Mapping[int, torch.Tensor] = NO_HANDED,
    ) -> Made:
        """Run FORWARD without checkpointing: the graph stays until BACKWARD. Return what it makes, or the loss.

        The output is always a copy: a layer such as ReLU keeps what it returns for its BACKWARD, longer than the plan
        keeps the boundary that it becomes.
        """
        self._contexts[microbatch] = context = self.context(seed)
        with self._foreseeing(checkpointed=False) as drawn, context.active() as drawing:
            made, graph = self._attach(value, handed, loss)
            drawn.append(drawing)
        self._graph[microbatch] = graph
        return self._owned(made, graph.boundary_storages | storages(made.own))

    def forward_alone(
        self, value: Value, seed: int, handed: Mapping[int, torch.Tensor] = NO_HANDED, microbatch: int = 0
    ) -> Made:
        """Run FORWARD of a frozen unit, which has no other operation."""
        saved = SavedTensors(self.name, kept=self.computes_gradients)
        with self._foreseeing(checkpointed=False) as drawn, self.context(seed).active() as drawing:
            with torch.enable_grad(), saved.discarding():
                made = self._run(value, handed, None, [[] for _ in value.tensors])
            drawn.append(drawing)
        assert self.out is not None, "a frozen unit has one above it"
        if any(t.requires_grad and not needed for t, needed in zip(made.own, self.out.needs, strict=True)):
            raise InputError(
                f"unit {self.name} is frozen, and what it makes of microbatch {microbatch} has a gradient; it had none "
                "when it was traced: it must be the same for every microbatch"
            )
        return self._owned(made, storages(value.tensors))

    def recompute(
        self, microbatch: int, value: Value, loss: LossOf | None, handed: Mapping[int, torch.Tensor] = NO_HANDED
    ) -> None:
        """Run RECOMPUTE: repeat FORWARD under the states saved there, as far as BACKWARD needs it.

        It leaves no trace: modules and random states are then as if it had not run.
        """
        graph = self._graph[microbatch]
        saved, graph.boundary_storages = graph.saved, storages(value.tensors)
        assert saved is not None, "only a checkpointed unit is recomputed"
        again = self.watched and tuple(map(digest, value.tensors)) != graph.read
        putting = nullcontext() if graph.before is None else self.state.at(graph.before)
        with self._contexts[microbatch].active(), putting:
            saved.restore(lambda: self._run(value, handed, loss, [[] for _ in value.tensors]))
        if again:
            self.seen.reread[microbatch] = "its boundary held other numbers than FORWARD had read"
        elif saved.difference is not None:
            self.seen.different[microbatch] = saved.difference

    def backward(self, microbatch: int, gradient: Value | None) -> Value:
        """Run BACKWARD, which accumulates the parameters' gradients in place.

        ``gradient`` is that of the unit's output, None where the unit ends in the loss. Returns the gradient of the
        boundary in memory of its own, for the tensors of it that have one.
        """
        graph, context = self._graph.pop(microbatch), self._contexts.pop(microbatch)
        ends, incoming = [], []
        made = () if gradient is None else gradient.as_made()
        fresh = [parameter for parameter in self._trained if parameter.grad is None]
        for place, end in graph.ends.items():
            if gradient is None:
                ends.append(end)
                incoming.append(graph.outputs[place].ones(self.device))
            elif place not in gradient.absent:
                ends.append(end)
                incoming.append(made[place])
        del made
        if ends:
            apart = self._shared and (context.draws.torch or context.turns)
            where = f"in the backward pass of unit {self.name}"
            with model_errors_in_one_line(where), context.active() if apart else nullcontext():
                _backward_from(ends, incoming)
        incoming.clear()
        given = storages(gradient.tensors) if gradient is not None else frozenset()
        if fresh or self._sparse:
            passed_on = storages([tensor for sink in graph.sinks for tensor in sink])
            keep_apart((*self._sparse, *fresh), graph.boundary_storages | given | passed_on)
        out, absent = [], []
        for place, (sink, layout) in enumerate(zip(graph.sinks, graph.boundary, strict=True)):
            if sink:
                out.append(sink.pop())
            else:
                absent.append(place)
                out.append(layout.empty(self.device).zero_())
        tensors = owned(out, self.resident | graph.boundary_storages | given)
        return Value(tensors, absent=frozenset(absent), views=views_of(out))

    # ---- parts of them ----

    def _run(
        self, value: Value, handed: Mapping[int, torch.Tensor], loss: LossOf | None, sinks: Sequence[list[torch.Tensor]]
    ) -> Parts:
        """Return what the layers make of a boundary, taken apart; or the loss as the only part."""
        form = self.form
        assert form is not None, "a unit runs once its boundary is known"
        tensors = [
            graph_input(tensor, needed, sink)
            for tensor, needed, sink in zip(value.as_made(), form.needs, sinks, strict=True)
        ]
        own_handed = {number: tensor.detach() for number, tensor in handed.items()}
        out = self.run(form.build(tensors, own_handed, value.constants), loss)
        if loss is not None:
            return Parts((out,), {}, ())
        who = f"the model's unit {self.name}"
        assert self.out is not None, "a unit that does not end in the loss has a boundary above it"
        if self.out.single and isinstance(out, torch.Tensor):
            return Parts((plain_tensor(out, who),), {}, ())
        parts = self.out.take_apart(out, who)
        for tensor in (*parts.own, *parts.handed.values()):
            plain_tensor(tensor, who)
        return parts

    def _attach(self, value: Value, handed: Mapping[int, torch.Tensor], loss: LossOf | None) -> tuple[Parts, _Graph]:
        assert self.form is not None
        sinks: list[list[torch.Tensor]] = [[] for _ in value.tensors]
        with torch.enable_grad():
            made = self._run(value, handed, loss, sinks)
        needs = (True,) if loss is not None else self.out.needs if self.out is not None else ()
        ends: dict[int, GradientEdge] = {}
        outputs: dict[int, Layout] = {}
        at = 0
        for tensor, needed in zip(made.own, needs, strict=True):
            if tensor.requires_grad:
                if not needed:
                    raise InputError(
                        f"what the model's unit {self.name} makes has a gradient, and had none when it was traced; it "
                        "must be the same for every microbatch"
                    )
                ends[at], outputs[at] = _output_edge(tensor), Layout.of(tensor)
            at += needed
        needing = [i for i, needed in enumerate(self.form.needs) if needed]
        return made, _Graph(
            ends=ends,
            outputs=outputs,
            boundary=tuple([Layout.of(value.tensors[i]) for i in needing]),
            sinks=[sinks[i] for i in needing],
            saved=None,
            before=None,
            boundary_storages=storages(value.tensors),
        )

    def _owned(self, made: Parts, foreign: frozenset[int]) -> Made:
        tensors = owned([tensor.detach() for tensor in made.own], self.resident | foreign)
        value = Value(tensors, made.constants, views=views_of(made.own))
        return Made(value, {number: t.detach() for number, t in made.handed.items()})

    @contextmanager
    def _foreseeing(self, checkpointed: bool) -> Iterator[list[DrawFromState | None]]:
        """Raise Unforeseen where a watched unit draws, or changes of its state, what it was not known to.

        State matters where there is a RECOMPUTE. What draws for the thread goes into the list.
        """
        drawn: list[DrawFromState | None] = []
        if not self.watched:
            yield drawn
            return
        random = global_states()
        with _disable_current_modes():  # a meter need not see the copies
            everything = self.state.everything(trained=False) if checkpointed else None
        yield drawn
        python, numpy = (one != other for one, other in zip(random, global_states(), strict=True))
        drew = Draws(any(drawing is not None and drawing.drew for drawing in drawn), python, numpy)
        paths: set[str] = set()
        if everything is not None:
            with _disable_current_modes():
                changed = self.state.changed_since(everything, written=True)
            known = {slot.key for slot in self.state.watched}
            for slot in changed:
                if not slot.restorable:
                    raise self.state.refusal(slot)
            paths = {slot.path for slot in changed if slot.key not in known}
        what = Foreseen(frozenset(paths), drew)
        if paths or (drew | self.draws) != self.draws:
            raise Unforeseen(self.name, what)

    def _before(self) -> Before | None:
        """Return what RECOMPUTE has to start from; None where FORWARD changes nothing."""
        return self.state.before() if self.state.watched else None

    def _require_known_changes(self, marks: Any) -> None:
        """Raise InputError where FORWARD changed what it did not change when it was traced."""
        for slot in () if marks is None or self.forgiving else self.state.changed_marks(marks):
            raise InputError(
                f"the model's unit {self.name} changes {slot.path}, which it did not when it was traced; RECOMPUTE "
                "cannot start from what it was: let every FORWARD change the same buffers"
            )

    def _require_unchanged(self, value: Value, handed: Mapping[int, torch.Tensor], versions: Sequence[int]) -> None:
        """Raise InputError where FORWARD has changed what it reads."""
        now = [tensor._version for tensor in (*value.tensors, *handed.values())]
        if now != list(versions):
            raise InputError(
                f"the model's unit {self.name} changes its input in place; RECOMPUTE needs it unchanged: "
                "use inplace=False in its first layer, or let that follow another layer in its unit, e.g. with "
                'checkpoint.strategy = "group_2"'
            )


@dataclass(frozen=True, slots=True)
class Made:
    """Holds what a FORWARD made: the boundary above, or the loss, and the tensors that are handed on, by number."""

    value: Value
    handed: dict[int, torch.Tensor]


__all__ = ["CheckpointedUnit", "LossOf", "Made", "UsedInForward", "autocast", "model_errors_in_one_line"]
