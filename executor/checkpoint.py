"""Runs one checkpointed unit: FORWARD, which keeps no activation, RECOMPUTE from the boundary, and BACKWARD.

What RECOMPUTE must find again, the random and the autocast state, is saved at FORWARD. The same code runs on every
device, and under calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from loadahead.executor.layout import Layout, own_storage, storage_id
from loadahead.executor.randomness import RandomState, drawing_from, seeded_state
from loadahead.executor.saved import SavedTensors
from loadahead.sim.errors import InputError, LoadaheadError, one_line

LossOf = Callable[[torch.Tensor], torch.Tensor]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[None]:
    """Return an autocast context; ``None`` switches autocast off."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


@contextmanager
def model_errors_in_one_line(where: str) -> Iterator[None]:
    """Raise what the user's layers raise inside as an InputError in one line that says ``where``.

    Running out of device memory stays the error it is.
    """
    try:
        yield
    except (LoadaheadError, torch.OutOfMemoryError):
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

    @contextmanager
    def active(self) -> Iterator[None]:
        """Run the body under these states."""
        with drawing_from(self.random, self.device, self.shared), autocast(self.device, self.autocast):
            yield


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


def _graph_input(x: torch.Tensor, sink: list[torch.Tensor]) -> torch.Tensor:
    """Return the boundary as a unit's graph begins with it; integers have no gradient and stay as they are."""
    if not x.is_floating_point():
        return x.detach()
    leaf = torch.empty(0, device=x.device, requires_grad=True)
    return _GraphInput.apply(leaf, [x], sink)  # type: ignore[no-untyped-call,no-any-return]


def _output_edge(out: torch.Tensor) -> GradientEdge:
    """Return the place in the graph where the output's gradient enters, without the output.

    Before torch 2.7 such a place does not keep a node alive that is written in Python; a view's node does.
    """
    written_in_python = isinstance(out.grad_fn, torch.autograd.function.BackwardCFunction)
    return get_gradient_edge(out.view_as(out) if written_in_python else out)


def _backward_from(end: GradientEdge, gradient: torch.Tensor) -> None:
    """Do as ``torch.autograd.backward``, from a place in the graph, for which torch before 2.7 takes tensors alone.

    So it goes to the engine by the call that torch's own functions make, alike in torch 2.6 to 2.13.
    """
    run: Any = torch.autograd.graph._engine_run_backward
    run((end,), (gradient,), False, False, (), allow_unreachable=True, accumulate_grad=True)


@dataclass(slots=True)
class _Graph:
    """Holds what stays between FORWARD and BACKWARD.

    Attributes:
        end: where the output's gradient enters: the output itself is the plan's to free. None where nothing needs a
            gradient.
        output, boundary: layouts of what the unit makes and reads.
        sink: gets the boundary's gradient.
        saved: what RECOMPUTE has to restore; None without checkpointing.
        boundary_storage: the id of the boundary's memory, in which BACKWARD's tensors may lie.
    """

    end: GradientEdge | None
    output: Layout
    boundary: Layout
    sink: list[torch.Tensor]
    saved: SavedTensors | None
    boundary_storage: int


class CheckpointedUnit:
    """Holds a unit's layers and, per microbatch, what is kept between its operations.

    ``shared`` says that other threads of the process draw random numbers at the same time.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        name: str,
        device: torch.device,
        dtype: torch.dtype | None,
        shared: bool = False,
    ) -> None:
        self.layers = tuple(layers)
        self.name = name
        self._device, self._autocast, self._shared = device, dtype, shared
        self._resident = frozenset(storage_id(tensor) for tensor in self._weights())
        self._contexts: dict[int, UnitContext] = {}
        self._graph: dict[int, _Graph] = {}

    def reset(self) -> None:
        """Forget all that is kept, so that a step after a failed one starts clean."""
        self._contexts.clear()
        self._graph.clear()

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the layers' parameters."""
        for layer in self.layers:
            yield from layer.parameters()

    def _weights(self) -> Iterator[torch.Tensor]:
        for layer in self.layers:
            yield from layer.parameters()
            yield from layer.buffers()

    def run(self, x: torch.Tensor, loss: LossOf | None = None) -> torch.Tensor:
        """Return what the layers make of ``x``, or the loss where the model ends; InputError where a layer fails."""
        with model_errors_in_one_line(f"in unit {self.name}"):
            out: Any = x
            for layer in self.layers:
                out = layer(out)
            if loss is not None and isinstance(out, torch.Tensor):
                out = loss(out)
        if not isinstance(out, torch.Tensor):
            kind = type(out).__name__
            raise InputError(f"the model's unit {self.name} returns {kind}; only one tensor passes between layers")
        return out

    def forward(self, microbatch: int, x: torch.Tensor, seed: int, loss: LossOf | None) -> torch.Tensor:
        """Run FORWARD, whose graph keeps no tensor; return the output, or the loss, in memory of its own."""
        self._contexts[microbatch] = context = self._begin(seed)
        saved, before = SavedTensors(self.name), x._version
        with context.active(), saved.discarding():
            out = self._attach(microbatch, x, loss, saved)
        if x._version != before:
            raise InputError(
                f"the model's unit {self.name} changes its input in place; RECOMPUTE needs it unchanged: "
                "use inplace=False in its first layer, or let that follow another layer in its unit, e.g. with "
                'checkpoint.strategy = "group_2"'
            )
        return own_storage(out.detach(), self._resident | {storage_id(x)})

    def forward_with_graph(self, microbatch: int, x: torch.Tensor, seed: int, loss: LossOf | None) -> torch.Tensor:
        """Run FORWARD without checkpointing: the graph stays until BACKWARD. Return the output, or the loss.

        The output is always a copy: a layer such as ReLU keeps what it returns for its BACKWARD, longer than the plan
        keeps the boundary that it becomes.
        """
        with self._begin(seed).active():
            out = self._attach(microbatch, x, loss, None)
        return own_storage(out.detach(), self._resident | {storage_id(x), storage_id(out)})

    def recompute(self, microbatch: int, x: torch.Tensor, loss: LossOf | None) -> None:
        """Run RECOMPUTE: repeat FORWARD under the state saved there, as far as BACKWARD needs it."""
        graph = self._graph[microbatch]
        saved, graph.boundary_storage = graph.saved, storage_id(x)
        assert saved is not None, "only a checkpointed unit is recomputed"
        with self._contexts.pop(microbatch).active():
            saved.restore(lambda: self.run(_graph_input(x, []), loss))

    def backward(self, microbatch: int, gradient: torch.Tensor | None) -> torch.Tensor | None:
        """Run BACKWARD, which accumulates the parameters' gradients in place.

        ``gradient`` is that of the unit's output, None where the unit ends in the loss. Returns the gradient of the
        boundary in memory of its own, or None where the boundary holds integers.
        """
        graph = self._graph.pop(microbatch)
        if graph.end is not None:
            with model_errors_in_one_line(f"in the backward pass of unit {self.name}"):
                _backward_from(graph.end, graph.output.ones(self._device) if gradient is None else gradient)
        if not graph.boundary.dtype.is_floating_point:
            return None
        if not graph.sink:
            return graph.boundary.empty(self._device).zero_()
        boundary_gradient = graph.sink.pop()
        foreign = self._resident | {graph.boundary_storage}
        return own_storage(boundary_gradient, foreign if gradient is None else foreign | {storage_id(gradient)})

    def _begin(self, seed: int) -> UnitContext:
        return UnitContext(seeded_state(seed, self._device), self._autocast, self._device, self._shared)

    def _attach(
        self, microbatch: int, x: torch.Tensor, loss: LossOf | None, saved: SavedTensors | None
    ) -> torch.Tensor:
        sink: list[torch.Tensor] = []
        with torch.enable_grad():
            out = self.run(_graph_input(x, sink), loss)
        end = _output_edge(out) if out.requires_grad else None
        self._graph[microbatch] = _Graph(end, Layout.of(out), Layout.of(x), sink, saved, storage_id(x))
        return out
