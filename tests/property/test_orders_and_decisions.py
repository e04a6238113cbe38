"""Any order and any decisions make a proven plan, which engines, planless path and file agree on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.sim.engines import ENGINES, find_engine, simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.decisions import Decisions, decisions_of
from loadahead.sim.ir.json_form import dumps_plan, plan_to_json
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Order, Policy, build_plan, order_of
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.verify import verify
from loadahead.sim.workload import Workload
from tests.support.orders import decision_rows, orders, policies_for, workloads_for
from tests.support.plans import costs_for, policies, workloads
from tests.support.slow_planner import slow_plan

thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def drawn(data: st.DataObject) -> tuple[Workload, Policy, Order]:
    order = data.draw(orders())
    return data.draw(workloads_for(order)), data.draw(policies_for(order)), order


@thorough
@given(st.data())
def test_any_order_is_planned_proven_and_predicted_alike(data: st.DataObject) -> None:
    workload, policy, order = drawn(data)
    plan = build_plan(workload, policy)
    assert verify(plan) == []
    assert dumps_plan(plan) == dumps_plan(slow_plan(workload, policy))
    costs = data.draw(costs_for(plan))
    engines_agree(plan, costs)
    planless = Groups().rows(workload, costs, [policy], [{}])
    assert planless == [SweepRow.of({}, simulate(plan, costs).metrics)]
    read = order_of(plan)
    assert read is not None
    assert tasks_in(read, workload) == tasks_in(order, workload)
    if workload.frozen_units < len(workload.stages[0]):
        assert read.same_passes(order)
    assert read.name == order.name
    assert Order.of(order.rows()).same_passes(order)


def tasks_in(order: Order, workload: Workload) -> list[list[str]]:
    """Each rank's passes but those of no task: a stage that is frozen as a whole is not run backward."""
    units, frozen = 0, set()
    for stage, own in enumerate(workload.stages):
        units += len(own)
        if units <= workload.frozen_units:
            frozen.add(f"{stage}B")
    return [[one for one in row if one.rstrip("0123456789") not in frozen] for row in order.rows()]


def engines_agree(plan: Plan, costs: object) -> None:
    reference = find_engine("simpy")(plan, costs)  # type: ignore[arg-type]
    for name in ENGINES:
        other = find_engine(name)(plan, costs)  # type: ignore[arg-type]
        assert np.array_equal(reference.start_ns, other.start_ns)
        assert np.array_equal(reference.end_ns, other.end_ns)


@thorough
@given(st.data())
def test_any_decisions_are_planned_proven_and_read_back(data: st.DataObject) -> None:
    workload, policy, _ = drawn(data)
    rows = data.draw(decision_rows(workload, policy))
    decisions = Decisions.from_rows(rows)
    assert list(decisions.rows()) == rows
    plan = build_plan(workload, policy, decisions=decisions)
    assert verify(plan) == []
    assert decisions_of(plan) == decisions
    assert dumps_plan(plan) == dumps_plan(slow_plan(workload, policy, decisions=rows))
    engines_agree(plan, data.draw(costs_for(plan)))
    # Only those that leave need to be named, in any order.
    leaving = data.draw(st.permutations([row for row in rows if row["acquire"] >= 0]))
    assert dumps_plan(build_plan(workload, policy, decisions=Decisions.from_rows(leaving))) == dumps_plan(plan)


@thorough
@given(st.data(), st.booleans())
def test_a_plans_own_decisions_make_the_same_operations(data: st.DataObject, registered: bool) -> None:
    if registered:
        workload = data.draw(workloads())
        policy = data.draw(policies(len(workload.stages)))
    else:
        workload, policy, _ = drawn(data)
    plan = build_plan(workload, policy)
    again = build_plan(workload, policy, decisions=Decisions.of(plan))
    assert dumps_plan(replace(again, policy=plan.policy)) == dumps_plan(plan)
    assert again.policy["offloaded"] == plan.policy["offloaded"]
    assert {"horizon", "horizon_unit", "offload"}.isdisjoint(again.policy)
    # And its order, given as such, makes the same plan.
    order = order_of(plan)
    assert order is not None
    given_as_such = build_plan(workload, replace(policy, order=order))
    without = {"policy": {}}
    assert plan_to_json(given_as_such) | without == plan_to_json(plan) | without


@thorough
@given(st.data())
def test_there_is_nothing_to_decide_on_a_frozen_unit(data: st.DataObject) -> None:
    workload, policy, _ = drawn(data)
    plan = build_plan(workload, replace(policy, checkpoint=True))
    order = [(stage, unit) for stage, units in enumerate(workload.stages) for unit in range(len(units))]
    trained = order[workload.frozen_units :]
    decided = {(row["stage"], row["unit"]) for row in decisions_of(plan).rows()}
    assert decided == set(trained)
    assert plan.policy["offloaded"] + plan.policy["kept"] == len(trained) * policy.microbatches
    for stage, unit in order[: workload.frozen_units]:
        row = {"stage": stage, "unit": unit, "microbatch": 0, "release": 2, "acquire": 3}
        with pytest.raises(InputError, match=f"{stage}.{unit}.0 is a frozen unit's, whose FORWARD frees it"):
            build_plan(workload, replace(policy, checkpoint=True), decisions=Decisions.from_rows([row]))
