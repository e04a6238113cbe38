"""No plan that keeps the limits is faster than the bound: of any order, decisions and costs, links shared or not."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.sim.engines import simulate
from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.planner import build_plan
from loadahead.sim.tuning.bound_of_order import bound_of
from loadahead.sim.tuning.limits import Limits
from loadahead.sim.tuning.trial import Trial
from tests.support.orders import decision_rows, orders, policies_for, workloads_for
from tests.support.plans import costs_for, policies, workloads

thorough = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def problems(draw: st.DrawFn) -> tuple[Trial, Decisions]:
    """An order, by its name or given, with units and costs, and any decisions that are valid."""
    if draw(st.booleans()):
        order = draw(orders())
        workload, policy = draw(workloads_for(order)), draw(policies_for(order))
    else:
        workload = draw(workloads())
        policy = draw(policies(len(workload.stages)))
    costs = draw(costs_for(build_plan(workload, policy), shared=draw(st.integers(0, 3)) == 0))
    return Trial(workload, costs, policy), Decisions.from_rows(draw(decision_rows(workload, policy)))


@thorough
@given(problems(), st.sampled_from(["boundaries", "device", "both"]), st.integers(0, 2))
def test_a_plan_takes_no_less_than_the_bound_under_what_it_holds(
    problem: tuple[Trial, Decisions], limited: str, more: int
) -> None:
    trial, decisions = problem
    metrics = simulate(build_plan(trial.workload, trial.policy, decisions=decisions), trial.costs).metrics
    limits = Limits(
        device_bytes=None if limited == "boundaries" else metrics.peak_device_bytes + more,
        boundary_bytes=None if limited == "device" else metrics.peak_boundary_bytes + more,
        host_bytes=None,
    )
    keep_all = trial.candidate(*trial.slots_of_nothing())
    bound = bound_of(trial, limits)
    assert bound.step_time_ns <= metrics.step_time_ns
    assert bound.step_time_ns == max(bound.compute_ns, bound.link_ns, bound.critical_path_ns)
    assert bound.critical_path_ns <= keep_all.row.step_time_ns
    if trial.private:
        assert bound.critical_path_ns == keep_all.row.step_time_ns
    if not limits.missing(keep_all.row).total:
        assert not bound.link_ns
