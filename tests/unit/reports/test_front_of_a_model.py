"""The front holds what nothing beats in both speed and memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadahead.reports.pareto import front_of
from loadahead.sim.step_metrics import SweepRow


def row(time: int, memory: int, capacity: int | None = None) -> SweepRow:
    return SweepRow(
        axes={"microbatches": 1, "horizon": 1},
        step_time_ns=time,
        peak_device_bytes=memory,
        peak_boundary_bytes=0,
        peak_host_bytes=0,
        stall_release_ns=0,
        stall_prefetch_ns=0,
        stall_send_ns=0,
        stall_recv_ns=0,
        overlap=0.0,
        offloaded=0,
        kept=1,
        host_bytes=0,
        capacity_bytes=capacity,
    )


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=20), st.integers(1, 9))
def test_as_every_pair_says(points: list[tuple[int, int]], capacity: int) -> None:
    rows = [row(time, memory, capacity) for time, memory in points]
    able = [p for p in points if p[1] <= capacity] or points
    unbeaten = {p for p in able if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in able)}
    front = front_of(rows, range(len(rows)))
    assert {points[i] for i in front} == unbeaten
    assert len(front) == len(unbeaten)
    assert [points[i] for i in front] == sorted(unbeaten)
    assert all(i == points.index(points[i]) for i in front)
