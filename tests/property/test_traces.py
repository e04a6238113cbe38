"""What is written as a trace reads back as the timeline: boxes, arrows and counters, for both formats."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.reports.exports import TRACE_WRITERS
from loadahead.reports.exports.sides import side_of
from loadahead.reports.exports.tracks import trace_of
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.ir.plan import Plan
from loadahead.sim.timeline import Timeline
from tests.support.plans import costs_for, plans, stray_plans
from tests.support.traces import (
    READ,
    Shown,
    require_arrows,
    require_counters,
    require_slices,
)

thorough = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def exported(timeline: Timeline, costs: Costs, to: str) -> Shown:
    """What a trace of the prediction shows, read back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace"
        trace = trace_of((side_of(timeline, costs),), "a plan")
        TRACE_WRITERS[to](trace, path)
        shown = READ[to](path)
    assert len(shown.boxes) == trace.slice_count
    assert len(shown.arrows) == trace.flow_count
    assert sum(map(len, shown.counters.values())) == trace.sample_count
    return shown


def test_every_writer_has_a_reader() -> None:
    assert list(READ) == list(TRACE_WRITERS)


@pytest.mark.parametrize("to", TRACE_WRITERS)
@thorough
@given(st.data())
def test_traces_of_plans_read_back_as_their_timelines(to: str, data: st.DataObject) -> None:
    plan: Plan = data.draw(plans())
    costs = data.draw(costs_for(plan))
    timeline = simulate(plan, costs)
    shown = exported(timeline, costs, to)
    tracks = ["compute", "d2h", "h2d", "send", "recv", "stalls"]
    assert shown.tracks == [(f"predicted rank {rank}", track) for rank in range(plan.ranks) for track in tracks]
    require_slices(shown, plan, timeline, costs)
    require_arrows(shown, plan, timeline, costs)
    require_counters(shown, plan, timeline)


@pytest.mark.parametrize("to", TRACE_WRITERS)
@thorough
@given(st.data())
def test_traces_of_strangers_plans_hold_their_operations(to: str, data: st.DataObject) -> None:
    plan: Plan = data.draw(stray_plans())
    costs = data.draw(costs_for(plan))
    timeline = simulate(plan, costs)
    require_slices(exported(timeline, costs, to), plan, timeline, costs)


@settings(thorough, max_examples=100)
@given(st.data())
def test_overlap_is_that_of_holistic_trace_analysis(data: st.DataObject) -> None:
    """HTA: the time of communication that computation hides over all its time, both as unions of their kernels' times.

    hta/analyzers/communication_analysis.py, CommunicationAnalysis.get_comm_comp_overlap; here copies stand for
    communication. It is worked out on the exported Chrome trace alone, instant by instant.
    """
    plan: Plan = data.draw(plans())
    costs = data.draw(costs_for(plan))
    timeline = simulate(plan, costs)
    boxes = exported(timeline, costs, "chrome").operations()
    whole_copying = whole_hidden = 0
    for rank in timeline.metrics.ranks:
        of_rank = [box for box in boxes if box.process == f"predicted rank {rank.rank}"]
        copies = [(box.start_ns, box.end_ns) for box in of_rank if box.category == "copy"]
        tasks = [(box.start_ns, box.end_ns) for box in of_rank if box.category == "compute"]
        copying, hidden = shared_time(copies, copies), shared_time(copies, tasks)
        assert rank.copy_ns == copying
        assert rank.overlap == (hidden / copying if copying else 0.0)
        whole_copying, whole_hidden = whole_copying + copying, whole_hidden + hidden
    assert timeline.metrics.overlap == pytest.approx(whole_hidden / whole_copying if whole_copying else 0.0, rel=1e-12)


def shared_time(some: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> int:
    """How long at least one of some intervals and at least one of others hold at once."""
    changes = [
        (at, which, sign)
        for which, each in enumerate((some, others))
        for one in each
        for at, sign in zip(one, (1, -1), strict=True)
    ]
    running, since, total = [0, 0], 0, 0
    for at, which, sign in sorted(changes):
        if min(running) > 0:
            total += at - since
        running[which] += sign
        since = at
    return total
