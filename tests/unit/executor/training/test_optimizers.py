"""Gradients and state are resident from the start, and a step is that of a fresh optimizer of plain training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.tensors.meter import storage_bytes
from loadahead.executor.tensors.sparse import sparse_weights
from loadahead.executor.training.optimizers import StageOptimizer, primed_optimizer
from loadahead.sim.errors import InputError
from tests.support.models import given_spec

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.5),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "dampening": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, lr_decay=0.1),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.1),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.1),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.1),
}


def weights() -> list[nn.Parameter]:
    torch.manual_seed(1)
    return [nn.Parameter(torch.randn(shape)) for shape in ((3, 4), (5,), ())]


def spec_of(make: Make) -> ModelSpec:
    return given_spec(nn.Linear(8, 8), optimizer=make)


def gradients(step: int, used: tuple[bool, ...]) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(step)
    numbers = [torch.randn(p.shape, generator=generator) for p in weights()]
    return [gradient if own else None for gradient, own in zip(numbers, used, strict=True)]


def take_step(stage: StageOptimizer, given: list[torch.Tensor | None]) -> None:
    """Zero the gradients, add these as BACKWARDs would, and step."""
    stage.zero_gradients()
    for parameter, gradient in zip(stage.parameters, given, strict=True):
        if gradient is not None:
            assert parameter.grad is not None
            parameter.grad.add_(gradient)
    stage.step()


def plainly(make: Make, steps: list[list[torch.Tensor | None]]) -> list[nn.Parameter]:
    """The weights as a user would train them."""
    own = weights()
    optimizer = make(own)
    for given in steps:
        optimizer.zero_grad()
        for parameter, gradient in zip(own, given, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        optimizer.step()
    return own


USED = [(True, True, True), (True, False, True), (False, False, True), (True, True, False)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_a_fresh_optimizer(name: str) -> None:
    """From the first on, with what no microbatch used passed by: its weight does not decay, its moments stay."""
    steps = [gradients(step, used) for step, used in enumerate(USED)]
    stage = StageOptimizer(spec_of(OPTIMIZERS[name]), weights())
    for count, given in enumerate(steps, 1):
        take_step(stage, given)
        unused = [p for p, gradient in zip(stage.parameters, given, strict=True) if gradient is None]
        assert [id(p) for p in stage.unused] == [id(p) for p in unused]
        for ours, theirs in zip(stage.parameters, plainly(OPTIMIZERS[name], steps[:count]), strict=True):
            assert torch.equal(ours, theirs), count


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_specs_own_optimizers_too(name: str) -> None:
    spec = ModelSpec(python="byte-gpt", optimizer=name, learning_rate=0.1)
    steps = [gradients(step, used) for step, used in enumerate(USED)]
    stage = StageOptimizer(spec, weights())
    for given in steps:
        take_step(stage, given)
    for ours, theirs in zip(stage.parameters, plainly(spec.make_optimizer, steps), strict=True):
        assert torch.equal(ours, theirs)


def test_a_weight_without_a_gradient_does_not_decay() -> None:
    stage = StageOptimizer(spec_of(OPTIMIZERS["adamw"]), weights())
    take_step(stage, gradients(0, (False, True, True)))
    assert torch.equal(stage.parameters[0], weights()[0])
    assert not torch.equal(stage.parameters[1], weights()[1])


def test_a_gradient_of_zeros_is_one() -> None:
    """Plain training has it too, and decays its weight."""
    stage = StageOptimizer(spec_of(OPTIMIZERS["adamw"]), weights())
    take_step(stage, [torch.zeros(3, 4), None, None])
    assert torch.equal(stage.parameters[0], weights()[0] * (1 - 0.1 * 0.5))
    assert len(stage.unused) == 2


def test_gradients_stay_where_they_are() -> None:
    """They are memory of the whole run, in steps that do not use them as well."""
    stage = StageOptimizer(spec_of(OPTIMIZERS["adamw"]), weights())
    first = [p.grad for p in stage.parameters]
    for step, used in enumerate(USED):
        take_step(stage, gradients(step, used))
        assert all(p.grad is gradient for p, gradient in zip(stage.parameters, first, strict=True))
    stage.zero_gradients()
    assert all(gradient is not None and not gradient.any() for gradient in first)


def test_what_is_added_to_a_gradient_first_stays_as_it_is() -> None:
    """Zeros of either sign too: in plain training the first gradient comes into no memory that holds zeros."""
    stage = StageOptimizer(spec_of(OPTIMIZERS["adamw"]), weights())
    stage.zero_gradients()
    gradient = stage.parameters[1].grad
    assert gradient is not None
    gradient.add_(torch.tensor([0.0, -0.0, 1.0, -1.0, -0.0]))
    assert torch.signbit(gradient).tolist() == [False, True, False, True, True]


class Clipping(torch.optim.SGD):
    """Writes into the gradients in its step."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.clamp_(-0.1, 0.1)
        return super().step(closure)


def test_an_optimizer_may_write_into_gradients() -> None:
    def make(own: list[nn.Parameter]) -> torch.optim.Optimizer:
        return Clipping(own, lr=0.1)

    steps = [gradients(step, used) for step, used in enumerate(USED)]
    stage = StageOptimizer(spec_of(make), weights())
    for given in steps:
        take_step(stage, given)
        assert len(stage.unused) == sum(gradient is None for gradient in given)
    for ours, theirs in zip(stage.parameters, plainly(make, steps), strict=True):
        assert torch.equal(ours, theirs)


def live_state(stage: StageOptimizer) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in stage.state())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_stand_ins_have_the_states_bytes(name: str) -> None:
    """So a rank holds the same from before its first step on, whichever weights had a gradient by then."""
    stage = StageOptimizer(spec_of(OPTIMIZERS[name]), weights())
    assert stage.optimizer is not None
    held = storage_bytes(stage.state())
    for step, used in enumerate(USED):
        take_step(stage, gradients(step, used))
        assert storage_bytes(stage.state()) == live_state(stage) == held, step
    own = [value for state in stage.optimizer.state.values() for value in state.values()]
    assert storage_bytes(value for value in own if isinstance(value, torch.Tensor)) == held
    assert held == storage_bytes(primed_optimizer(spec_of(OPTIMIZERS[name]), weights(), set()))


def test_stand_ins_of_what_is_never_used_stay() -> None:
    stage = StageOptimizer(spec_of(OPTIMIZERS["adamw"]), weights())
    held = storage_bytes(stage.state())
    for step in range(3):
        take_step(stage, gradients(step, (False, True, True)))
    assert storage_bytes(stage.state()) == held
    assert stage.optimizer is not None and stage.parameters[0] not in stage.optimizer.state


def test_priming_changes_no_weight_and_leaves_gradients_of_zeros() -> None:
    own = weights()
    state = primed_optimizer(spec_of(OPTIMIZERS["adamw"]), own, set())
    # Two moments of each, and a count of steps.
    assert storage_bytes(state) == 2 * (12 + 5 + 1) * 4 + 3 * 4
    for parameter, before in zip(own, weights(), strict=True):
        assert torch.equal(parameter, before)
        assert parameter.grad is not None and not parameter.grad.any()


def test_a_stage_that_trains_nothing_has_no_optimizer() -> None:
    stage = StageOptimizer(spec_of(OPTIMIZERS["adamw"]), [])
    stage.zero_gradients()
    stage.step()
    assert stage.optimizer is None and list(stage.state()) == [] and stage.unused == ()
    assert primed_optimizer(spec_of(OPTIMIZERS["adamw"]), [], set()) == []


def test_an_optimizer_that_cannot_step_is_one_line() -> None:
    class Failing(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            raise ValueError("cannot\nstep")

    with pytest.raises(InputError, match=r"^the optimizer fails: ValueError: cannot step; use another one$"):
        StageOptimizer(spec_of(lambda own: Failing(own, lr=0.1)), weights())


# ---- sparse gradients ----


def test_sparse_gradients_are_there_only_where_a_microbatch_made_them() -> None:
    def make(own: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SparseAdam(own, lr=0.1)

    torch.manual_seed(1)
    table, plain = (nn.Embedding(6, 3, sparse=True) for _ in range(2))
    plain.load_state_dict(table.state_dict())
    sparse = sparse_weights([nn.Sequential(nn.Linear(2, 2), table)])
    assert sparse == {id(table.weight): table.weight}
    stage = StageOptimizer(spec_of(make), list(table.parameters()), sparse)
    held = storage_bytes(stage.state())
    assert table.weight.grad is None and held > 0
    optimizer = make(list(plain.parameters()))
    for ids in ([1, 2], None, [5, 5], [0]):
        stage.zero_gradients()
        optimizer.zero_grad()
        assert table.weight.grad is None
        if ids is not None:
            for layer in (table, plain):
                layer(torch.tensor(ids)).sin().sum().backward()
        stage.step()
        optimizer.step()
        assert (stage.unused == ()) == (ids is not None)
        assert torch.equal(table.weight, plain.weight)
        assert storage_bytes(stage.state()) == held
