"""A plan with ``min_bytes`` is the plan of decisions that are given, in which exactly the small boundaries stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.sim.engines import ENGINES, find_engine, simulate
from loadahead.sim.ir.decisions import Decisions, decisions_of
from loadahead.sim.ir.json_form import plan_to_json
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.verify import verify
from loadahead.sim.workload import Workload
from tests.support.plans import costs_for, policies, workloads

thorough = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LEAST = st.integers(1, 6)  # beside sizes of 0 to 5


def drawn(data: st.DataObject) -> tuple[Workload, Policy]:
    workload = data.draw(workloads())
    return workload, replace(data.draw(policies(len(workload.stages))), min_bytes=data.draw(LEAST))


def is_small(workload: Workload, policy: Policy, stage: int, unit: int) -> bool:
    return workload.stages[stage][unit].boundary_bytes < policy.min_bytes


def same(one: Plan, other: Plan) -> bool:
    """Whether two plans have the same operations and buffers, whatever made them."""
    ours, theirs = plan_to_json(one), plan_to_json(other)
    return all(ours[part] == theirs[part] for part in ("decisions", "buffers", "ops"))


@thorough
@given(st.data())
def test_in_tasks_it_is_the_plan_without_it_but_that_small_ones_stay(data: st.DataObject) -> None:
    workload, policy = drawn(data)
    policy = replace(policy, horizon_unit="tasks")
    rows = [
        row | ({"release": -1, "acquire": -1} if is_small(workload, policy, row["stage"], row["unit"]) else {})
        for row in decisions_of(build_plan(workload, replace(policy, min_bytes=0))).rows()
    ]
    expected = build_plan(workload, policy, decisions=Decisions.from_rows(rows))
    plan = build_plan(workload, policy)
    assert verify(plan) == []
    assert same(plan, expected)
    assert list(decisions_of(plan).rows()) == rows


@thorough
@given(st.data())
def test_in_layers_it_is_the_plan_of_a_horizon_that_never_meets_them(data: st.DataObject) -> None:
    workload, policy = drawn(data)
    policy = replace(policy, horizon_unit="layers")
    plan = build_plan(workload, policy)
    assert verify(plan) == []
    decided = list(decisions_of(plan).rows())
    assert same(plan, build_plan(workload, policy, decisions=Decisions.from_rows(decided)))
    assert not any(row["acquire"] >= 0 and is_small(workload, policy, row["stage"], row["unit"]) for row in decided)
    without = {
        (row["stage"], row["unit"], row["microbatch"]): row["acquire"]
        for row in decisions_of(build_plan(workload, replace(policy, min_bytes=0))).rows()
    }
    for row in decided:  # as small ones take no place, the others come back no later, and none leaves that did not
        assert row["acquire"] <= without[row["stage"], row["unit"], row["microbatch"]]


@thorough
@given(st.data())
def test_all_ways_to_predict_it_agree(data: st.DataObject) -> None:
    workload, policy = drawn(data)
    plan = build_plan(workload, policy)
    costs = data.draw(costs_for(plan))
    rows = [SweepRow.of({}, simulate(plan, costs, engine).metrics) for engine in ENGINES]
    assert all(row == rows[0] for row in rows)
    # Among policies that differ in it alone, as a sweep has them.
    others = [replace(policy, min_bytes=least) for least in (0, policy.min_bytes, 6)]
    found = Groups().rows(workload, costs, others, [{}] * len(others))
    assert found[1] == rows[0]
    assert found[2].offloaded == 0 and found[0].offloaded >= found[1].offloaded
    reference = find_engine("simpy")(plan, costs)
    assert np.array_equal(reference.end_ns, find_engine("compiled")(plan, costs).end_ns)


@thorough
@given(st.data())
def test_a_boundary_is_counted_for_one_reason(data: st.DataObject) -> None:
    workload, policy = drawn(data)
    policy = replace(policy, checkpoint=True, offload=True)
    made = build_plan(workload, policy).policy
    units = [(stage, unit) for stage, own in enumerate(workload.stages) for unit in range(len(own))]
    small = sum(is_small(workload, policy, *one) for one in units[workload.frozen_units :]) * policy.microbatches
    assert made["kept_because"].get("smaller_than_min_bytes", 0) == small
    assert sum(made["kept_because"].values()) == made["kept"]
    assert ("offload.min_bytes" in made["sentence"]) == (small > 0)
