"""A sweep's figures, which come without a plan, are those of the plan as the reference engine simulates it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.planner import HORIZON_UNITS, Policy, build_plan
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.sweep import evaluate_point, evaluate_points, grid
from loadahead.sim.verify import verify
from loadahead.sim.workload import Workload
from tests.support.plans import costs_for, policies, workloads

thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def expected(workload: Workload, costs: Costs, policy: Policy) -> SweepRow:
    """The row, from a plan that was built, proven and simulated."""
    plan = build_plan(workload, policy)
    assert verify(plan) == []
    return SweepRow.of({}, simulate(plan, costs, "simpy").metrics)


@thorough
@given(st.data())
def test_figures_are_those_of_the_simulated_plan(data: st.DataObject) -> None:
    workload = data.draw(workloads())
    policy = data.draw(policies(len(workload.stages), most_microbatches=8))
    costs = data.draw(costs_for(build_plan(workload, policy)))
    assert Groups().rows(workload, costs, [policy], [{}]) == [expected(workload, costs, policy)]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_one_group_serves_many_policies_in_any_order(data: st.DataObject) -> None:
    """What one evaluation leaves behind must not show in the next."""
    workload = data.draw(workloads())
    policy = replace(data.draw(policies(len(workload.stages))), checkpoint=True)
    costs = data.draw(costs_for(build_plan(workload, policy)))
    changes = st.fixed_dictionaries(
        {
            "horizon": st.integers(1, 9),
            "horizon_unit": st.sampled_from(HORIZON_UNITS),
            "release_window": st.integers(1, 4),
            "offload": st.booleans(),
        }
    )
    many = [replace(policy, **change) for change in data.draw(st.lists(changes, min_size=2, max_size=6))]
    found = Groups().rows(workload, costs, many, [{}] * len(many))
    assert found == [expected(workload, costs, one) for one in many]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_sweeps_rows_are_the_reference_engines(data: st.DataObject) -> None:
    """Over several workloads, orders and counts in one list, with links that are shared or not."""
    points = []
    for shared in (False, True):
        workload = data.draw(workloads(most_ranks=3))
        policy = data.draw(policies(len(workload.stages)))
        costs = data.draw(costs_for(build_plan(workload, policy), shared=shared))
        axes = {"microbatches": [1, 3], "horizon": [1, 2, 5], "release_window": [1, 2]}
        points += list(grid(workload, costs, policy, axes))
    assert evaluate_points(points, "compiled") == evaluate_points(points, "simpy")
    assert evaluate_points(points, "simpy") == [evaluate_point(point, "simpy") for point in points]
