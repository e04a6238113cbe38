"""The metrics of one step follow from a plan and any timeline of it, predicted or measured."""

from __future__ import annotations

import numpy as np

from loadahead.sim.host_memory import HostMemory
from loadahead.sim.ir.kinds import TASK_KINDS, Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.memory import MemoryWalk, peak_operations, transport_during
from loadahead.sim.overlap import of_spans, overlap, spans
from loadahead.sim.placement import Placement
from loadahead.sim.stalls import STALL_OF, Waits, waits
from loadahead.sim.step_metrics import STALLS, PeakParts, RankMetrics, StepMetrics, stall_field
from loadahead.sim.timeline import Timeline

_TASKS = np.asarray([kind in TASK_KINDS for kind in Kind])


def _rank_metrics(
    plan: Plan, timeline: Timeline, rank: int, memory: MemoryWalk, parts: PeakParts, waited: Waits, step_time_ns: int
) -> RankMetrics:
    start, end, kind = timeline.start_ns, timeline.end_ns, plan.ops.kind
    compute = plan.queue_ops(rank, Queue.COMPUTE)
    tasks = compute[_TASKS[kind[compute]]]
    queues = (tasks, plan.queue_ops(rank, Queue.D2H), plan.queue_ops(rank, Queue.H2D))
    copy_ns, hidden_ns = of_spans(*(spans(start[queue], end[queue]) for queue in queues))
    wait, of_stall = waited.wait_ns[compute], STALL_OF[waited.blamed[compute]]
    compute_ns = int((end[tasks] - start[tasks]).sum())
    return RankMetrics(
        rank=rank,
        peak_device_bytes=int(memory.peak_device[rank]),
        peak_boundary_bytes=int(memory.peak_boundary[rank]),
        peak_host_bytes=int(memory.peak_host[rank]),
        compute_ns=compute_ns,
        idle_ns=step_time_ns - compute_ns,
        **{stall_field(stall): int(wait[of_stall == at].sum()) for at, stall in enumerate(STALLS)},
        copy_ns=copy_ns,
        overlap=overlap(copy_ns, hidden_ns),
        peak_parts=parts,
    )


def peak_parts(plan: Plan, memory: MemoryWalk) -> list[PeakParts]:
    """Return what each rank's peak is made of, where it is met first.

    What is neither resident nor a buffer on its way or kept is inside the operation that runs: a unit's, or the
    optimizer's.
    """
    transport, out = transport_during(plan), []
    for rank, op in enumerate(peak_operations(plan, memory).tolist()):
        static, peak = int(memory.static[rank]), int(memory.peak_device[rank])
        boundaries, on_the_way = (int(memory.boundary_during[op]), int(transport[op])) if op >= 0 else (0, 0)
        inside = peak - static - boundaries - on_the_way
        optimizer = op < 0 or plan.ops.kind[op] == Kind.OPTIMIZER_STEP
        out.append(
            PeakParts(
                weights_and_optimizer_bytes=static + (inside if optimizer else 0),
                inside_units_bytes=0 if optimizer else inside,
                boundaries_bytes=boundaries,
                transport_bytes=on_the_way,
            )
        )
    return out


def step_metrics(
    plan: Plan, timeline: Timeline, memory: MemoryWalk, placement: Placement, launches: Ints | None = None
) -> StepMetrics:
    """Return the metrics of a timeline whose rows stand in the plan's list order, and whose ranks have this placement.

    ``launches`` is the host's time to issue each operation, in ns, of shape (operations,), where it is known.
    ``memory`` brings the peaks: a prediction walks them from the plan, a measurement takes them from its meter.
    """
    waited = waits(plan, timeline.end_ns, launches)
    parts = peak_parts(plan, memory)
    step_time_ns = timeline.step_time_ns
    ranks = tuple(
        _rank_metrics(plan, timeline, rank, memory, parts[rank], waited, step_time_ns) for rank in range(plan.ranks)
    )
    offloaded, kept = offload_counts(plan)
    return StepMetrics(
        step_time_ns=step_time_ns,
        ranks=ranks,
        offloaded=offloaded,
        kept=kept,
        host_bytes=HostMemory.of(memory.peak_host, placement).nbytes,
    )


def offload_counts(plan: Plan) -> tuple[int, int]:
    """Return how many boundaries leave the GPU and how many wait there for BACKWARD, counted from the operations."""
    offloaded = int((plan.ops.kind == Kind.OFFLOAD).sum())
    return offloaded, int(((plan.ops.kind == Kind.FORWARD) & ~plan.is_frozen).sum()) - offloaded
