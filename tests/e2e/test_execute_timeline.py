"""The measured step's timeline. How near the prediction comes is for tests/times, on a quiet machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from loadahead.executor.execute import execute
from loadahead.sim.ir.kinds import QUEUE_OF, Kind, Queue
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.timeline import read_timeline, write_timeline
from loadahead.sim.workload import Workload
from tests.support.models import link_costs, tiny_spec, workload_of


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
    assert sorted(run.step_times_ns)[1] == timeline.step_time_ns == timeline.metrics.step_time_ns
    assert len(run.step_times_ns) == 3
    assert "emulated link" in timeline.header["link"]


def test_the_timeline_survives_its_file(tmp_path: Path) -> None:
    workload = workload_of(tiny_spec())
    run = execute(plan_of(workload, 2), workload, tiny_spec(), costs=link_costs(workload), steps=2)
    write_timeline(run.timeline, tmp_path / "t.jsonl")
    back = read_timeline(tmp_path / "t.jsonl")
    assert back.source == "cpu"
    assert back.header == run.timeline.header
    assert np.array_equal(back.end_ns, run.timeline.end_ns)
    assert np.array_equal(back.memory.device_bytes, run.timeline.memory.device_bytes)
    assert {QUEUE_OF[Kind(kind)] for kind in back.kind.tolist()} == {Queue.COMPUTE, Queue.D2H, Queue.H2D}
