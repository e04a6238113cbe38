"""Small models to run plans on, their workloads, and costs that only say how fast the links are."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import numpy as np
import torch
from torch import nn

from loadahead.executor.links import Hardware
from loadahead.executor.model.spec import ModelObjects, ModelSpec
from loadahead.executor.shipped_models.byte_gpt import Block
from loadahead.executor.trace import trace_module
from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.workload import IN_MEMORY, PassThrough, UnitShape, Workload

GB = 1_000_000_000
TINY = {"blocks": 2, "width": 16, "heads": 2, "context": 8, "batch": 2, "dropout": 0.2}
# For a GPU: boundaries of 16 MiB, copies and compute both long enough to be measured.
BIG = TINY | {"width": 2048, "heads": 16, "context": 1024, "batch": 4, "blocks": 3, "dropout": 0.0}
HARDWARE = Hardware(d2h_bandwidth=10 * GB, h2d_bandwidth=10 * GB, memory_bytes=GB)


def tiny_spec(**changes: Any) -> ModelSpec:
    """A byte-level GPT of four layers, dropout on: a step takes some milliseconds."""
    fields: dict[str, Any] = {"python": "byte-gpt", "options": TINY, "loss": "cross_entropy"}
    return ModelSpec(**fields | {"learning_rate": 1e-2} | changes)


def own_spec(function: str, **changes: Any) -> ModelSpec:
    """A model of this module on random floats of shape (2, 8)."""
    fields = {"python": f"tests.support.models:{function}", "input_shape": (2, 8), "loss": "mean"}
    return ModelSpec(**fields | changes)


def given_spec(
    *layers: nn.Module, data: Any = None, loss: Any = None, optimizer: Any = None, **changes: Any
) -> ModelSpec:
    """A model given in memory; where no data are, on random floats of shape (2, 8)."""
    objects = ModelObjects(layers=layers, data=data, loss=loss, optimizer=optimizer)
    fields: dict[str, Any] = {"python": IN_MEMORY, "input_shape": (2, 8), "objects": objects}
    return ModelSpec(**fields | changes)


def workload_of(spec: ModelSpec, ranks: int = 1, device: str = "cpu") -> Workload:
    """One unit per layer, from shapes found on the device, dealt out evenly over the ranks, one stage each."""
    shapes = trace_module(spec, device=device)
    units = [
        UnitShape(
            boundary_bytes=layer.input_bytes,
            gradient_bytes=layer.gradient_bytes,
            saved_bytes=layer.saved_bytes,
            state_bytes=layer.state_bytes,
            layers=(index, index + 1),
        )
        for index, layer in enumerate(shapes.layers)
    ]
    cuts = [len(units) * rank // ranks for rank in range(ranks + 1)]
    return Workload(
        stages=tuple(tuple(units[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)),
        frozen_units=shapes.frozen_layers,
        passed=tuple(
            PassThrough(nbytes=tensor.nbytes, readers=tuple(range(max(0, tensor.origin), tensor.last + 1)))
            for tensor in shapes.handed_on
        ),
    )


def link_costs(workload: Workload, **changes: Any) -> Costs:
    """Links of :data:`HARDWARE`; no operation costs anything."""
    unit = UnitCost(forward_ns=0, recompute_ns=0, backward_ns=0)
    units = tuple((unit,) * len(stage) for stage in workload.stages)
    return Costs(units=units, static_bytes=(0,) * len(units), **HARDWARE.to_dict() | changes)


# ---- models, each with something of its own ----


class _FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise KeyError("boom")


class Scale(nn.Module):
    """Multiplies by a weight; optionally fails, changes its input, or hands on something odd."""

    def __init__(self, act: str = "") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.act = act
        self.calls = 0

    def forward(self, x: torch.Tensor) -> Any:
        self.calls += 1
        if self.act == "in place":
            x.mul_(2.0)
        if self.act == "fails later" and self.calls > 5:
            raise ValueError("no more")
        if self.act == "interrupts" and self.calls == 6:  # as Ctrl-C does, whose signal the main thread gets
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if self.act == "fails backward":
            return _FailsBackward.apply(x * self.weight)  # type: ignore[no-untyped-call]
        if self.act == "sine":  # RECOMPUTE has to read its boundary
            return x.sin() * self.weight
        if self.act == "exits":
            sys.exit(5)
        if self.act == "two":
            return x, x
        if self.act == "grows" and self.calls > 5:
            return torch.cat([x, x]) * self.weight
        if self.act == "view":
            return (torch.cat([x, x]) * self.weight)[: len(x)]
        if self.act == "same":
            return x
        if self.act == "turned":
            return (x * self.weight).repeat(1, 2).view(len(x), 8, 2).transpose(0, 1)
        if self.act == "expanded":
            return (x * self.weight).sum(1, keepdim=True).expand(-1, 8)
        if self.act == "huge":
            return x * self.weight * float("inf")
        return x * self.weight


def scales(acts: tuple[str, ...] = ("", "", "")) -> nn.Sequential:
    """One :class:`Scale` each."""
    return nn.Sequential(*(Scale(act) for act in acts))


def odd_sizes() -> nn.Sequential:
    """With :func:`odd_batch` nothing is a multiple of 512 bytes, and what is inside is just above a MiB.

    torch's allocator hands such large tensors out in blocks that are larger than they are.
    """
    layers: list[nn.Module] = [nn.Embedding(257, 36), Block(36, 4, 0.1)]
    for wide in (20_011, 12_501):
        layers += [nn.Linear(36, wide), nn.GELU(), nn.Linear(wide, 36)]
    return nn.Sequential(*layers, nn.Linear(36, 257))


def odd_batch(step: int, microbatch: int, microbatches: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids below 257 and the ones to be found, both of shape (3, 7)."""
    generator = torch.Generator().manual_seed(step * microbatches + microbatch)
    ids, targets = torch.randint(257, (2, 3, 7), generator=generator)
    return ids.clone(), targets.clone()


def shared() -> nn.Sequential:
    """Two layers with one weight."""
    first, second = Scale(), Scale()
    second.weight = first.weight
    return nn.Sequential(first, second)


def mixed() -> nn.Sequential:
    """Layers whose outputs are views, aliases, or lie oddly in memory, and one without a gradient."""
    frozen = nn.Linear(8, 8)
    frozen.requires_grad_(False)
    return nn.Sequential(
        nn.Linear(8, 8),
        nn.Identity(),
        Scale("view"),
        nn.Dropout(0.5),
        Scale("expanded"),
        frozen,
        nn.GELU(),
        Scale("turned"),
        nn.Flatten(1),
        nn.Linear(4, 3),
    )


def keepers() -> nn.Sequential:
    """Layers that keep what they return for their BACKWARD."""
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Sigmoid(), nn.Linear(32, 3))


def in_place() -> nn.Sequential:
    """Layers that change their input, each after one that does not need what it returned."""
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(True), nn.Linear(32, 8), nn.ReLU(True), nn.Linear(8, 3))


def sines() -> nn.Sequential:
    """Layers whose RECOMPUTE reads the boundary, and makes of it what their BACKWARD needs."""
    return scales(("sine", "sine", "sine", "sine"))


def not_a_sequential() -> nn.Module:
    return nn.Linear(2, 2)


def lazy() -> nn.Sequential:
    """Layers that learn their shapes by running, among others."""
    return nn.Sequential(nn.BatchNorm1d(8), nn.LazyLinear(4), nn.LazyBatchNorm1d())


class Backwards(nn.Sequential):
    """Runs its layers in its own way."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in reversed(self):
            x = layer(x)
        return x


def own_forward() -> nn.Sequential:
    return Backwards(nn.Linear(8, 8), nn.Linear(8, 8))


def own_weight() -> nn.Sequential:
    """A container with a weight that no layer has."""
    model = nn.Sequential(nn.Linear(8, 8))
    model.register_parameter("scale", nn.Parameter(torch.ones(())))
    return model


def three_numbers(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Not a loss."""
    return output.flatten()[:3]


def bad_pair(step: int, microbatch: int, microbatches: int) -> Any:
    return torch.zeros(2, 8)


class Masked(nn.Module):
    """Reads (x, mask) and makes (y, mask), the mask as it was; with ``norm``, y is normalized over the batch."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, 8))
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()

    def forward(self, given: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        x, mask = given
        return self.norm((x * self.weight * mask).sin()), mask


class Unmasked(nn.Module):
    """Ends a model of :class:`Masked` layers: reads (x, mask) and makes one tensor."""

    def forward(self, given: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return given[0].cos() * given[1]


def masked_data(step: int, microbatch: int, microbatches: int) -> Any:
    """(x, mask) of shapes (2, 8) and (8,), and a target that no one reads."""
    generator = torch.Generator().manual_seed(1000 * step + microbatch)
    mask = torch.rand(8, generator=generator) > 0.3
    return (torch.randn(2, 8, generator=generator), mask.float()), torch.zeros(())


def array_data(step: int, microbatch: int, microbatches: int) -> Any:
    """Input that is no tensor, where the data should hold tensors."""
    return np.zeros((2, 8)), torch.zeros(())


def no_tensor(step: int, microbatch: int, microbatches: int) -> Any:
    return "text", torch.zeros(())


def linear_gelu() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 4), nn.GELU())
