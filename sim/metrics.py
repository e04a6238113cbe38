"""The metrics of one step follow from a plan and any timeline of it, predicted or measured."""

from __future__ import annotations

import numpy as np

from loadahead.sim.ir.kinds import RECV_KINDS, TASK_KINDS, Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.launch import earliest_times
from loadahead.sim.memory import MemoryWalk
from loadahead.sim.step_metrics import RankMetrics, StepMetrics
from loadahead.sim.timeline import Timeline

# A wait for an operation of one of these kinds counts as the stall named here.
_STALL_OF = {
    Kind.OFFLOAD: "release",
    Kind.SEND_ACTIVATION: "release",
    Kind.SEND_GRADIENT: "release",
    Kind.PREFETCH: "prefetch",
    **dict.fromkeys(RECV_KINDS, "recv"),
}
_TASKS = sorted(TASK_KINDS)


def waits(plan: Plan, end_ns: Ints, launches: Ints | None = None) -> tuple[Ints, Ints]:
    """Return how long each operation waited for an edge while its queue and its host were ready for it.

    The result is (wait in ns, kind of the operation waited for last or -1), both of shape (operations,). Of edges that
    ended at the same time the first listed counts.
    """
    before, after = plan.previous_in_queue, plan.ops.after
    ready = np.where(before >= 0, end_ns[before], 0)
    if launches is not None:
        ready = np.maximum(ready, earliest_times(plan, launches)[0])
    rows, sources = after.rows(), after.values
    wait, kind = np.zeros(len(plan), dtype=np.int64), np.full(len(plan), -1, dtype=np.int64)
    if len(sources):
        # Sort by row and end time, latest last (first listed last among equals), and take each row's last entry.
        order = np.lexsort((-np.arange(len(sources)), end_ns[sources], rows))
        last = order[np.flatnonzero(np.append(rows[order][1:] != rows[order][:-1], True))]
        wait[rows[last]] = np.maximum(end_ns[sources[last]] - ready[rows[last]], 0)
        kind[rows[last]] = plan.ops.kind[sources[last]]
    return wait, kind


def merge(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Return the union of intervals as (starts, ends) of disjoint intervals in order."""
    keep = end > start
    start, end = start[keep], end[keep]
    if not len(start):
        return start, end
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    opens = np.append(True, start[1:] > reach[:-1])
    closes = np.append(opens[1:], True)
    return start[opens], reach[closes]


def intersection(a: tuple[Ints, Ints], b: tuple[Ints, Ints]) -> int:
    """Return the length of what two unions of disjoint ordered intervals have in common."""
    if not len(a[0]) or not len(b[0]):
        return 0
    total = np.concatenate([[0], np.cumsum(a[1] - a[0])])

    def measure(t: Ints) -> Ints:
        """Return the length of ``a`` before each time."""
        index = np.searchsorted(a[0], t, side="right")
        inside = np.maximum(a[1][np.maximum(index - 1, 0)] - t, 0)
        out: Ints = total[index] - np.where(index > 0, inside, 0)
        return out

    return int((measure(b[1]) - measure(b[0])).sum())


def _rank_metrics(
    plan: Plan, timeline: Timeline, rank: int, peaks: tuple[int, int, int], wait: Ints, waited_for: Ints
) -> RankMetrics:
    start, end, kind = timeline.start_ns, timeline.end_ns, plan.ops.kind
    compute = plan.queue_ops(rank, Queue.COMPUTE)
    tasks = compute[np.isin(kind[compute], _TASKS)]
    copies = np.concatenate([plan.queue_ops(rank, Queue.D2H), plan.queue_ops(rank, Queue.H2D)])
    busy, moving = merge(start[tasks], end[tasks]), merge(start[copies], end[copies])
    stalls = dict.fromkeys(("release", "prefetch", "recv"), 0)
    for code, stall in _STALL_OF.items():
        stalls[stall] += int(wait[compute][waited_for[compute] == code].sum())
    compute_ns = int((end[tasks] - start[tasks]).sum())
    copy_ns = int((moving[1] - moving[0]).sum())
    return RankMetrics(
        rank=rank,
        peak_device_bytes=peaks[0],
        peak_boundary_bytes=peaks[1],
        peak_host_bytes=peaks[2],
        compute_ns=compute_ns,
        idle_ns=timeline.step_time_ns - compute_ns,
        stall_release_ns=stalls["release"],
        stall_prefetch_ns=stalls["prefetch"],
        stall_recv_ns=stalls["recv"],
        copy_ns=copy_ns,
        overlap=intersection(busy, moving) / copy_ns if copy_ns else 0.0,
    )


def step_metrics(plan: Plan, timeline: Timeline, memory: MemoryWalk, launches: Ints | None = None) -> StepMetrics:
    """Return the metrics of a timeline whose rows stand in the plan's list order.

    ``launches`` is the host's time to issue each operation, in ns, of shape (operations,), where it is known.
    ``memory`` brings the peaks: a prediction walks them from the plan, a measurement takes them from its meter.
    """
    wait, waited_for = waits(plan, timeline.end_ns, launches)
    ranks = []
    for rank in range(plan.ranks):
        peaks = (int(memory.peak_device[rank]), int(memory.peak_boundary[rank]), int(memory.peak_host[rank]))
        ranks.append(_rank_metrics(plan, timeline, rank, peaks, wait, waited_for))
    offloaded, kept = offload_counts(plan)
    return StepMetrics(step_time_ns=timeline.step_time_ns, ranks=tuple(ranks), offloaded=offloaded, kept=kept)


def offload_counts(plan: Plan) -> tuple[int, int]:
    """Return how many boundaries leave the GPU and how many stay, counted from the plan's operations."""
    offloaded = int((plan.ops.kind == Kind.OFFLOAD).sum())
    return offloaded, int((plan.ops.kind == Kind.FORWARD).sum()) - offloaded
