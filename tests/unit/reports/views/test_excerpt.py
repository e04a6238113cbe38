"""What is shown of a step is the step's: memory with its peaks, a stretch of operations, waits, how busy it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import loadahead as la
from loadahead.reports.points import MOST_BINS, MOST_BOXES, MOST_SAMPLES
from loadahead.reports.views.excerpt import excerpt, same_excerpt, thinned
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.timeline import Timeline

# Copies back are slow, so that ranks wait for them, and for each other.
SLOW = {"hardware.h2d": "0.2 GB/s", "offload.activation_loading_horizon": 1}
LONG = {"parallel.microbatches": 300, "parallel.pipeline_parallel_degree": 3}


def naive_waits(step: Timeline) -> list[tuple[int, int]]:
    """Each operation's wait and the kind to blame, -1 for none, by the words of the rule; the host takes no time."""
    assert step.plan is not None
    end, ops, out = step.end_ns.tolist(), step.plan.ops, []
    last: dict[tuple[int, int], int] = {}
    for i, (rank, queue) in enumerate(zip(ops.rank.tolist(), ops.queue.tolist(), strict=True)):
        ready = last.get((rank, queue), 0)
        before = ops.after[i].tolist()
        latest = max((end[j] for j in before), default=0)
        wait = max(latest - ready, 0)
        blamed = next((int(ops.kind[j]) for j in before if end[j] == latest), -1)
        out.append((wait, blamed if wait else -1))
        last[rank, queue] = end[i]
    return out


@given(st.lists(st.integers(0, 10**12), max_size=2000), st.integers(4, 300))
def test_thinning_keeps_peaks_and_ends(values: list[int], most: int) -> None:
    levels = np.asarray(values, dtype=np.int64)
    kept = thinned(levels, most)
    assert len(kept) <= most
    assert kept.tolist() == sorted(set(kept.tolist()))
    if values:
        assert kept[0] == 0 and kept[-1] == len(values) - 1
        assert levels[kept].max() == max(values) and levels[kept].min() == min(values)
    if len(values) <= most:
        assert kept.tolist() == list(range(len(values)))


@settings(deadline=None)
@given(st.integers(301, 3000), st.integers(1, 2999))
def test_a_single_spike_is_never_lost(length: int, place: int) -> None:
    levels = np.zeros(length, dtype=np.int64)
    levels[place % length] = 1
    assert levels[thinned(levels, MOST_SAMPLES)].max() == 1


def test_a_short_step_is_shown_whole() -> None:
    step = la.simulate("uniform", SLOW)
    found = excerpt(step)
    assert found.whole and found.window_ns == (0, step.step_time_ns)
    assert found.step_time_ns == step.step_time_ns and found.of_ranks == 4
    by_rank = {rank.rank: rank for rank in step.metrics.ranks}
    waits = naive_waits(step)
    for shown in found.ranks:
        own = by_rank[shown.rank]
        assert shown.peak_device_bytes == own.peak_device_bytes == max(shown.memory.device_bytes)
        assert shown.stalled_ns == sum(own.stalls_ns.values())
        boxes = shown.boxes
        rows = [row for row in range(len(step)) if step.rank[row] == shown.rank]
        takes = step.end_ns - step.start_ns
        seen = [row for row in rows if takes[row] > 0 or (waits[row][0] and step.queue[row] == Queue.COMPUTE)]
        assert boxes.op == tuple(step.op[seen].tolist())
        for name in ("kind", "queue", "stage", "unit", "microbatch", "start_ns"):
            assert getattr(boxes, name) == tuple(getattr(step, name)[seen].tolist()), name
        assert boxes.duration_ns == tuple(takes[seen].tolist())
        assert boxes.wait_ns == tuple(waits[row][0] for row in seen)
        assert boxes.cause == tuple(waits[row][1] for row in seen)
        moved = {Kind(kind): nbytes for kind, nbytes in zip(boxes.kind, boxes.nbytes, strict=True)}
        assert moved[Kind.OFFLOAD] == moved[Kind.PREFETCH] == 10**6 and moved[Kind.FORWARD] == 0
        assert any(wait and cause == Kind.PREFETCH for wait, cause in zip(boxes.wait_ns, boxes.cause, strict=True))
    peaks = [rank.peak_device_bytes for rank in step.metrics.ranks]
    assert peaks[found.ranks[0].rank] == max(peaks)


def test_the_other_rank_is_the_one_that_waits_longest() -> None:
    step = la.simulate("uniform", SLOW | {"parallel.microbatches": 20})
    first, second = excerpt(step).ranks
    stalled = {rank.rank: sum(rank.stalls_ns.values()) for rank in step.metrics.ranks}
    assert stalled[second.rank] == max(ns for rank, ns in stalled.items() if rank != first.rank)
    assert (second.why == "waits longest") == (stalled[second.rank] >= stalled[first.rank])


def test_of_a_long_step_a_stretch_is_shown_and_the_whole_of_its_memory() -> None:
    step = la.simulate("uniform", SLOW | LONG)
    found = excerpt(step)
    start, end = found.window_ns
    assert not found.whole and 0 < start < end < step.step_time_ns
    assert max(len(rank.boxes) for rank in found.ranks) > MOST_BOXES * 0.8
    for shown in found.ranks:
        assert len(shown.boxes) <= MOST_BOXES and len(shown.memory.t_ns) <= MOST_SAMPLES
        assert max(shown.memory.device_bytes) == step.metrics.ranks[shown.rank].peak_device_bytes
        # Nothing that lies in the stretch is left out.
        inside = (step.rank == shown.rank) & (step.end_ns > step.start_ns)
        inside &= (step.end_ns > start) & (step.start_ns < end)
        assert set(step.op[inside].tolist()) <= set(shown.boxes.op)


def test_how_busy_a_queue_is() -> None:
    step = la.simulate("uniform", SLOW | LONG)
    for shown in excerpt(step).ranks:
        assert len(shown.busy_percent) == MOST_BINS
        edges = np.linspace(0, step.step_time_ns, MOST_BINS + 1)
        mine = (step.rank == shown.rank) & (step.queue == Queue.COMPUTE)
        for j in (0, 17, 100, 199):
            inside = np.minimum(step.end_ns[mine], edges[j + 1]) - np.maximum(step.start_ns[mine], edges[j])
            share = 100 * inside.clip(0).sum() / (edges[j + 1] - edges[j])
            assert abs(shown.busy_percent[j] - share) <= 0.51


def test_the_same_operations_of_another_timeline() -> None:
    step = la.simulate("uniform", SLOW)
    late = replace(step, start_ns=step.start_ns + 5, end_ns=step.end_ns + 5 + step.op % 3)
    found = excerpt(step)
    again = same_excerpt(late, found)
    assert [rank.rank for rank in again.ranks] == [rank.rank for rank in found.ranks]
    for ours, theirs in zip(found.ranks, again.ranks, strict=True):
        assert ours.boxes.op == theirs.boxes.op
        assert theirs.boxes.start_ns == tuple(ns + 5 for ns in ours.boxes.start_ns)


def test_without_a_plan_nothing_is_said_of_waits() -> None:
    step = la.simulate("uniform", SLOW)
    for shown in excerpt(replace(step, plan=None)).ranks:
        assert set(shown.boxes.wait_ns) == {0} and set(shown.boxes.cause) == {-1} and set(shown.boxes.nbytes) == {0}
