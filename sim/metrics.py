"""The metrics of one step follow from a plan and any timeline of it, predicted or measured."""

from __future__ import annotations

import numpy as np

from loadahead.sim.ir.kinds import TASK_KINDS, Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.memory import MemoryWalk
from loadahead.sim.overlap import of_spans, overlap, spans
from loadahead.sim.stalls import STALL_OF, Waits, waits
from loadahead.sim.step_metrics import STALLS, RankMetrics, StepMetrics, stall_field
from loadahead.sim.timeline import Timeline

_TASKS = np.asarray([kind in TASK_KINDS for kind in Kind])


def _rank_metrics(plan: Plan, timeline: Timeline, rank: int, peaks: tuple[int, int, int], waited: Waits) -> RankMetrics:
    start, end, kind = timeline.start_ns, timeline.end_ns, plan.ops.kind
    compute = plan.queue_ops(rank, Queue.COMPUTE)
    tasks = compute[_TASKS[kind[compute]]]
    queues = (tasks, plan.queue_ops(rank, Queue.D2H), plan.queue_ops(rank, Queue.H2D))
    copy_ns, hidden_ns = of_spans(*(spans(start[queue], end[queue]) for queue in queues))
    wait, of_stall = waited.wait_ns[compute], STALL_OF[waited.blamed[compute]]
    compute_ns = int((end[tasks] - start[tasks]).sum())
    return RankMetrics(
        rank=rank,
        peak_device_bytes=peaks[0],
        peak_boundary_bytes=peaks[1],
        peak_host_bytes=peaks[2],
        compute_ns=compute_ns,
        idle_ns=timeline.step_time_ns - compute_ns,
        **{stall_field(stall): int(wait[of_stall == at].sum()) for at, stall in enumerate(STALLS)},
        copy_ns=copy_ns,
        overlap=overlap(copy_ns, hidden_ns),
    )


def step_metrics(plan: Plan, timeline: Timeline, memory: MemoryWalk, launches: Ints | None = None) -> StepMetrics:
    """Return the metrics of a timeline whose rows stand in the plan's list order.

    ``launches`` is the host's time to issue each operation, in ns, of shape (operations,), where it is known.
    ``memory`` brings the peaks: a prediction walks them from the plan, a measurement takes them from its meter.
    """
    waited = waits(plan, timeline.end_ns, launches)
    ranks = []
    for rank in range(plan.ranks):
        peaks = (int(memory.peak_device[rank]), int(memory.peak_boundary[rank]), int(memory.peak_host[rank]))
        ranks.append(_rank_metrics(plan, timeline, rank, peaks, waited))
    offloaded, kept = offload_counts(plan)
    return StepMetrics(step_time_ns=timeline.step_time_ns, ranks=tuple(ranks), offloaded=offloaded, kept=kept)


def offload_counts(plan: Plan) -> tuple[int, int]:
    """Return how many boundaries leave the GPU and how many wait there for BACKWARD, counted from the operations."""
    offloaded = int((plan.ops.kind == Kind.OFFLOAD).sum())
    return offloaded, int(((plan.ops.kind == Kind.FORWARD) & ~plan.is_frozen).sum()) - offloaded
