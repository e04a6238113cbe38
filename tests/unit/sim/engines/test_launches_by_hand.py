"""What the host's time to issue operations does to a step, worked out by hand and in closed form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadahead.sim.costs import Costs, SharedLinks, UnitCost
from loadahead.sim.engines import ENGINES, find_engine, simulate
from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.kinds import COPY_KINDS, TASK_KINDS, Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.workload import Workload
from tests.support.plans import GB, policies, uniform_costs, uniform_plan, workloads

engines = pytest.mark.parametrize("engine", sorted(ENGINES))


def _costs(duration: int, ranks: int = 1, **changes: Any) -> Costs:
    """Every task takes as long; links move 1 B/ns."""
    unit = UnitCost(
        forward_ns=duration,
        recompute_ns=duration,
        backward_ns=2 * duration,
        backward_input_ns=duration,
        backward_weight_ns=duration,
    )
    return uniform_costs(ranks, optimizer_ns=(duration,) * ranks, **changes).model_copy(
        update={"units": ((unit,),) * ranks}
    )


def _times(engine: str, plan: Plan, costs: Costs) -> list[tuple[int, int]]:
    times = find_engine(engine)(plan, costs)
    return list(zip(times.start_ns.tolist(), times.end_ns.tolist(), strict=True))


def _forwards(count: int) -> Plan:
    builder = PlanBuilder()
    for microbatch in range(count):
        builder.op(0, Kind.FORWARD, (0, 0, microbatch))
    return builder.freeze("forwards", 1, count, {})


@engines
def test_tasks_shorter_than_their_issuing_end_with_it(engine: str) -> None:
    """The device is done with what it has after 2 ns, and the last kernel is issued after 5."""
    assert _times(engine, _forwards(3), _costs(2, launch_ns=5)) == [(0, 5), (5, 10), (10, 15)]


@engines
def test_tasks_longer_than_their_issuing_run_back_to_back(engine: str) -> None:
    assert _times(engine, _forwards(3), _costs(5, launch_ns=2)) == [(0, 5), (5, 10), (10, 15)]


@engines
@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_only_tasks_start_before_they_are_issued(engine: str, kind: Kind) -> None:
    """FORWARD is issued from 0 to 5 and ends then; what follows, from 5 to 8. Tasks take 2 ns, 100 bytes 100 ns."""
    builder = PlanBuilder()
    builder.op(0, Kind.FORWARD, (0, 0, 0))
    builder.op(0, kind, (0, 0, 0), nbytes=100 if kind in COPY_KINDS else 0)
    plan = builder.freeze("two", 1, 1, {})
    costs = _costs(2, launch_ns=3, launch_by_kind={"FORWARD": 5})
    tasks = {"FORWARD", "RECOMPUTE", "BACKWARD", "BACKWARD_INPUT", "BACKWARD_WEIGHT", "OPTIMIZER_STEP"}
    if kind == Kind.FORWARD:
        expected = (5, 10)
    elif kind == Kind.BACKWARD:
        expected = (5, 9)  # takes 4
    elif kind.name in tasks:
        expected = (5, 8)
    else:
        expected = (8, 108 if kind in COPY_KINDS else 8)
    assert _times(engine, plan, costs) == [(0, 5), expected]


@engines
def test_a_copy_waits_for_its_task_and_for_its_own_call(engine: str) -> None:
    """Task 0-2, its issuing till 5, the copy's till 8. A task of 20 ns holds the copy until it ends."""
    builder = PlanBuilder()
    forward = builder.op(0, Kind.FORWARD, (0, 0, 0))
    builder.op(0, Kind.OFFLOAD, (0, 0, 0), after=[forward], nbytes=10)
    plan = builder.freeze("copy", 1, 1, {})
    launches = {"FORWARD": 5, "OFFLOAD": 3}
    assert _times(engine, plan, _costs(2, launch_by_kind=launches)) == [(0, 5), (8, 18)]
    assert _times(engine, plan, _costs(20, launch_by_kind=launches)) == [(0, 20), (20, 30)]


@engines
def test_each_ranks_host_issues_for_itself(engine: str) -> None:
    builder = PlanBuilder()
    for rank in (0, 1, 0, 1):
        builder.op(rank, Kind.FORWARD, (rank, 0, 0))
    plan = builder.freeze("two ranks", 2, 1, {})
    assert _times(engine, plan, _costs(2, 2, launch_ns=5)) == [(0, 5), (0, 5), (5, 10), (5, 10)]


@engines
def test_launches_where_links_are_shared(engine: str) -> None:
    """1 B/ns for both ranks together; rank 1's 100 B are issued at 3, rank 0's at 8 after its FORWARD.

    Rank 1 has 95 B left at 8, at half speed till 198; rank 0 then has 5 B left, alone till 203. Its RECOMPUTE waits for
    that, and its 2 ns are over long before the host has issued it, from 8 to 308.
    """
    builder = PlanBuilder()
    builder.op(0, Kind.FORWARD, (0, 0, 0))
    copy = builder.op(0, Kind.OFFLOAD, (0, 0, 0), nbytes=100)
    builder.op(1, Kind.OFFLOAD, (1, 0, 0), nbytes=100)
    builder.op(0, Kind.RECOMPUTE, (0, 0, 0), after=[copy])
    plan = builder.freeze("shared", 2, 1, {})
    launches = {"FORWARD": 5, "OFFLOAD": 3, "RECOMPUTE": 300}
    costs = _costs(2, 2, launch_by_kind=launches, shared=SharedLinks(gpus_per_switch=2, uplink_d2h=GB))
    assert _times(engine, plan, costs) == [(0, 5), (8, 203), (3, 198), (203, 308)]


def test_stalls_begin_when_the_host_would_let_an_operation_start() -> None:
    """FORWARD 0-5, PREFETCH issued at 8, 8-18. RECOMPUTE could start when its issuing begins, at 8: a stall of 10 till
    18; it is issued at 13 and ends at 20. OFFLOAD is issued at 14, 14-34. RELEASE is one call, made from 14 to 24: a
    stall of 10 till 34. Tasks ran 5 + 2 ns of 34.
    """
    builder = PlanBuilder()
    builder.op(0, Kind.FORWARD, (0, 0, 0))
    load = builder.op(0, Kind.PREFETCH, (0, 0, 0), nbytes=10)
    builder.op(0, Kind.RECOMPUTE, (0, 0, 0), after=[load])
    store = builder.op(0, Kind.OFFLOAD, (0, 0, 0), nbytes=20)
    builder.op(0, Kind.RELEASE, (0, 0, 0), after=[store])
    launches = {"FORWARD": 5, "PREFETCH": 3, "RECOMPUTE": 5, "OFFLOAD": 1, "RELEASE": 10}
    timeline = simulate(builder.freeze("stalls", 1, 1, {}), _costs(2, launch_by_kind=launches))
    assert timeline.end_ns.tolist() == [5, 18, 20, 34, 34]
    rank = timeline.header["summary"]["ranks"][0]
    assert (rank["stall_prefetch_ns"], rank["stall_release_ns"]) == (10, 10)
    assert (rank["compute_ns"], rank["idle_ns"]) == (7, 27)


@engines
def test_without_compute_a_step_takes_as_long_as_the_host(engine: str) -> None:
    plan = uniform_plan(1, 1, 3, offload=False)
    assert simulate(plan, _costs(0, launch_ns=7), engine).step_time_ns == 7 * len(plan)


@st.composite
def _launch_bound(draw: st.DrawFn) -> tuple[Workload, Policy, Costs]:
    """One rank whose tasks take less than their issuing and whose copies take 1 ns, no more than any issuing."""
    workload = draw(workloads(most_ranks=1))
    launches = {kind: draw(st.integers(1, 60)) for kind in Kind}
    units = []
    for _ in workload.stages[0]:
        shorter = {kind: draw(st.integers(0, launches[kind] - 1)) for kind in TASK_KINDS}
        units.append(
            UnitCost(
                forward_ns=shorter[Kind.FORWARD],
                recompute_ns=shorter[Kind.RECOMPUTE],
                backward_ns=shorter[Kind.BACKWARD],
            )
        )
    costs = uniform_costs(
        1, d2h_bandwidth=10 * GB, h2d_bandwidth=10 * GB, launch_by_kind={kind.name: ns for kind, ns in launches.items()}
    )
    policy = replace(draw(policies(1)), checkpoint=True)
    return workload, policy, costs.model_copy(update={"units": (tuple(units),)})


@settings(max_examples=200, deadline=None)
@given(_launch_bound())
def test_a_launch_bound_step_takes_the_sum_of_all_launches(made: tuple[Workload, Policy, Costs]) -> None:
    """Every task ends when it has been issued, and the last operation, OPTIMIZER_STEP, is one.

    A copy ends at most 1 ns after it has been issued: before whatever waits for it can start, or a RECOMPUTE, which
    takes at least 1 ns less than its issuing, starts that much later and ends with its issuing all the same.
    """
    workload, policy, costs = made
    plan = build_plan(workload, policy)
    expected = sum(costs.launches(plan).tolist())
    for engine in ENGINES:
        assert simulate(plan, costs, engine).step_time_ns == expected
    assert Groups().rows(workload, costs, [policy], [{}])[0].step_time_ns == expected
