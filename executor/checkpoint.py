"""One checkpointed unit: FORWARD without grad, RECOMPUTE from the boundary with grad, BACKWARD.

What RECOMPUTE must find again - the random and the autocast state - is saved at FORWARD. The same code runs on every
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

from executor.layout import own_storage, storage_id
from executor.randomness import RandomState, drawing_from, seeded_state
from sim.errors import InputError, LoadaheadError

LossOf = Callable[[torch.Tensor], torch.Tensor]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[None]:
    """An autocast context; ``None`` switches autocast off."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


@dataclass(frozen=True, slots=True)
class Ambient:
    """The random and the autocast state under which a unit runs."""

    random: RandomState
    autocast: torch.dtype | None
    device: torch.device
    shared: bool

    @contextmanager
    def entered(self) -> Iterator[None]:
        with drawing_from(self.random, self.device, self.shared), autocast(self.device, self.autocast):
            yield


class _Entrance(torch.autograd.Function):
    """The identity at a unit's boundary. Its backward hands out the gradient as it is.

    Autograd's own accumulation into a leaf would copy it, which plain training does not do between two layers.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, sink: list[torch.Tensor]) -> torch.Tensor:
        ctx.sink = sink
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[None, None]:
        ctx.sink.append(gradients[0])
        return None, None


@dataclass(frozen=True, slots=True)
class _Graph:
    """What stays between RECOMPUTE (or FORWARD without checkpointing) and BACKWARD.

    ``end`` is the loss, or else the place where the output's gradient enters: the output itself is the plan's to free.
    None where nothing needs a gradient.
    """

    end: torch.Tensor | GradientEdge | None
    boundary: torch.Tensor
    sink: list[torch.Tensor]


class CheckpointedUnit:
    """A unit's layers and, per microbatch, what is kept between its operations.

    :meth:`reset` forgets all that is kept, so that a step after a failed one starts clean. ``shared`` says that other
    threads of the process draw random numbers at the same time.
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
        self._ambient: dict[int, Ambient] = {}
        self._graph: dict[int, _Graph] = {}

    def reset(self) -> None:
        self._ambient.clear()
        self._graph.clear()

    def parameters(self) -> Iterator[nn.Parameter]:
        for layer in self.layers:
            yield from layer.parameters()

    def _weights(self) -> Iterator[torch.Tensor]:
        for layer in self.layers:
            yield from layer.parameters()
            yield from layer.buffers()

    def run(self, x: torch.Tensor, loss: LossOf | None = None) -> torch.Tensor:
        """The layers one after the other, then the loss where the model ends. InputError where a layer fails."""
        try:
            out: Any = x
            for layer in self.layers:
                out = layer(out)
            if loss is not None and isinstance(out, torch.Tensor):
                out = loss(out)
        except LoadaheadError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise InputError(f"the model fails in unit {self.name}: {type(error).__name__}: {text}") from error
        if not isinstance(out, torch.Tensor):
            kind = type(out).__name__
            raise InputError(f"the model's unit {self.name} returns {kind}; only one tensor passes between layers")
        return out

    def forward(self, microbatch: int, x: torch.Tensor, seed: int, loss: LossOf | None) -> torch.Tensor:
        """FORWARD of a checkpointed unit: the output, or the loss, in memory of its own; no graph."""
        self._ambient[microbatch] = ambient = self._begin(seed)
        with torch.no_grad(), ambient.entered():
            before = x._version
            out = self.run(x, loss)
            if x._version != before:
                raise InputError(
                    f"the model's unit {self.name} changes its input in place; RECOMPUTE needs it unchanged: "
                    "use inplace=False in its first layer"
                )
            return own_storage(out, self._resident | {storage_id(x)})

    def forward_with_graph(self, microbatch: int, x: torch.Tensor, seed: int, loss: LossOf | None) -> torch.Tensor:
        """FORWARD without checkpointing: the graph stays until BACKWARD.

        The output is always a copy: a layer such as ReLU keeps what it returns for its BACKWARD, longer than the plan
        keeps the boundary that it becomes.
        """
        with self._begin(seed).entered():
            out = self._attach(microbatch, x, loss)
        return own_storage(out.detach(), self._resident | {storage_id(x), storage_id(out)})

    def recompute(self, microbatch: int, x: torch.Tensor, loss: LossOf | None) -> None:
        """RECOMPUTE: the same run with grad, under the state saved at FORWARD."""
        with self._ambient.pop(microbatch).entered():
            self._attach(microbatch, x, loss)

    def backward(self, microbatch: int, gradient: torch.Tensor | None) -> torch.Tensor | None:
        """BACKWARD: parameters' gradients accumulate in place.

        ``gradient`` is that of the unit's output, None where the unit ends in the loss. Returns the gradient of the
        boundary in memory of its own, or None where the boundary holds integers.
        """
        graph = self._graph.pop(microbatch)
        if graph.end is not None:
            torch.autograd.backward(graph.end, gradient)
        if not graph.boundary.is_floating_point():
            return None
        if not graph.sink:
            return torch.zeros_like(graph.boundary)
        foreign = self._resident | {storage_id(graph.boundary)}
        return own_storage(graph.sink[0], foreign if gradient is None else foreign | {storage_id(gradient)})

    def _begin(self, seed: int) -> Ambient:
        return Ambient(seeded_state(seed, self._device), self._autocast, self._device, self._shared)

    def _attach(self, microbatch: int, x: torch.Tensor, loss: LossOf | None) -> torch.Tensor:
        sink: list[torch.Tensor] = []
        boundary = x.detach()
        with torch.enable_grad():
            entrance = boundary
            if boundary.is_floating_point():
                entrance = _Entrance.apply(boundary.requires_grad_(True), sink)  # type: ignore[no-untyped-call]
            out = self.run(entrance, loss)
        end: torch.Tensor | GradientEdge | None = None
        if out.requires_grad:
            end = get_gradient_edge(out) if loss is None else out
        self._graph[microbatch] = _Graph(end, boundary, sink)
        return out
