"""A checkpointed unit's gradients are those of plain autograd, bit for bit, and nothing stays behind."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from loadahead.executor.model.context import autocast
from loadahead.executor.model.errors import model_errors_in_one_line
from loadahead.executor.model.spec import CPU
from loadahead.executor.model.unit import CheckpointedUnit
from loadahead.executor.tensors.layout import Layout, storage_id
from loadahead.executor.tensors.meter import StorageMeter
from loadahead.executor.tensors.randomness import Draws
from loadahead.executor.tensors.values import Form, Value, handed_place
from loadahead.sim.errors import InputError
from tests.support.models import Scale
from tests.support.units import mean, one, only, single_form, traced, unit_of, units_of


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
    y.backward(gradient)  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for module in modules for p in module.parameters() if p.grad is not None)]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("checkpoint", [True, False])
def test_equals_plain_autograd(checkpoint: bool, shared: bool) -> None:
    modules, x, gradient = layers(), torch.randn(4, 8), torch.randn(4, 8)
    unit = unit_of(*modules, reads=x, shared=shared)
    if checkpoint:
        out = unit.forward(3, one(x), 77, None)
        torch.rand(5)  # what others draw in between must not matter
        unit.recompute(3, one(x), None)
    else:
        out = unit.forward_with_graph(3, one(x), 77, None)
    ours = unit.backward(3, one(gradient))
    weights = [p.grad for p in unit.parameters() if p.grad is not None]
    for mine, theirs in zip([only(out), only(ours), *weights], plain(modules, x, 77, gradient), strict=True):
        assert torch.equal(mine, theirs)


def test_microbatches_in_any_order_keep_their_own_randomness() -> None:
    x = torch.ones(1000)
    unit = unit_of(nn.Dropout(0.5), reads=x)
    outs = [only(unit.forward(microbatch, one(x), microbatch, None)) for microbatch in range(3)]
    assert not torch.equal(outs[0], outs[1])
    for microbatch in (2, 0, 1):
        unit.recompute(microbatch, one(x), None)
        assert torch.equal(only(unit.backward(microbatch, one(torch.ones(1000)))), outs[microbatch])


class Drawing(nn.Module):
    """Multiplies by numbers of Python's and numpy's generators."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sin() * (random.random() + float(np.random.rand()))


@pytest.mark.parametrize("shared", [False, True])
def test_pythons_and_numpys_numbers_are_drawn_again(shared: bool) -> None:
    x = torch.ones(4)
    unit = unit_of(Drawing(), reads=x, shared=shared)
    unit.draws = Draws(torch=False, python=True, numpy=True)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    outs = [only(unit.forward(microbatch, one(x), microbatch, None)) for microbatch in range(2)]
    assert not torch.equal(outs[0], outs[1])
    for microbatch in (1, 0):
        unit.recompute(microbatch, one(x), None)
        gradient = only(unit.backward(microbatch, one(torch.ones(4))))
        assert torch.allclose(gradient * x.sin() / x.cos(), outs[microbatch])
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]


def test_autocast_is_the_same_at_recompute() -> None:
    seen = []

    class Look(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_grad_enabled()))
            return x.sin()  # which saves its input, so that RECOMPUTE has something to do

    x = torch.ones(2)
    unit = unit_of(Look(), reads=x, dtype=torch.bfloat16)
    unit.forward(0, one(x), 0, None)
    unit.recompute(0, one(x), None)
    assert seen == [(True, torch.bfloat16, True), (True, torch.bfloat16, True)]
    assert not torch.is_autocast_enabled("cpu")


def test_autocast_is_switched_off_by_none() -> None:
    with torch.autocast("cpu", torch.bfloat16), autocast(torch.device("meta"), None):
        assert not torch.is_autocast_enabled("cpu")


def test_forward_leaves_only_its_output_and_backward_only_gradients() -> None:
    modules, x, gradient = layers(), torch.randn(4, 8), torch.randn(4, 8)
    unit = unit_of(*modules, reads=x)
    for parameter in unit.parameters():
        parameter.grad = torch.zeros_like(parameter)
    resident = [t for p in unit.parameters() for t in (p, p.grad) if t is not None]
    meter = StorageMeter([x, gradient, *resident])
    with meter:
        out = unit.forward(0, one(x), 1, None)
        assert meter.live - meter.resident == 4 * 8 * 4
        unit.recompute(0, one(x), None)
        assert meter.live - meter.resident > 2 * 4 * 8 * 4
        ours = unit.backward(0, one(gradient))
        assert meter.live - meter.resident == 2 * 4 * 8 * 4
    del out, ours
    assert meter.live == meter.resident


@pytest.mark.parametrize("act", ["same", "view"])
def test_outputs_and_gradients_have_memory_of_their_own(act: str) -> None:
    x, gradient = torch.ones(2, 8), torch.full((2, 8), 3.0)
    unit = unit_of(Scale(act), reads=x)
    out = only(unit.forward(0, one(x), 0, None))
    unit.recompute(0, one(x), None)
    ours = only(unit.backward(0, one(gradient)))
    assert len({storage_id(t) for t in (x, gradient, out, ours)}) == 4
    assert out.untyped_storage().nbytes() == ours.untyped_storage().nbytes() == 64
    assert torch.equal(ours, gradient)


def test_a_weight_that_is_handed_on_is_copied() -> None:
    """The plan frees the boundary above, and never the weight."""

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.weight

    layer, x = Table(), torch.ones(2, 8)
    unit = unit_of(layer, reads=x)
    assert storage_id(only(unit.forward(0, one(x), 0, None))) != storage_id(layer.weight)


def test_ids_have_no_gradient_and_frozen_layers_pass_one_on() -> None:
    ids = torch.tensor([1, 2])
    table = unit_of(nn.Embedding(5, 8), reads=ids, makes=torch.empty(2, 8))
    table.forward(0, one(ids), 0, None)
    table.recompute(0, one(ids), None)
    assert table.backward(0, one(torch.ones(2, 8))) == Value(())
    x = torch.ones(2, 8)
    frozen = unit_of(nn.Linear(8, 8).requires_grad_(False), reads=x)
    frozen.forward(0, one(x), 0, None)
    frozen.recompute(0, one(x), None)
    assert only(frozen.backward(0, one(torch.ones(2, 8)))).abs().sum() > 0


class Constant(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones(2, 8)


def test_an_input_that_is_not_used_has_a_gradient_of_zero() -> None:
    """And it is known to be none in plain training."""
    x = torch.ones(2, 8)
    unit = unit_of(Constant(), reads=x)
    unit.forward(0, one(x), 0, None)
    unit.recompute(0, one(x), None)
    ours = unit.backward(0, one(torch.ones(2, 8)))
    assert torch.equal(only(ours), torch.zeros(2, 8))
    assert ours.absent == {0}


@pytest.mark.parametrize("checkpoint", [True, False])
def test_where_plain_training_has_no_gradient_none_is_added(checkpoint: bool) -> None:
    """A zero is something else to a weight's gradient, which an optimizer would decay, and to hooks."""
    x, layer = torch.ones(2, 8), Scale()
    unit = unit_of(layer, reads=x)
    if checkpoint:
        unit.forward(0, one(x), 0, None)
        unit.recompute(0, one(x), None)
    else:
        unit.forward_with_graph(0, one(x), 0, None)
    ours = unit.backward(0, Value((torch.zeros(2, 8),), absent=frozenset({0})))
    assert layer.weight.grad is None
    assert ours.absent == {0}


def test_a_change_of_the_input_is_refused() -> None:
    x = torch.ones(2, 8)
    unit = unit_of(Scale("in place"), reads=x, name="1.2")
    with pytest.raises(InputError, match=r"unit 1\.2 changes its input in place"):
        unit.forward(0, one(x), 0, None)


def test_reset_forgets() -> None:
    x = torch.ones(2, 8)
    unit = unit_of(Scale(), reads=x)
    unit.forward(0, one(x), 0, None)
    unit.seen.different[0] = "something"
    unit.reset()
    assert not unit.seen.different
    with pytest.raises(KeyError):
        unit.recompute(0, one(x), None)


# ---- several tensors, and tensors that are handed on ----


class Pair(nn.Module):
    """Makes two tensors of two, one of them without a gradient, and hands a mask on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((8,), 0.5))

    def forward(self, given: dict[str, Any]) -> dict[str, Any]:
        x, ids, mask = given["x"], given["ids"], given["mask"]
        return {"x": (x * self.weight).sin() * mask, "ids": ids + 1, "mask": mask, "scale": given["scale"] * 2}


def structured() -> tuple[CheckpointedUnit, dict[str, Any], Value]:
    """A unit of a :class:`Pair`, what it is called with, and the boundary that this is."""
    given = {"x": torch.randn(2, 8), "ids": torch.tensor([3, 4]), "mask": torch.tensor([1.0, 0.0] * 4), "scale": 3}
    leaves, spec = tree_flatten(given)
    x, ids = Layout.of(given["x"]), Layout.of(given["ids"])  # type: ignore[arg-type]
    form = Form(spec, (0, 1, handed_place(0), -1), (x, ids), (True, False))
    unit = CheckpointedUnit([Pair()], "0.1", CPU, None)
    unit.form = unit.out = form
    return unit, given, Value((leaves[0], leaves[1]), (3,))


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_boundary_of_several_tensors(checkpoint: bool) -> None:
    unit, given, value = structured()
    handed = {0: given["mask"]}
    if checkpoint:
        made = unit.forward(0, value, 1, None, handed)
        unit.recompute(0, value, None, handed)
    else:
        made = unit.forward_with_graph(0, value, 1, None, handed)
    ours = unit.backward(0, Value((torch.full((2, 8), 2.0),)))
    leaf = given["x"].clone().requires_grad_(True)
    theirs = copy.deepcopy(unit.layers[0])(given | {"x": leaf})
    (gradient,) = torch.autograd.grad(theirs["x"], leaf, torch.full((2, 8), 2.0))
    assert torch.equal(only(ours), gradient)
    out, ids = made.value.tensors
    assert torch.equal(out, theirs["x"]) and torch.equal(ids, theirs["ids"])
    assert made.value.constants == (6,)
    assert storage_id(made.handed[0]) == storage_id(given["mask"])
    assert not made.handed[0].requires_grad


def test_what_a_layer_does_to_the_mask_is_noticed() -> None:
    def double(_: nn.Module, args: Any) -> None:
        args[0]["mask"].mul_(2.0)

    unit, given, value = structured()
    unit.layers[0].register_forward_pre_hook(double)
    with pytest.raises(InputError, match=r"unit 0\.1 changes its input in place"):
        unit.forward(0, value, 1, None, {0: given["mask"]})


def test_a_unit_that_returns_something_else_later_is_one_line() -> None:
    unit, given, value = structured()
    unit.layers[0].register_forward_hook(lambda module, args, out: (out["x"], out["ids"]))
    with pytest.raises(InputError, match=r"the model's unit 0\.1 returns tuple of 2 values, and it returned dict of 4"):
        unit.forward(0, value, 1, None, {0: given["mask"]})


def test_a_gradient_that_was_none_when_traced_is_one_line() -> None:
    x = torch.ones(2, 8)
    unit = unit_of(Scale(), reads=x)
    unit.out = single_form(x, needs=False)
    with pytest.raises(InputError, match=r"unit 0\.1 makes has a gradient, and had none when it was traced; it must"):
        unit.forward(0, one(x), 0, None)


# ---- units without a backward pass ----


def test_a_frozen_unit_runs_forward_alone_as_it_would_in_training() -> None:
    """With gradients enabled, as the user's own loop has them, and under the unit's seed."""
    seen: list[bool] = []
    x = torch.ones(1000)
    unit = unit_of(nn.Dropout(0.5), reads=x)
    unit.form = unit.out = single_form(x, needs=False)
    unit.layers[0].register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    out = only(unit.forward_alone(one(x), 5))
    torch.manual_seed(5)
    assert torch.equal(out, nn.functional.dropout(x, 0.5))
    assert seen == [True]
    assert storage_id(out) != storage_id(x)


def test_a_frozen_unit_that_makes_a_gradient_is_one_line() -> None:
    x = torch.ones(2, 8)
    unit = unit_of(Scale(), reads=x, name="0.0")
    unit.form = unit.out = single_form(x, needs=False)
    with pytest.raises(InputError, match=r"unit 0\.0 is frozen, and what it makes of microbatch 2 has a gradient; it"):
        unit.forward_alone(one(x), 0, microbatch=2)


# ---- the modules' state ----


def test_recompute_starts_from_what_forward_found_and_leaves_no_trace() -> None:
    """Between FORWARD and RECOMPUTE of one microbatch another's FORWARD has moved the statistics on."""
    torch.manual_seed(2)
    norm = nn.BatchNorm1d(8)
    xs = [torch.randn(4, 8) for _ in range(2)]
    first, own, end = units_of(nn.Linear(8, 8), norm, nn.Linear(8, 1))
    traced([first, own, end], xs[0])
    assert own.state_bytes == own.state.nbytes == 2 * 8 * 4 + 8
    theirs = copy.deepcopy(norm)
    outs = [only(own.forward(number, one(x), number, None)) for number, x in enumerate(xs)]
    after = copy.deepcopy(norm.state_dict())
    for number, x in enumerate(xs):
        own.recompute(number, one(x), None)
        gradient = only(own.backward(number, one(torch.ones(4, 8))))
        leaf = x.clone().requires_grad_(True)
        out = theirs(leaf)
        assert torch.equal(out, outs[number])
        assert torch.equal(gradient, torch.autograd.grad(out, leaf, torch.ones(4, 8))[0])
    for name, tensor in norm.state_dict().items():
        assert torch.equal(tensor, after[name]) and torch.equal(tensor, theirs.state_dict()[name]), name
    assert int(after["num_batches_tracked"]) == 2


def test_values_from_before_are_the_only_memory_more() -> None:
    x = torch.randn(4, 8)
    own, end = units_of(nn.BatchNorm1d(8), nn.Linear(8, 1))
    traced([own, end], x)
    meter = StorageMeter([x, *own.parameters(), *own.layers[0].buffers()])
    with meter:
        out = only(own.forward(0, one(x), 0, None))
    assert meter.live - meter.resident == out.untyped_storage().nbytes() + own.state_bytes


def test_a_change_that_the_trace_did_not_see_is_refused() -> None:
    class Late(nn.Module):
        count: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))
            self.counts = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.counts:
                self.count += 1
            return x.sin()

    x, layer = torch.randn(4, 8), Late()
    own, end = units_of(layer, nn.Linear(8, 1))
    traced([own, end], x)
    own.forward(0, one(x), 0, None)
    layer.counts = True
    with pytest.raises(InputError, match=r"the model's unit 0\.0 changes layer 0: count, which it did not when it was"):
        own.forward(1, one(x), 0, None)


def test_the_loss_is_the_last_units_output() -> None:
    x = torch.randn(2, 8)
    first, last = units_of(Scale("sine"), Scale("sine"))
    traced([first, last], x)
    loss = only(last.forward(0, one(x), 0, mean))
    last.recompute(0, one(x), mean)
    gradient = only(last.backward(0, None))
    leaf = x.clone().requires_grad_(True)
    theirs = mean(leaf.sin() * torch.ones(8))
    assert torch.equal(loss, theirs)
    assert torch.equal(gradient, torch.autograd.grad(theirs, leaf)[0])


def test_errors_of_layers_are_one_line_and_others_pass() -> None:
    for error in (ValueError("a\nb"), SystemExit(3), AssertionError()):
        words = rf"^the model fails here: {type(error).__name__}: "
        with pytest.raises(InputError, match=words) as caught, model_errors_in_one_line("here"):
            raise error
        assert "\n" not in str(caught.value)
    for passing in (InputError("mine"), torch.OutOfMemoryError("full"), KeyboardInterrupt()):
        with pytest.raises(type(passing)) as same, model_errors_in_one_line("here"):
            raise passing
        assert same.value is passing
    with pytest.raises(InputError, match=r"; run without the check of gradients$"), model_errors_in_one_line("here"):
        raise RuntimeError("cumsum does not have a deterministic implementation")
