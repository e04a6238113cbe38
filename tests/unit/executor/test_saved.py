"""RECOMPUTE puts back what FORWARD let go, stops at the last of it, and notices where a unit does something else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from loadahead.executor.checkpoint import CheckpointedUnit
from loadahead.executor.meter import StorageMeter
from loadahead.executor.spec import CPU
from loadahead.sim.errors import InputError


class Calls(TorchDispatchMode):
    """Counts matmuls."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.matmuls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.matmuls += func in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default)
        return func(*args, **(kwargs or {}))


def matmuls(work: Any) -> int:
    with Calls() as calls:
        work()
    return calls.matmuls


def unit_of(*layers: nn.Module) -> CheckpointedUnit:
    return CheckpointedUnit(layers, "0.1", CPU, None)


def test_the_last_matmul_is_not_computed_again() -> None:
    """What it returns is not needed: its BACKWARD wants its input and its weight."""
    unit, x = unit_of(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 4)), torch.randn(2, 4)
    assert matmuls(lambda: unit.forward(0, x, 1, None)) == 2
    assert matmuls(lambda: unit.recompute(0, x, None)) == 1
    assert matmuls(lambda: unit.backward(0, torch.ones(2, 4))) == 4


def test_a_dropout_at_the_end_is_drawn_again() -> None:
    """Its mask is needed, so all before it is computed too."""
    unit, x = unit_of(nn.Linear(4, 4), nn.Dropout(0.5)), torch.randn(2, 4)
    unit.forward(0, x, 1, None)
    assert matmuls(lambda: unit.recompute(0, x, None)) == 1


def test_between_forward_and_recompute_no_activation_lives() -> None:
    layers = (nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 4), nn.Sigmoid())
    unit, x = unit_of(*layers), torch.randn(8, 4)
    meter = StorageMeter([x, *unit.parameters()])
    with meter:
        out = unit.forward(0, x, 1, None)
    assert meter.live - meter.resident == out.untyped_storage().nbytes()
    assert meter.peak - meter.resident > out.untyped_storage().nbytes()
    with meter:
        unit.recompute(0, x, None)
    # Inputs of the second Linear and of none else: ReLU shares its result with it; Sigmoid keeps its own.
    assert meter.live - meter.resident == 8 * 64 * 4 + 2 * 8 * 4 * 4
    with meter:
        unit.backward(0, torch.ones(8, 4))
    gradients = sum(p.grad.untyped_storage().nbytes() for p in unit.parameters() if p.grad is not None)
    assert meter.live - meter.resident == out.untyped_storage().nbytes() + gradients


def test_the_boundary_may_be_freed_and_come_back_elsewhere() -> None:
    unit, x = unit_of(nn.Linear(4, 4), nn.GELU()), torch.randn(2, 4)
    plain = x.clone()
    meter = StorageMeter(unit.parameters())
    with meter:
        y = x.clone()
        unit.forward(0, y, 1, None)
        del y
    assert meter.live == meter.resident
    unit.recompute(0, plain, None)
    found = unit.backward(0, torch.ones(2, 4))
    leaf = x.clone().requires_grad_(True)
    nn.Sequential(*unit.layers)(leaf).backward(torch.ones(2, 4))
    assert torch.equal(found, leaf.grad)  # type: ignore[arg-type]


class Counting(nn.Module):
    """Does something else at each call."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.sizes = list(sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.sizes.pop(0)):
            x = x.sin()
        return x


class Growing(nn.Module):
    """Saves another shape at the second call."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.cat([x] * self.calls).sin()[: len(x)]


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Counting(3, 2), "saves 2 tensors where FORWARD saved 3"),
        (Growing(), r"saves float32\[4, 4\] where FORWARD saved float32\[2, 4\]"),
    ],
)
def test_a_unit_that_does_not_do_the_same_twice(layer: nn.Module, words: str) -> None:
    unit, x = unit_of(layer), torch.randn(2, 4)
    unit.forward(0, x, 1, None)
    with pytest.raises(InputError, match=rf"RECOMPUTE of the model's unit 0\.1 {words}; .* has to do the same twice"):
        unit.recompute(0, x, None)


class Spoiling(nn.Module):
    """Changes what its BACKWARD needs; plain autograd refuses that too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        y.mul_(2.0)
        return y.sin()


def test_a_saved_tensor_that_is_changed_in_place_is_noticed() -> None:
    unit, x = unit_of(Spoiling()), torch.randn(2, 4)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        nn.Sequential(*unit.layers)(x.clone().requires_grad_(True)).sum().backward()
    unit.forward(0, x, 1, None)
    unit.recompute(0, x, None)
    with pytest.raises(InputError, match=r"unit 0\.1 changes a float32\[2, 4\] in place that its BACKWARD needs"):
        unit.backward(0, torch.ones(2, 4))


def test_a_unit_that_saves_nothing_is_not_run_again() -> None:
    unit, x = unit_of(nn.Flatten(1)), torch.randn(2, 2, 2)
    unit.forward(0, x, 1, None)
    unit.recompute(0, x, None)
    found = unit.backward(0, torch.ones(2, 4))
    assert torch.equal(found, torch.ones(2, 2, 2))  # type: ignore[arg-type]


class Catching(nn.Module):
    """A layer that lets no Exception through."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            return self.inner(x.sin())
        except Exception:
            return x


def test_a_layer_that_catches_everything_does_not_catch_the_end() -> None:
    unit, x = unit_of(Catching()), torch.randn(2, 4)
    unit.forward(0, x, 1, None)
    unit.recompute(0, x, None)
    assert unit.backward(0, torch.ones(2, 4)) is not None
