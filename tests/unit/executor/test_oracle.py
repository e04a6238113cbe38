"""Plain training takes the order of sums from the plan, and what it trains from the step alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from loadahead.executor.oracle import backward_order
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from tests.support.edits import take_ops
from tests.support.plans import uniform_plan


def plan_of(**policy: Any) -> Plan:
    return uniform_plan(1, 2, 4, **policy)


def without(plan: Plan, kind: Kind, microbatch: int, units: tuple[int, ...] = (0, 1)) -> Plan:
    """The plan without these tasks."""
    gone = [op.index for op in plan if op.kind == kind and op.microbatch == microbatch and op.unit in units]
    return take_ops(plan, [op.index for op in plan if op.index not in gone])


@pytest.mark.parametrize("pipeline", ["simple", "interleaved"])
def test_the_order_is_the_plans(pipeline: str) -> None:
    plan = plan_of(pipeline=pipeline)
    own = [op.microbatch for op in plan if op.kind == Kind.BACKWARD and op.unit == 1]
    assert backward_order(plan) == own
    assert sorted(own) == [0, 1, 2, 3]


def test_a_missing_backward_is_the_plans_error() -> None:
    words = r"plan 'plan' is not the whole step: unit 0\.1 has no BACKWARD of microbatch 2; it must have one of each"
    with pytest.raises(InputError, match=words) as caught:
        backward_order(without(plan_of(), Kind.BACKWARD, 2, (1,)))
    assert "without the check" not in str(caught.value)


def test_a_microbatch_that_no_unit_trains_is_the_plans_error() -> None:
    with pytest.raises(InputError, match=r"unit 0\.0 has no BACKWARD of microbatch 3"):
        backward_order(without(plan_of(), Kind.BACKWARD, 3))


def test_no_backward_at_all_is_the_plans_error() -> None:
    plan = plan_of()
    with pytest.raises(InputError, match=r"unit 0\.0 has no BACKWARD of microbatch 0"):
        backward_order(take_ops(plan, [op.index for op in plan if op.kind == Kind.FORWARD]))


def test_a_backward_twice_is_the_plans_error() -> None:
    plan = plan_of()
    twice = next(op.index for op in plan if op.kind == Kind.BACKWARD and (op.unit, op.microbatch) == (1, 1))
    with pytest.raises(
        InputError, match=r"unit 0\.1 has 2 BACKWARDs of microbatch 1; it must have one of each of the 4"
    ):
        backward_order(take_ops(plan, [*range(len(plan)), twice]))


def test_a_microbatch_beyond_the_step_is_the_plans_error() -> None:
    with pytest.raises(
        InputError, match=r"unit 0\.0 has 1 BACKWARD of microbatch 3; it must have one of each of the 3"
    ):
        backward_order(replace(plan_of(), microbatches=3))


def test_units_of_different_orders_cannot_be_compared() -> None:
    plan = plan_of()
    rows = [op.index for op in plan]
    own = [op.index for op in plan if op.kind == Kind.BACKWARD and op.unit == 1][:2]
    a, b = (rows.index(op) for op in own)
    rows[a], rows[b] = rows[b], rows[a]
    with pytest.raises(InputError, match="gradients can be checked only where all units have one order"):
        backward_order(take_ops(plan, rows))
