"""RECOMPUTE puts back what FORWARD let go, stops at the last of it, and notices where a unit does something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from loadahead.executor.model.saved import SavedTensors, UsedInForward
from loadahead.executor.tensors.meter import StorageMeter
from loadahead.sim.errors import InputError
from tests.support.units import one, only, unit_of


class Calls(TorchDispatchMode):
    """Counts matmuls."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.matmuls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.matmuls += func.overloadpacket.__name__ in ("addmm", "mm")
        return func(*args, **(kwargs or {}))


def matmuls(work: Any) -> int:
    calls = Calls()
    with calls:
        work()
    return calls.matmuls


def test_the_last_matmul_is_not_computed_again() -> None:
    """What it returns is not needed: its BACKWARD wants its input and its weight."""
    x = torch.randn(2, 4)
    unit, value = unit_of(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 4), reads=x), one(x)
    assert matmuls(lambda: unit.forward(0, value, 1, None)) == 2
    assert matmuls(lambda: unit.recompute(0, value, None)) == 1
    assert matmuls(lambda: unit.backward(0, one(torch.ones(2, 4)))) == 4


def test_a_dropout_at_the_end_is_drawn_again() -> None:
    """Its mask is needed, so all before it is computed too."""
    x = torch.randn(2, 4)
    unit, value = unit_of(nn.Linear(4, 4), nn.Dropout(0.5), reads=x), one(x)
    unit.forward(0, value, 1, None)
    assert matmuls(lambda: unit.recompute(0, value, None)) == 1


@pytest.mark.parametrize("watched", [False, True])
def test_between_forward_and_recompute_no_activation_lives(watched: bool) -> None:
    """Nor does looking for differences between the two take memory that a meter sees."""
    layers = (nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 4), nn.Sigmoid())
    x, gradient = torch.randn(8, 4), one(torch.ones(8, 4))
    unit, value = unit_of(*layers, reads=x), one(x)
    unit.watched = watched
    meter = StorageMeter([x, *gradient.tensors, *unit.parameters()])
    with meter:
        out = only(unit.forward(0, value, 1, None))
    assert meter.live - meter.resident == out.untyped_storage().nbytes()
    assert meter.peak - meter.resident > out.untyped_storage().nbytes()
    with meter:
        unit.recompute(0, value, None)
    # Inputs of the second Linear and of none else: ReLU shares its result with it; Sigmoid keeps its own.
    assert meter.live - meter.resident == out.untyped_storage().nbytes() + 8 * 64 * 4 + 8 * 4 * 4
    with meter:
        given = unit.backward(0, gradient)
    gradients = sum(p.grad.untyped_storage().nbytes() for p in unit.parameters() if p.grad is not None)
    assert meter.live - meter.resident == out.untyped_storage().nbytes() + given.nbytes + gradients
    assert unit.seen.different == unit.seen.reread == {}


def test_the_boundary_may_be_freed_and_come_back_elsewhere() -> None:
    x = torch.randn(2, 4)
    unit = unit_of(nn.Linear(4, 4), nn.GELU(), reads=x)
    plain = x.clone()
    meter = StorageMeter(unit.parameters())
    with meter:
        y = x.clone()
        unit.forward(0, one(y), 1, None)
        del y
    assert meter.live == meter.resident
    unit.recompute(0, one(plain), None)
    found = unit.backward(0, one(torch.ones(2, 4)))
    leaf = x.clone().requires_grad_(True)
    nn.Sequential(*unit.layers)(leaf).backward(torch.ones(2, 4))
    assert leaf.grad is not None
    assert torch.equal(only(found), leaf.grad)


class Counting(nn.Module):
    """Does something else at each call, as a generator that it asks says; nobody can know what that will say next."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.sizes = iter(sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(next(self.sizes)):
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
    x = torch.randn(2, 4)
    unit, value = unit_of(layer, reads=x), one(x)
    unit.forward(0, value, 1, None)
    with pytest.raises(InputError, match=rf"RECOMPUTE of the model's unit 0\.1 {words}; .* has to do the same twice"):
        unit.recompute(0, value, None)


class Spoiling(nn.Module):
    """Changes what its BACKWARD needs; plain autograd refuses that too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        y.mul_(2.0)
        return y.sin()


def test_a_saved_tensor_that_is_changed_in_place_is_noticed() -> None:
    x = torch.randn(2, 4)
    unit, value = unit_of(Spoiling(), reads=x), one(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        nn.Sequential(*unit.layers)(x.clone().requires_grad_(True)).sum().backward()
    unit.forward(0, value, 1, None)
    unit.recompute(0, value, None)
    with pytest.raises(InputError, match=r"unit 0\.1 changes a float32\[2, 4\] in place that its BACKWARD needs"):
        unit.backward(0, one(torch.ones(2, 4)))


def test_a_unit_that_saves_nothing_is_not_run_again() -> None:
    x = torch.randn(2, 2, 2)
    calls: list[int] = []
    unit = unit_of(nn.Flatten(1), reads=x, makes=torch.empty(2, 4))
    unit.layers[0].register_forward_hook(lambda *_: calls.append(1))
    unit.forward(0, one(x), 1, None)
    unit.recompute(0, one(x), None)
    assert torch.equal(only(unit.backward(0, one(torch.ones(2, 4)))), torch.ones(2, 2, 2))
    assert calls == [1]


class Catching(nn.Module):
    """A layer that lets no Exception through."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            return self.inner(x.sin())  # type: ignore[no-any-return]
        except Exception:
            return x


def test_a_layer_that_catches_everything_does_not_catch_the_end() -> None:
    x = torch.randn(2, 4)
    unit, value = unit_of(Catching(), reads=x), one(x)
    unit.forward(0, value, 1, None)
    unit.recompute(0, value, None)
    assert unit.backward(0, one(torch.ones(2, 4))).tensors


# ---- what is not returned, and what a FORWARD computes gradients of ----


class Dropping(nn.Module):
    """Computes something that it does not return: its graph is gone before RECOMPUTE."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.sin().exp()
        y = x.cos()
        x.tan()
        return y


def test_what_no_graph_holds_any_more_is_not_restored() -> None:
    """RECOMPUTE ends at the last tensor that a graph still wants, before the tangent."""
    x = torch.randn(2, 4)
    unit, value = unit_of(Dropping(), reads=x), one(x)
    unit.forward(0, value, 1, None)
    seen: list[str] = []

    class Names(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Names():  # type: ignore[no-untyped-call]
        unit.recompute(0, value, None)
    assert "exp" in seen and "tan" not in seen
    assert torch.equal(only(unit.backward(0, one(torch.ones(2, 4)))), -x.sin())


class Penalized(nn.Module):
    """Computes a gradient inside its FORWARD, as a penalty on gradients does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            y = x.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(y.sin().sum(), y)
        return x.sin() * slope


def test_a_gradient_inside_forward_finds_what_was_saved() -> None:
    x = torch.randn(2, 4)
    unit, value = unit_of(Penalized(), reads=x), one(x)
    with pytest.raises(UsedInForward, match=r"unit 0\.1 computes a gradient inside its FORWARD, which it did not when"):
        unit.forward(0, value, 1, None)
    unit.reset()
    unit.computes_gradients = True
    meter = StorageMeter([x])
    with meter:
        out = only(unit.forward(0, value, 1, None))
    assert meter.live - meter.resident == out.untyped_storage().nbytes()
    unit.recompute(0, value, None)
    assert torch.equal(only(unit.backward(0, one(torch.ones(2, 4)))), x.cos() * x.cos())


# ---- numbers that differ ----


class Drifting(nn.Module):
    """Saves other numbers of the same shape at each call, by something that nobody can see."""

    def __init__(self, steps: Callable[[], int]) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        return (y + float(self.steps())).sin()


def test_other_numbers_are_told_by_number_and_shape() -> None:
    x = torch.randn(2, 4)
    for watched, difference in (
        (True, {0: "the tensor that it saves as number 2 of 2, float32[2, 4], differs"}),
        (False, {}),
    ):
        unit, value = unit_of(Drifting(iter(range(3)).__next__), reads=x), one(x)
        unit.watched = watched
        unit.forward(0, value, 1, None)
        unit.recompute(0, value, None)
        assert (unit.seen.different, unit.seen.reread) == (difference, {})


def test_a_boundary_that_changed_is_not_the_units_fault() -> None:
    x = torch.randn(2, 4)
    unit = unit_of(nn.Linear(4, 4), nn.GELU(), reads=x)
    unit.watched = True
    unit.forward(0, one(x), 1, None)
    unit.recompute(0, one(x + 1.0), None)
    assert unit.seen.reread == {0: "its boundary held other numbers than FORWARD had read"}
    assert unit.seen.different == {}


def test_equal_bits_in_another_layout_are_no_difference() -> None:
    """Digests go by the numbers in their order, wherever these lie."""
    saved = SavedTensors("0.0", digested=True)
    x = torch.randn(3, 4, requires_grad=True)
    with saved.discarding():
        out = x.t().contiguous().t().exp()
    saved.restore(lambda: x.exp())
    assert saved.difference is None
    assert out.grad_fn is not None
