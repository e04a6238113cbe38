"""Plain training takes the order of sums from the plan, what it trains from the step, and the module as it is."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.tensors.randomness import globals_kept, seed_of
from loadahead.executor.training.oracle import PlainTraining, pass_orders, same_bits
from loadahead.executor.training.session import Session
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.edits import take_ops
from tests.support.models import Scale, given_spec, workload_of
from tests.support.plans import uniform_plan, uniform_workload

PASSES = (Kind.FORWARD, Kind.BACKWARD)


def plan_of(**policy: Any) -> Plan:
    return uniform_plan(1, 2, 4, **policy)


def without(plan: Plan, kind: Kind, microbatch: int, units: tuple[int, ...] = (0, 1)) -> Plan:
    """The plan without these tasks."""
    gone = [op.index for op in plan if op.kind == kind and op.microbatch == microbatch and op.unit in units]
    return take_ops(plan, [op.index for op in plan if op.index not in gone])


@pytest.mark.parametrize("pipeline", ["simple", "interleaved"])
def test_the_order_is_the_plans(pipeline: str) -> None:
    plan = plan_of(pipeline=pipeline)
    orders = tuple([op.microbatch for op in plan if (op.kind, op.unit) == (kind, 1)] for kind in PASSES)
    assert pass_orders(plan) == orders
    assert [sorted(order) for order in orders] == [[0, 1, 2, 3]] * 2


def test_forward_and_backward_may_have_different_orders() -> None:
    """Units may even go forward in different ones: the first unit's counts."""
    plan = plan_of(pipeline="simple")
    rows = [op.index for op in plan]
    a, b = (rows.index(op.index) for op in plan if (op.kind, op.unit) == (Kind.FORWARD, 0) and op.microbatch in (1, 2))
    rows[a], rows[b] = rows[b], rows[a]
    forward, backward = pass_orders(take_ops(plan, rows))
    assert (forward, backward) == ([0, 2, 1, 3], pass_orders(plan)[1])


def test_frozen_units_have_no_backward() -> None:
    own = uniform_workload(1, 3)
    plan = build_plan(replace(own, frozen_units=2), Policy(ranks=1, microbatches=3))
    assert not any(op.kind == Kind.BACKWARD and op.unit < 2 for op in plan)
    assert pass_orders(plan) == pass_orders(build_plan(own, Policy(ranks=1, microbatches=3)))
    with pytest.raises(InputError, match=r"unit 0\.2 has no BACKWARD of microbatch 1"):
        pass_orders(without(plan, Kind.BACKWARD, 1, (2,)))


def test_a_missing_backward_is_the_plans_error() -> None:
    words = r"plan 'plan' is not the whole step: unit 0\.1 has no BACKWARD of microbatch 2; it must have one of each"
    with pytest.raises(InputError, match=words) as caught:
        pass_orders(without(plan_of(), Kind.BACKWARD, 2, (1,)))
    assert "without the check" not in str(caught.value)


def test_a_microbatch_that_no_unit_trains_is_the_plans_error() -> None:
    with pytest.raises(InputError, match=r"unit 0\.0 has no BACKWARD of microbatch 3"):
        pass_orders(without(plan_of(), Kind.BACKWARD, 3))


def test_no_backward_at_all_is_the_plans_error() -> None:
    plan = plan_of()
    with pytest.raises(InputError, match=r"unit 0\.0 has no BACKWARD of microbatch 0"):
        pass_orders(take_ops(plan, [op.index for op in plan if op.kind == Kind.FORWARD]))


def test_a_backward_twice_is_the_plans_error() -> None:
    plan = plan_of()
    twice = next(op.index for op in plan if op.kind == Kind.BACKWARD and (op.unit, op.microbatch) == (1, 1))
    with pytest.raises(
        InputError, match=r"unit 0\.1 has 2 BACKWARDs of microbatch 1; it must have one of each of the 4"
    ):
        pass_orders(take_ops(plan, [*range(len(plan)), twice]))


def test_a_microbatch_beyond_the_step_is_the_plans_error() -> None:
    with pytest.raises(
        InputError, match=r"unit 0\.0 has 1 BACKWARD of microbatch 3; it must have one of each of the 3"
    ):
        pass_orders(replace(plan_of(), microbatches=3))


def test_units_of_different_orders_cannot_be_compared() -> None:
    plan = plan_of()
    rows = [op.index for op in plan]
    own = [op.index for op in plan if op.kind == Kind.BACKWARD and op.unit == 1][:2]
    a, b = (rows.index(op) for op in own)
    rows[a], rows[b] = rows[b], rows[a]
    with pytest.raises(InputError, match="gradients can be checked only where all units have one order"):
        pass_orders(take_ops(plan, rows))


# ---- the module as it is ----


def training(spec: ModelSpec, workload: Workload | None = None, order: Any = ((0, 1), (0, 1))) -> PlainTraining:
    """Of two microbatches."""
    own = workload_of(spec) if workload is None else workload
    session = Session(spec, own, tuple(0 for _ in own.stages), microbatches=2)
    return PlainTraining(session, *order)


def losses_of(plain: PlainTraining, step: int = 0) -> list[float]:
    return plain.train(step, plain._session.batches(step, 2))


class Noisy(nn.Module):
    """Draws random numbers of all kinds, and keeps what it drew."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.drawn: list[tuple[float, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = float(torch.rand(())), random.random(), float(np.random.rand())
        self.drawn.append(own)
        return (x * self.weight).sin() * sum(own)


def numbers(seed: int, calls: int) -> list[tuple[float, ...]]:
    """What so many layers draw one after the other under a seed."""
    with globals_kept():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        return [(float(torch.rand(())), random.random(), float(np.random.rand())) for _ in range(calls)]


def test_random_states_begin_at_each_units_first_layer() -> None:
    layers = [Noisy() for _ in range(3)]
    own = workload_of(given_spec(*layers)).stages[0]
    workload = Workload(stages=((replace(own[0], layers=(0, 2)),), (replace(own[2], layers=(2, 3)),)))
    plain = training(given_spec(*layers), workload)
    losses_of(plain, step=4)
    drawn = [list(layer.drawn) for layer in plain.module]  # type: ignore[arg-type]
    for microbatch in range(2):
        first, second = numbers(seed_of(0, 4, 0, 0, microbatch), 2)
        assert (drawn[0][microbatch], drawn[1][microbatch]) == (first, second)
        assert [drawn[2][microbatch]] == numbers(seed_of(0, 4, 1, 0, microbatch), 1)


def test_a_layer_that_stands_twice_is_two_layers() -> None:
    layer = Noisy()
    plain = training(given_spec(layer, nn.Linear(8, 8), layer))
    losses_of(plain)
    seeds = [seed_of(0, 0, 0, unit, microbatch) for microbatch in range(2) for unit in (0, 2)]
    assert plain.module[0].drawn == [numbers(seed, 1)[0] for seed in seeds]


class Calls(nn.Module):
    """Runs another layer inside, and what it has drawn goes on from there."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.other = other

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(x).cos()  # type: ignore[no-any-return]


def test_a_layer_that_calls_another_layer_stays_one_layer() -> None:
    layer = Noisy()
    plain = training(given_spec(layer, Calls(layer)))
    losses_of(plain)
    seeds = [seed_of(0, 0, 0, unit, microbatch) for microbatch in range(2) for unit in (0, 1)]
    assert plain.module[0].drawn == [numbers(seed, 1)[0] for seed in seeds]


def test_it_trains_a_copy_as_a_user_would() -> None:
    """Losses are each microbatch's, gradients begin as None, and one optimizer steps over all parameters."""
    spec = given_spec(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 1), optimizer=None, seed=3)
    plain = training(spec)
    before = {name: p.detach().clone() for name, p in plain._session.model.module.named_parameters()}
    reference = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    reference.load_state_dict(before)
    optimizer = torch.optim.AdamW(reference.parameters(), lr=spec.learning_rate)
    for step in range(3):
        losses = []
        optimizer.zero_grad()
        for microbatch, (x, _) in enumerate(plain._session.batches(step, 2)):
            for unit, layer in enumerate(reference):
                torch.manual_seed(seed_of(3, step, 0, unit, microbatch))
                x = layer(x)
            loss = x.mean() / 2
            loss.backward()
            losses.append(float(loss.detach()))
        assert losses_of(plain, step) == losses
        for name, parameter in reference.named_parameters():
            theirs = plain.named[name].grad
            assert theirs is not None and parameter.grad is not None
            assert same_bits(theirs, parameter.grad)
        optimizer.step()
        plain.optimize()
    for name, parameter in reference.named_parameters():
        assert same_bits(plain.named[name].detach(), parameter.detach())
    for name, parameter in plain._session.model.module.named_parameters():
        assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("order", [((0, 1), (0, 1)), ((1, 0), (1, 0)), ((0, 1), (1, 0))])
def test_microbatches_go_in_the_plans_order(order: tuple[tuple[int, int], tuple[int, int]]) -> None:
    """Forward, which a norm's statistics depend on, and backward, which sums do."""
    seen: list[str] = []
    plain = training(given_spec(nn.Linear(8, 8), nn.Linear(8, 1)), order=order)
    batches = plain._session.batches(0, 2)
    number = {float(x.sum()): microbatch for microbatch, (x, _) in enumerate(batches)}

    def enter(_: nn.Module, args: tuple[torch.Tensor]) -> None:
        microbatch = number[float(args[0].sum())]
        seen.append(f"F{microbatch}")

    def leave(_: nn.Module, args: tuple[torch.Tensor], out: torch.Tensor) -> None:
        microbatch = seen[-1][1:]
        out.register_hook(lambda _: seen.append(f"B{microbatch}"))  # type: ignore[no-untyped-call]

    plain.module[0].register_forward_pre_hook(enter)
    plain.module[0].register_forward_hook(leave)
    plain.train(0, batches)
    forward, backward = order
    if forward == backward:
        assert seen == [f"{kind}{microbatch}" for microbatch in forward for kind in "FB"]
    else:
        assert seen == [f"F{microbatch}" for microbatch in forward] + [f"B{microbatch}" for microbatch in backward]


def test_what_no_microbatch_uses_has_no_gradient() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    plain = training(given_spec(Unused()))
    losses_of(plain)
    none = [name for name, parameter in plain.named.items() if parameter.grad is None]
    assert none == ["0.unused.weight", "0.unused.bias"]


def test_frozen_weights_are_not_trained() -> None:
    plain = training(given_spec(nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 8)))
    assert list(plain.named) == ["1.weight", "1.bias"]


def test_hooks_on_parameters_are_the_copys_too() -> None:
    spec = given_spec(nn.Linear(8, 8), Scale())
    gradients = []
    for factor in (1.0, 4.0):
        session = Session(spec, workload_of(spec), (0,), microbatches=2)
        (weight,) = session.model.module[1].parameters()
        weight.register_hook(lambda gradient, factor=factor: gradient * factor)  # type: ignore[no-untyped-call]
        plain = PlainTraining(session, (0, 1), (0, 1))
        losses_of(plain)
        gradients.append(plain.named["1.weight"].grad)
    assert gradients[0] is not None and gradients[1] is not None
    assert torch.equal(gradients[0] * 4.0, gradients[1])


def test_a_model_that_cannot_be_copied_is_one_line() -> None:
    spec = given_spec(nn.Linear(8, 8))
    session = Session(spec, workload_of(spec), (0,))
    layer: Any = session.model.module[0]
    layer.lock = threading.Lock()
    words = r"the model cannot be copied for the check of gradients \(TypeError: .*\); run without the check"
    with pytest.raises(InputError, match=words):
        PlainTraining(session, (0,), (0,))


def test_what_fails_in_plain_training_is_one_line_that_says_so() -> None:
    spec = given_spec(Scale())
    plain = training(spec)
    plain.module[0].act, plain.module[0].calls = "fails later", 5  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"the model fails in plain training, without a plan: ValueError: no more"):
        losses_of(plain)


def test_an_optimizer_that_fails_is_one_line() -> None:
    class Failing(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            raise ValueError("cannot\nstep")

    spec = given_spec(Scale(), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    plain = training(spec)
    plain._optimizer = Failing(plain.named.values(), lr=0.1)
    words = r"the optimizer fails in plain training, without a plan: ValueError: cannot step; use another one"
    with pytest.raises(InputError, match=words):
        plain.optimize()


def test_same_bits() -> None:
    nan = torch.tensor([float("nan"), 1.0])
    assert same_bits(nan, nan.clone())
    assert not same_bits(torch.tensor([0.0]), torch.tensor([1e-45]))
    assert same_bits(torch.ones(2, 3).t(), torch.ones(3, 2))
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))


@pytest.mark.parametrize("shape", [(), (0, 2), (3,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.int64, torch.bool])
def test_same_bits_of_every_type_and_of_numbers_alone(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """A count of batches is a number alone."""
    ones = torch.ones(shape, dtype=dtype)
    assert same_bits(ones, ones.clone())
    assert same_bits(ones, torch.zeros(shape, dtype=dtype)) == (shape == (0, 2))
