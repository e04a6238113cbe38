"""A checkpointed unit's gradients are those of plain autograd, bit for bit, and nothing stays behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from loadahead.executor.checkpoint import CheckpointedUnit
from loadahead.executor.layout import storage_id
from loadahead.executor.meter import StorageMeter
from loadahead.executor.randomness import seeded_state
from loadahead.executor.spec import CPU
from loadahead.sim.errors import InputError
from tests.support.models import Scale


def layers() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(8, 16), nn.Dropout(0.5), nn.GELU(), nn.Linear(16, 8)]


def plain(modules: list[nn.Module], x: torch.Tensor, seed: int, gradient: torch.Tensor) -> list[torch.Tensor]:
    """Output, the input's gradient and the weights' gradients, without a unit."""
    modules, x = copy.deepcopy(modules), x.clone().requires_grad_(True)
    torch.manual_seed(seed)
    y = x * 1.0
    for module in modules:
        y = module(y)
    y.backward(gradient)
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for module in modules for p in module.parameters() if p.grad is not None)]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("checkpoint", [True, False])
def test_equals_plain_autograd(checkpoint: bool, shared: bool) -> None:
    modules, x, gradient = layers(), torch.randn(4, 8), torch.randn(4, 8)
    unit = CheckpointedUnit(modules, "0.0", CPU, None, shared=shared)
    if checkpoint:
        out = unit.forward(3, x, 77, None)
        torch.rand(5)  # what others draw in between must not matter
        unit.recompute(3, x, None)
    else:
        out = unit.forward_with_graph(3, x, 77, None)
    ours = unit.backward(3, gradient)
    assert ours is not None
    weights = [p.grad for p in unit.parameters() if p.grad is not None]
    for mine, theirs in zip([out, ours, *weights], plain(modules, x, 77, gradient), strict=True):
        assert torch.equal(mine, theirs)


def test_microbatches_in_any_order_keep_their_own_randomness() -> None:
    unit = CheckpointedUnit([nn.Dropout(0.5)], "0.0", CPU, None)
    x = torch.ones(1000)
    outs = [unit.forward(microbatch, x, microbatch, None) for microbatch in range(3)]
    assert not torch.equal(outs[0], outs[1])
    for microbatch in (2, 0, 1):
        unit.recompute(microbatch, x, None)
        assert torch.equal(unit.backward(microbatch, torch.ones(1000)), outs[microbatch])  # type: ignore[arg-type]


def test_autocast_is_the_same_at_recompute() -> None:
    seen = []

    class Look(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_grad_enabled()))
            return x.sin()  # which saves its input, so that RECOMPUTE has something to do

    unit = CheckpointedUnit([Look()], "0.0", CPU, torch.bfloat16)
    unit.forward(0, torch.ones(2), 0, None)
    unit.recompute(0, torch.ones(2), None)
    assert seen == [(True, torch.bfloat16, True), (True, torch.bfloat16, True)]
    assert not torch.is_autocast_enabled("cpu")


def test_forward_leaves_only_its_output_and_backward_only_gradients() -> None:
    modules, x, gradient = layers(), torch.randn(4, 8), torch.randn(4, 8)
    unit = CheckpointedUnit(modules, "0.0", CPU, None)
    for parameter in unit.parameters():
        parameter.grad = torch.zeros_like(parameter)
    resident = [t for p in unit.parameters() for t in (p, p.grad) if t is not None]
    meter = StorageMeter([x, gradient, *resident])
    with meter:
        out = unit.forward(0, x, 1, None)
        assert meter.live - meter.resident == 4 * 8 * 4
        unit.recompute(0, x, None)
        assert meter.live - meter.resident > 2 * 4 * 8 * 4
        ours = unit.backward(0, gradient)
        assert meter.live - meter.resident == 2 * 4 * 8 * 4
    del out, ours
    assert meter.live == meter.resident


@pytest.mark.parametrize("act", ["same", "view"])
def test_outputs_and_gradients_have_memory_of_their_own(act: str) -> None:
    unit = CheckpointedUnit([Scale(act)], "0.0", CPU, None)
    x, gradient = torch.ones(2, 8), torch.full((2, 8), 3.0)
    out = unit.forward(0, x, 0, None)
    unit.recompute(0, x, None)
    ours = unit.backward(0, gradient)
    assert ours is not None
    assert len({storage_id(t) for t in (x, gradient, out, ours)}) == 4
    assert out.untyped_storage().nbytes() == ours.untyped_storage().nbytes() == 64
    assert torch.equal(ours, gradient)


def test_ids_have_no_gradient_and_frozen_layers_pass_one_on() -> None:
    table = CheckpointedUnit([nn.Embedding(5, 8)], "0.0", CPU, None)
    table.forward(0, torch.tensor([1, 2]), 0, None)
    table.recompute(0, torch.tensor([1, 2]), None)
    assert table.backward(0, torch.ones(2, 8)) is None
    frozen = CheckpointedUnit([nn.Linear(8, 8).requires_grad_(False)], "0.1", CPU, None)
    frozen.forward(0, torch.ones(2, 8), 0, None)
    frozen.recompute(0, torch.ones(2, 8), None)
    ours = frozen.backward(0, torch.ones(2, 8))
    assert ours is not None
    assert ours.abs().sum() > 0


def test_an_input_that_is_not_used_has_a_gradient_of_zero() -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ones(2, 8)

    unit = CheckpointedUnit([Constant()], "0.0", CPU, None)
    unit.forward(0, torch.ones(2, 8), 0, None)
    unit.recompute(0, torch.ones(2, 8), None)
    ours = unit.backward(0, torch.ones(2, 8))
    assert ours is not None
    assert torch.equal(ours, torch.zeros(2, 8))


def test_a_change_of_the_input_is_refused() -> None:
    unit = CheckpointedUnit([Scale("in place")], "1.2", CPU, None)
    with pytest.raises(InputError, match=r"unit 1\.2 changes its input in place"):
        unit.forward(0, torch.ones(2, 8), 0, None)


def test_reset_forgets() -> None:
    unit = CheckpointedUnit([Scale()], "0.0", CPU, None)
    unit.forward(0, torch.ones(2, 8), 0, None)
    unit.reset()
    with pytest.raises(KeyError):
        unit.recompute(0, torch.ones(2, 8), None)


def test_a_seeded_state_is_that_of_manual_seed() -> None:
    torch.manual_seed(123)
    assert torch.equal(torch.get_rng_state(), seeded_state(123, CPU).cpu)
