"""Every tuned plan is proven, timed alike by both engines, within its limits to the byte, no worse than a horizon."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.sim.costs import Costs
from loadahead.sim.engines import ENGINES, simulate
from loadahead.sim.ir.decisions import decisions_of
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.planner.goal import Goal
from loadahead.sim.step_metrics import Room, StepMetrics, SweepRow
from loadahead.sim.tuning import Limits, Tuning, frontier, solve, tune
from loadahead.sim.verify import verify
from loadahead.sim.workload import Workload
from tests.support.orders import orders, policies_for, workloads_for
from tests.support.plans import costs_for, policies, workloads

# The horizons that no tuned plan may be worse than, by unit, each with these release windows.
HORIZONS, WINDOWS = {"tasks": range(1, 25), "layers": range(1, 17)}, range(1, 9)

few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True, scope="module")
def _short_searches() -> Iterator[None]:
    """Searches are short: what must hold of every plan holds however long was searched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solve, "MOST_WALKS", 300)
        patch.setattr(solve, "FEWEST_WALKS", 50)
        yield


@st.composite
def problems(draw: st.DrawFn, shared: bool = False) -> tuple[Workload, Costs, Policy]:
    """An order, by its name or given, several stages a rank too, with units, costs and a step to plan."""
    if draw(st.booleans()):
        order = draw(orders())
        workload, policy = draw(workloads_for(order)), draw(policies_for(order))
    else:
        workload = draw(workloads())
        policy = draw(policies(len(workload.stages)))
    policy = replace(policy, offload=True)
    return workload, draw(costs_for(build_plan(workload, policy), shared=shared)), policy


def simulated(problem: tuple[Workload, Costs, Policy], policy: Policy, tuned: Tuning | None = None) -> StepMetrics:
    """A policy's step; where decisions were tuned, theirs, once the plan is proven and engines agree on it."""
    workload, costs, _ = problem
    if tuned is None:
        return simulate(build_plan(workload, policy), costs).metrics
    plan = build_plan(workload, policy, decisions=tuned.chosen.decisions)
    assert verify(plan) == []
    assert decisions_of(plan) == tuned.chosen.decisions
    found = [simulate(plan, costs, engine).metrics for engine in ENGINES]
    assert all(metrics == found[0] for metrics in found)
    return found[0]


def horizons_of(problem: tuple[Workload, Costs, Policy]) -> list[StepMetrics]:
    """The step of every horizon and release window, of plans made one by one, each kind of decisions once."""
    workload, costs, policy = problem
    seen: dict[bytes, StepMetrics] = {}
    for unit, horizons in HORIZONS.items():
        for window in WINDOWS:
            for horizon in horizons:
                own = replace(policy, horizon=horizon, horizon_unit=unit, release_window=window)
                plan = build_plan(workload, own)
                made = decisions_of(plan)
                key = np.stack([made.release, made.acquire]).tobytes()
                if key not in seen:
                    seen[key] = simulate(plan, costs).metrics
    return list(seen.values())


def limits_drawn(draw: st.DataObject, problem: tuple[Workload, Costs, Policy]) -> Goal:
    """A budget between what the least horizon needs and what keeping all does, or a little beyond."""
    workload, costs, policy = problem
    most = simulate(build_plan(workload, replace(policy, offload=False)), costs).metrics
    least = simulate(build_plan(workload, replace(policy, horizon=1)), costs).metrics
    kind, share = draw.draw(st.sampled_from(["memory", "boundary_memory", "both"])), draw.draw(st.integers(-2, 10))
    budgets = {
        "memory": least.peak_device_bytes + (most.peak_device_bytes - least.peak_device_bytes) * share // 8,
        "boundary_memory": least.peak_boundary_bytes
        + (most.peak_boundary_bytes - least.peak_boundary_bytes) * share // 8,
    }
    chosen = budgets if kind == "both" else {kind: budgets[kind]}
    host = draw.draw(st.sampled_from([None, None, least.host_bytes // 2, least.host_bytes]))
    return Goal(host_memory=host, **{name: max(budget, 0) for name, budget in chosen.items()})


@few
@given(problems(), st.data())
def test_a_tuned_plan_keeps_its_limits_and_is_no_worse_than_a_horizon(
    problem: tuple[Workload, Costs, Policy], data: st.DataObject
) -> None:
    workload, costs, policy = problem
    goal = limits_drawn(data, problem)
    costs = costs.model_copy(update={"memory_bytes": 2**50})
    problem = (workload, costs, policy)
    found = tune(workload, costs, policy, goal)
    metrics, limits = simulated(problem, policy, found), Limits.of(goal, costs)
    row = SweepRow.of({}, metrics, found_room(found))
    assert row.to_dict() == found.chosen.row.to_dict()
    assert found.bound.step_time_ns <= metrics.step_time_ns
    keeping = simulated(problem, replace(policy, offload=False))
    steps = [keeping, *horizons_of(problem)]
    fitting = [one for one in steps if not limits.missing(SweepRow.of({}, one)).total]
    if fitting:
        assert found.fits
        assert metrics.step_time_ns <= min(one.step_time_ns for one in fitting)
    if found.fits:
        assert metrics.peak_device_bytes <= (goal.memory or 2**50)
        assert goal.boundary_memory is None or metrics.peak_boundary_bytes <= goal.boundary_memory
        assert goal.host_memory is None or metrics.host_bytes <= goal.host_memory
    else:
        assert found.missing == limits.missing(row)
        assert found.missing.total <= min(limits.missing(SweepRow.of({}, one)).total for one in steps)
    if not limits.missing(SweepRow.of({}, keeping)).total:
        assert not metrics.offloaded


def found_room(found: Tuning) -> Room:
    """The room that the chosen row was made with."""
    return Room(
        capacity_bytes=found.chosen.row.capacity_bytes, host_capacity_bytes=found.chosen.row.host_capacity_bytes
    )


@settings(few, max_examples=30)
@given(problems(), st.integers(0, 20), st.data())
def test_the_least_memory_in_a_step_is_no_more_than_a_horizon_needs(
    problem: tuple[Workload, Costs, Policy], percent: int, data: st.DataObject
) -> None:
    workload, costs, policy = problem
    goal = replace(limits_drawn(data, problem), within=percent / 100)
    if data.draw(st.booleans()):
        goal = Goal(within=goal.within)
    costs = costs.model_copy(update={"memory_bytes": 2**50, "host_memory_bytes": None})
    problem = (workload, costs, policy)
    found, limits = tune(workload, costs, policy, goal), Limits.of(goal, costs)
    metrics = simulated(problem, policy, found)
    keeping = simulated(problem, replace(policy, offload=False))
    limit = keeping.step_time_ns + keeping.step_time_ns * percent // 100
    assert found.limit_ns == limit and found.limits == limits
    assert found.bound.step_time_ns <= metrics.step_time_ns <= limit
    short = [one for one in [keeping, *horizons_of(problem)] if one.step_time_ns <= limit]
    allowed = [one for one in short if not limits.missing(SweepRow.of({}, one)).total]
    peak = "peak_device_bytes" if goal.boundary_memory is None else "peak_boundary_bytes"
    if allowed:
        assert found.fits
        assert getattr(metrics, peak) <= min(getattr(one, peak) for one in allowed)
    horizons = [one for one in allowed if one is not keeping] if policy.checkpoint else []
    assert (found.horizon is None) == (not horizons)
    if found.horizon is not None:
        assert getattr(found.horizon.row, peak) == min(getattr(one, peak) for one in horizons)


@few
@given(problems(), st.data())
def test_no_boundary_leaves_for_nothing(problem: tuple[Workload, Costs, Policy], data: st.DataObject) -> None:
    """Let one of them stay: the plan breaks a limit, or its step is longer."""
    workload, costs, policy = problem
    goal = limits_drawn(data, problem)
    costs = costs.model_copy(update={"memory_bytes": 2**50, "host_memory_bytes": None})
    found, limits = tune(workload, costs, policy, goal), Limits.of(goal, costs)
    own = found.chosen.decisions
    leaving = np.flatnonzero(own.acquire >= 0)
    if not found.fits or not len(leaving):
        return
    one = int(leaving[data.draw(st.integers(0, len(leaving) - 1))])
    release, acquire = own.release.copy(), own.acquire.copy()
    release[one] = acquire[one] = -1
    plan = build_plan(workload, policy, decisions=replace(own, release=release, acquire=acquire))
    row = SweepRow.of({}, simulate(plan, costs).metrics)
    assert limits.missing(row).total or row.step_time_ns > found.chosen.row.step_time_ns


@settings(few, max_examples=10)
@given(problems(shared=True), st.data())
def test_where_transfers_share_links_the_same_holds(
    problem: tuple[Workload, Costs, Policy], data: st.DataObject
) -> None:
    workload, costs, policy = problem
    costs = costs.model_copy(update={"memory_bytes": 2**50, "host_memory_bytes": None})
    goal = replace(limits_drawn(data, (workload, costs, policy)), host_memory=None)
    found = tune(workload, costs, policy, goal)
    metrics = simulated((workload, costs, policy), policy, found)
    assert metrics.step_time_ns == found.chosen.row.step_time_ns >= found.bound.step_time_ns
    assert found.horizon is None or metrics.step_time_ns <= found.horizon.row.step_time_ns
    assert found.fits == (not Limits.of(goal, costs).missing(SweepRow.of({}, metrics)).total)


@settings(few, max_examples=15)
@given(problems(), st.data())
def test_equal_questions_have_equal_answers(problem: tuple[Workload, Costs, Policy], data: st.DataObject) -> None:
    goal = limits_drawn(data, problem)
    one, other = tune(*problem, goal), tune(*problem, goal)
    assert one.chosen.decisions == other.chosen.decisions and one.chosen.row.to_dict() == other.chosen.row.to_dict()
    assert one.bound == other.bound


@settings(few, max_examples=10)
@given(problems())
def test_more_memory_never_costs_time_on_a_frontier(problem: tuple[Workload, Costs, Policy]) -> None:
    workload, costs, policy = problem
    costs = costs.model_copy(update={"memory_bytes": 2**50, "host_memory_bytes": None})
    made = frontier(workload, costs, policy, Goal(), budgets=6)
    steps = [point.tuning.chosen.row.step_time_ns for point in made.points]
    assert steps == sorted(steps, reverse=True)
    for point in made.points:
        assert point.tuning.chosen.row.peak_device_bytes <= point.budget_bytes
    assert made.points[-1].tuning.chosen.row.step_time_ns == made.keep_all.step_time_ns
