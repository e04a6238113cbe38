"""The measured step: what its timeline says, and how near the prediction comes on this machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loadahead.executor.calibration import calibrate
from loadahead.executor.execute import execute
from loadahead.executor.links import Hardware
from loadahead.reports.statistics import order_disagreements
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.ir.kinds import QUEUE_OF, Kind, Queue
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.timeline import Timeline, read_timeline, write_timeline
from loadahead.sim.workload import Workload
from tests.support.models import GB, TINY, link_costs, tiny_spec, workload_of

SPEC = tiny_spec(options=TINY | {"width": 128, "context": 64, "batch": 4})
# Boundaries of 131 kB take 1.3 ms: about as long as a unit runs, so that horizons matter.
SLOW = Hardware(d2h_bandwidth=GB // 10, h2d_bandwidth=GB // 10, memory_bytes=GB, d2h_latency_ns=20_000)
# Coming back takes so long that a horizon of 1 pays for it.
SLOWER = replace(SLOW, h2d_bandwidth=GB // 40)


def plan_of(workload: Workload, horizon: int, pipeline: str = "simple") -> Plan:
    return build_plan(workload, Policy(ranks=1, microbatches=8, horizon=horizon, pipeline=pipeline))


def test_the_timeline_obeys_the_plan() -> None:
    workload = workload_of(tiny_spec(), 2)
    plan = build_plan(workload, Policy(ranks=2, microbatches=4, horizon=1))
    costs = link_costs(workload, d2h_latency_ns=500_000, p2p_latency_ns=700_000)
    run = execute(plan, workload, tiny_spec(), costs=costs, steps=4)
    timeline = run.timeline
    start, end = timeline.start_ns, timeline.end_ns
    assert start.min() == 0
    assert (end >= start).all()
    for op in plan:
        assert all(start[op.index] >= end[edge] for edge in op.after)
        before = plan.previous_in_queue[op.index]
        assert before < 0 or start[op.index] >= end[before]
    taken = end - start
    assert taken[plan.ops.kind == Kind.OFFLOAD].min() >= 500_000
    assert taken[plan.ops.kind == Kind.SEND_ACTIVATION].min() >= 700_000
    assert sorted(run.step_times_ns)[1] == timeline.step_time_ns == timeline.header["summary"]["step_time_ns"]
    assert len(run.step_times_ns) == 3
    assert "emulated link" in timeline.header["link"]


def test_the_timeline_survives_its_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    workload = workload_of(tiny_spec())
    run = execute(plan_of(workload, 2), workload, tiny_spec(), costs=link_costs(workload), steps=2)
    write_timeline(run.timeline, tmp_path / "t.jsonl")
    back = read_timeline(tmp_path / "t.jsonl")
    assert back.source == "cpu"
    assert back.header == run.timeline.header
    assert np.array_equal(back.end_ns, run.timeline.end_ns)
    assert np.array_equal(back.memory.device_bytes, run.timeline.memory.device_bytes)
    assert {QUEUE_OF[Kind(kind)] for kind in back.kind.tolist()} == {Queue.COMPUTE, Queue.D2H, Queue.H2D}


def measured(plan: Plan, workload: Workload, costs: Costs) -> Timeline:
    return execute(plan, workload, SPEC, costs=costs, steps=6, check_gradients=False).timeline


@pytest.mark.timing
@pytest.mark.parametrize("horizon", [1, 2, 4, 8])
def test_predicted_step_time_is_within_a_tenth(horizon: int) -> None:
    """Three attempts, each calibrated anew: another process on the machine may spoil one."""
    workload = workload_of(SPEC)
    plan = plan_of(workload, horizon)
    errors = []
    for _ in range(3):
        costs = calibrate(workload, SPEC, hardware=SLOW, repeats=20)
        errors.append(simulate(plan, costs).step_time_ns / measured(plan, workload, costs).step_time_ns - 1)
        if abs(errors[-1]) <= 0.1:
            return
    raise AssertionError(f"predicted / measured - 1 = {errors}")


@pytest.mark.timing
def test_horizons_are_measured_in_the_predicted_order() -> None:
    """Where predictions differ by more than a tenth; three attempts, as above."""
    workload = workload_of(SPEC)
    wrong = []
    for _ in range(3):
        costs = calibrate(workload, SPEC, hardware=SLOWER, repeats=12)
        plans = [plan_of(workload, horizon) for horizon in (1, 2, 3, 4, 8)]
        ours = [simulate(plan, costs).step_time_ns for plan in plans]
        assert max(ours) > 1.1 * min(ours), "the link is not slow enough for an order to be claimed"
        theirs = [measured(plan, workload, costs).step_time_ns for plan in plans]
        wrong.append(order_disagreements(ours, theirs))
        if not wrong[-1]:
            return
    raise AssertionError(f"pairs of horizons in the other order: {wrong}")


@pytest.mark.timing
def test_copies_are_predicted_too() -> None:
    workload = workload_of(SPEC)
    costs = calibrate(workload, SPEC, hardware=SLOW, repeats=12)
    plan = plan_of(workload, 2)
    ours = simulate(plan, costs).header["summary"]["ranks"][0]
    theirs = measured(plan, workload, costs).header["summary"]["ranks"][0]
    assert ours["copy_ns"] == pytest.approx(theirs["copy_ns"], rel=0.25)
    assert ours["overlap"] == pytest.approx(theirs["overlap"], abs=0.15)
