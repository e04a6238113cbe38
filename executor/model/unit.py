"""Runs one checkpointed unit: FORWARD, which keeps no activation, RECOMPUTE from the boundary, and BACKWARD.

What RECOMPUTE must find again is saved at FORWARD: the seed and the autocast type, and the values from before of what
the unit's modules change in themselves. The same code runs on every device, and under calibration.

There are two ways. The sparing one makes the graph at FORWARD, without the tensors that it saves, and RECOMPUTE stops
at the last of these: it skips what BACKWARD does not need, and takes hooks around every saved tensor. The lean one runs
FORWARD without a graph, and RECOMPUTE makes it: the host has less to do, the device more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import nn
from torch.autograd.graph import GradientEdge

from loadahead.executor.model.context import UnitContext
from loadahead.executor.model.errors import PASSED_ON, model_error
from loadahead.executor.model.foreseen import Foreseen, Look, Unforeseen
from loadahead.executor.model.graph import UnitGraph, backward_from, graph_input, output_edge
from loadahead.executor.model.saved import SavedTensors, UsedInForward
from loadahead.executor.model.state import Before, ModuleState
from loadahead.executor.tensors.digests import digest
from loadahead.executor.tensors.layout import Layout, storage_id
from loadahead.executor.tensors.randomness import Draws
from loadahead.executor.tensors.sparse import keep_apart, sparse_weights
from loadahead.executor.tensors.values import Form, Parts, Value, owned, plain_tensor, storages, views_of
from loadahead.sim.errors import InputError

LossOf = Callable[[Any], torch.Tensor]
NO_HANDED: Mapping[int, torch.Tensor] = {}
_NOTHING: Final = nullcontext()


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
        lean: whether it is checkpointed the lean way; see the module's text.
        leanable: whether a traced microbatch came out alike without a graph; None where that was not tried.
        unhookable: whether its layers do what torch cannot do under saved-tensor hooks, which the sparing way needs.
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
        self.watched = self.forgiving = self.in_turns = self.unhookable = self.lean = False
        self.leanable: bool | None = None
        self.seen = Seen()
        self.state_bytes = 0
        self.device = device
        self._autocast, self._shared = dtype, shared
        self.resident = frozenset(storage_id(tensor) for tensor in self._weights())
        self._sparse = tuple(sparse_weights(self.layers).values())
        self._trained = tuple({id(p): p for p in self.parameters() if p.requires_grad}.values())
        self._contexts: dict[int, UnitContext] = {}
        self._graph: dict[int, UnitGraph] = {}

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
        out: Any = value
        try:
            for layer in self.layers:
                out = layer(out)
        except PASSED_ON:
            raise
        except (Exception, SystemExit) as error:
            raise model_error(error, f"in unit {self.name}") from error
        return out if loss is None else loss(out)

    def context(self, seed: int, shared: bool | None = None) -> UnitContext:
        """Return the states under which the unit runs with a seed."""
        together = self._shared if shared is None else shared
        # Torch empties autocast's cache of cast weights, which is the process's, when any thread leaves autocast.
        # What a watched unit draws of the process's generators shows only while no other thread draws of them.
        turns = together and (self.autocasts or self.in_turns or self.watched)
        draws = self.draws | Draws(torch=together and self.watched)
        return UnitContext(seed, self._autocast, self.device, together, draws, turns)

    # ---- the operations ----

    def forward(
        self,
        microbatch: int,
        value: Value,
        seed: int,
        loss: LossOf | None,
        handed: Mapping[int, torch.Tensor] = NO_HANDED,
    ) -> Made:
        """Run FORWARD, which keeps no tensor; return what it makes, or the loss, in memory of its own."""
        if self.unhookable and not self.lean:
            raise InputError(
                f"the model's unit {self.name} uses transforms of torch.func, which cannot run under the hooks that "
                "checkpointing needs; use checkpoint.enabled = false"
            )
        self._contexts[microbatch] = context = self.context(seed)
        before = self._before()
        versions = [tensor._version for tensor in (*value.tensors, *handed.values())]
        marks = None if self.watched else self.state.cheap_marks()
        read = tuple(map(digest, value.tensors)) if self.watched else ()
        run = self._without_graph if self.lean else self._without_saved
        with context.active() as drawing:
            look = self._look(context, checkpointed=True)
            made, graph = run(value, handed, loss)
            look.require_foreseen(self.name, self.state, self.draws, drawing)
        self._require_known_changes(marks)
        self._require_unchanged(value, handed, versions)
        graph.before, graph.read = before, read
        self._graph[microbatch] = graph
        return self._owned(made, graph.boundary_storages)

    def _without_saved(
        self, value: Value, handed: Mapping[int, torch.Tensor], loss: LossOf | None
    ) -> tuple[Parts, UnitGraph]:
        """Run the layers the sparing way: with a graph that keeps nothing of what it saves."""
        digested = self.watched and not self.fills_late
        saved = SavedTensors(self.name, digested, self.computes_gradients, self.fills_late)
        with saved.discarding():
            made, graph = self._attach(value, handed, loss)
        if self.computes_gradients:
            saved.end_forward()
        graph.saved = saved
        return made, graph

    def _without_graph(
        self, value: Value, handed: Mapping[int, torch.Tensor], loss: LossOf | None
    ) -> tuple[Parts, UnitGraph]:
        """Run the layers the lean way: RECOMPUTE makes the graph."""
        with torch.no_grad():
            made = self._run(value, handed, loss, [[] for _ in value.tensors])
        graph = UnitGraph({}, {}, (), [], storages(value.tensors))
        graph.made = tuple(map(digest, made.own)) if self.watched else ()
        return made, graph

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
        with context.active() as drawing:
            look = self._look(context, checkpointed=False)
            made, graph = self._attach(value, handed, loss)
            look.require_foreseen(self.name, self.state, self.draws, drawing)
        self._graph[microbatch] = graph
        return self._owned(made, graph.boundary_storages | storages(made.own))

    def forward_alone(
        self, value: Value, seed: int, handed: Mapping[int, torch.Tensor] = NO_HANDED, microbatch: int = 0
    ) -> Made:
        """Run FORWARD of a frozen unit, which has no other operation."""
        saved = SavedTensors(self.name, kept=self.computes_gradients)
        context = self.context(seed)
        with context.active() as drawing:
            look = self._look(context, checkpointed=False)
            with torch.enable_grad(), saved.discarding():
                made = self._run(value, handed, None, [[] for _ in value.tensors])
            look.require_foreseen(self.name, self.state, self.draws, drawing)
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
        again = self.watched and tuple(map(digest, value.tensors)) != graph.read
        putting = _NOTHING if graph.before is None else self.state.at(graph.before)
        with self._contexts[microbatch].active(), putting:
            if graph.saved is None:
                difference = self._make_graph(microbatch, value, loss, handed, graph.made)
            else:
                graph.boundary_storages = storages(value.tensors)
                graph.saved.restore(lambda: self._run(value, handed, loss, [[] for _ in value.tensors]))
                difference = graph.saved.difference
        if again:
            self.seen.reread[microbatch] = "its boundary held other numbers than FORWARD had read"
        elif difference is not None:
            self.seen.different[microbatch] = difference

    def _make_graph(
        self,
        microbatch: int,
        value: Value,
        loss: LossOf | None,
        handed: Mapping[int, torch.Tensor],
        before: tuple[int | None, ...],
    ) -> str | None:
        """Make the graph of a unit that has none from its FORWARD; return in words what comes out otherwise than then.

        ``before`` holds the digests of what FORWARD made; nothing is compared without them.
        """
        made, self._graph[microbatch] = self._attach(value, handed, loss)
        now = tuple(map(digest, made.own)) if before else ()
        return None if now == before else "what it makes is not what FORWARD made"

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
            try:
                with context.drawing() if apart else _NOTHING:
                    backward_from(ends, incoming)
            except PASSED_ON:
                raise
            except (Exception, SystemExit) as error:
                raise model_error(error, f"in the backward pass of unit {self.name}") from error
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

    def _attach(self, value: Value, handed: Mapping[int, torch.Tensor], loss: LossOf | None) -> tuple[Parts, UnitGraph]:
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
                ends[at], outputs[at] = output_edge(tensor), Layout.of(tensor)
            at += needed
        needing = [i for i, needed in enumerate(self.form.needs) if needed]
        return made, UnitGraph(
            ends=ends,
            outputs=outputs,
            boundary=tuple([Layout.of(value.tensors[i]) for i in needing]),
            sinks=[sinks[i] for i in needing],
            boundary_storages=storages(value.tensors),
        )

    def _owned(self, made: Parts, foreign: frozenset[int]) -> Made:
        tensors = owned([tensor.detach() for tensor in made.own], self.resident | foreign)
        value = Value(tensors, made.constants, views=views_of(made.own))
        return Made(value, {number: t.detach() for number, t in made.handed.items()})

    def _look(self, context: UnitContext, checkpointed: bool) -> Look:
        return Look(self.state, self.device, context, self.watched, checkpointed)

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


__all__ = ["CheckpointedUnit", "Foreseen", "LossOf", "Made", "Unforeseen", "UsedInForward"]
