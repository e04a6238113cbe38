"""A step's figures for many policies, without making their plans: what a sweep is made of.

The planner's own walk runs with a clock and writes no rows (:mod:`sim.planner.lower`), so that the figures are those of
the plan that would be built, as the engines simulate it. Tasks are made once for all policies that differ only in what
is offloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from sim.costs import MOST_TOTAL, Costs
from sim.errors import InputError
from sim.ir.kinds import QUEUES_PER_RANK, Kind
from sim.ir.plan import Ints
from sim.planner import Policy
from sim.planner.build import model_of, operations_of
from sim.planner.lower import (
    BOUNDARY_PEAK,
    HOST,
    LEVEL,
    PEAK,
    STALL_PREFETCH,
    STALL_RECV,
    STALL_RELEASE,
    TOTALS,
    Clock,
    Desk,
    Model,
    Rows,
    lower,
    make_desk,
    no_rows,
)
from sim.planner.offload import decide_into
from sim.planner.tasks import Tasks, tasks_of
from sim.workload import Workload

# A point's whole numbers, in the order of a sweep's table; ``overlap`` comes beside them.
INTS = (
    "step_time_ns", "peak_device_bytes", "peak_boundary_bytes", "peak_host_bytes",
    "stall_release_ns", "stall_prefetch_ns", "stall_recv_ns", "offloaded", "kept",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Everything that policies share which differ only in horizon, its unit, release window and whether to offload."""

    tasks: Tasks
    model: Model
    desk: Desk
    clock: Clock
    rows: Rows
    static: Ints
    checkpoint: bool

    @classmethod
    def of(cls, workload: Workload, costs: Costs, policy: Policy) -> Group:
        """InputError where workload, costs and policy do not go together."""
        tasks = tasks_of(workload, policy)
        model = model_of(tasks, workload)
        operations = operations_of(tasks, policy.checkpoint, tasks.boundaries if policy.checkpoint else 0)
        clock = _clock(workload, costs, tasks, model, operations)
        _require_totals(workload, tasks, clock, operations)
        return cls(
            tasks=tasks, model=model, desk=make_desk(model), clock=clock, rows=no_rows(),
            static=costs.static(tasks.ranks), checkpoint=policy.checkpoint,
        )  # fmt: skip


def _clock(workload: Workload, costs: Costs, tasks: Tasks, model: Model, operations: int) -> Clock:
    duration, workspace = costs.tables([len(stage) for stage in workload.stages])
    at = np.arange(len(model.rank))
    above = np.minimum(at + 1, len(at) - 1)
    for kind, nbytes in (
        (Kind.OFFLOAD, model.boundary),
        (Kind.PREFETCH, model.boundary),
        (Kind.SEND_ACTIVATION, model.boundary[above]),
        (Kind.SEND_GRADIENT, model.gradient),
    ):
        duration[:, kind] = costs.transfer(kind, nbytes)
    # A rank has at most one span per compute operation, and one per copy.
    spans = 3 * np.diff(tasks.start) // 2 + 1
    ranks = tasks.ranks
    return Clock(
        duration=duration, workspace=workspace, launch=costs.launch_table(), optimizer=costs.optimizer(ranks),
        optimizer_workspace=costs.optimizer_bytes(ranks), end=np.empty(operations, dtype=np.int64),
        queue_end=np.empty(ranks * QUEUES_PER_RANK, dtype=np.int64), host=np.empty(ranks, dtype=np.int64),
        totals=np.empty((ranks, TOTALS), dtype=np.int64), spans=np.empty((3, int(spans.sum()), 2), dtype=np.int64),
        span_start=np.concatenate([[0], np.cumsum(spans)[:-1]]).astype(np.int64),
        span_count=np.empty((3, ranks), dtype=np.int64), step=np.empty(2, dtype=np.int64),
    )  # fmt: skip


def _require_totals(workload: Workload, tasks: Tasks, clock: Clock, operations: int) -> None:
    """InputError unless every sum of the step stays well inside int64."""
    times = float(clock.duration.sum(dtype=np.float64)) * tasks.microbatches + float(clock.optimizer.sum())
    times += float(clock.launch.max()) * operations
    sizes = 8.0 * tasks.microbatches * float(np.sum([u.boundary_bytes + u.gradient_bytes + u.saved_bytes
                                                     for stage in workload.stages for u in stage], dtype=np.float64))  # fmt: skip
    for total, what, unit in ((times, "durations", "ns"), (sizes, "sizes", "bytes")):
        if total > MOST_TOTAL:
            raise InputError(f"the step's {what} add up to {total:.3g} {unit}; at most {MOST_TOTAL} can be simulated")


def figures(group: Group, policies: Sequence[Policy]) -> list[dict[str, Any]]:
    """Each policy's row of a sweep's table, without the axes. Times in ns, sizes in bytes.

    Peaks and stalls are those of the rank that has most of each; ``overlap`` is that of all ranks' copies together.
    """
    settings = np.asarray(
        [(p.horizon, p.horizon_unit == "layers", p.release_window, p.offload) for p in policies], dtype=np.int64
    ).reshape(len(policies), 4)
    ints, overlap = np.empty((len(policies), len(INTS)), dtype=np.int64), np.empty(len(policies))
    slots = np.empty(group.tasks.boundaries, dtype=np.int64)
    stuck = _evaluate(
        group.desk, group.model, group.rows, group.clock, slots, group.tasks.forward_at, group.static,
        group.checkpoint, settings, ints, overlap,
    )  # fmt: skip
    if stuck >= 0:
        raise InputError(f"pipeline {policies[0].pipeline!r} deadlocks: rank {stuck} waits and no rank can go on")
    out = []
    for row, share in zip(ints.tolist(), overlap.tolist(), strict=True):
        named = dict(zip(INTS[:7], row[:7], strict=True))
        out.append(named | {"overlap": share, "offloaded": row[7], "kept": row[8]})
    return out


@njit(cache=True)
def _evaluate(desk, model, rows, clock, slots, forward_at, static, checkpoint, settings, ints, overlap):  # type: ignore[no-untyped-def]
    microbatches = len(slots) // len(model.rank)
    for p in range(len(settings)):
        horizon, layers, window, offload = settings[p, 0], settings[p, 1] != 0, settings[p, 2], settings[p, 3] != 0
        if checkpoint and offload:
            decide_into(
                slots, model.start, model.unit, model.microbatch, model.backward, forward_at, model.backward_at,
                microbatches, horizon, layers, window,
            )  # fmt: skip
        else:
            slots[:] = -1
        _reset(clock, static)
        stuck = lower(desk, model, rows, clock, slots, checkpoint, window)
        if stuck >= 0:
            return stuck
        overlap[p] = _summary(clock, ints[p])
        offloaded = 0
        for slot in slots:
            offloaded += slot >= 0
        ints[p, 7], ints[p, 8] = offloaded, len(slots) - offloaded
    return -1


@njit(cache=True)
def _reset(clock, static):  # type: ignore[no-untyped-def]
    clock.queue_end[:] = 0
    clock.host[:] = 0
    clock.span_count[:] = 0
    clock.totals[:] = 0
    clock.step[0], clock.step[1] = np.iinfo(np.int64).max, 0
    for rank in range(len(static)):
        clock.totals[rank, LEVEL] = clock.totals[rank, PEAK] = static[rank]


@njit(cache=True)
def _summary(clock, out):  # type: ignore[no-untyped-def]
    """Fill the first seven figures; returns the overlap."""
    out[0] = clock.step[1] - clock.step[0]
    out[1:7] = 0
    copying, hidden = 0, 0.0
    for rank in range(len(clock.totals)):
        totals = clock.totals[rank]
        out[1], out[2], out[3] = max(out[1], totals[PEAK]), max(out[2], totals[BOUNDARY_PEAK]), max(out[3], totals[HOST])
        out[4], out[5] = max(out[4], totals[STALL_RELEASE]), max(out[5], totals[STALL_PREFETCH])
        out[6] = max(out[6], totals[STALL_RECV])
        first = clock.span_start[rank]
        busy = clock.spans[0, first : first + clock.span_count[0, rank]]
        leaving = clock.spans[1, first : first + clock.span_count[1, rank]]
        coming = clock.spans[2, first : first + clock.span_count[2, rank]]
        moving, both = _moving(busy, leaving, coming)
        if moving:
            copying += moving
            hidden += both / moving * moving
    return hidden / copying if copying else 0.0


@njit(cache=True)
def _moving(busy, leaving, coming):  # type: ignore[no-untyped-def]
    """(time in which any copy runs, time in which one and compute run); every queue's spans stand in order."""
    moving = both = 0
    i = j = k = 0
    while i < len(leaving) or j < len(coming):
        if j == len(coming) or (i < len(leaving) and leaving[i, 0] <= coming[j, 0]):
            start, end = leaving[i, 0], leaving[i, 1]
            i += 1
        else:
            start, end = coming[j, 0], coming[j, 1]
            j += 1
        while True:  # whatever begins inside belongs to the same stretch of copying
            if i < len(leaving) and leaving[i, 0] <= end:
                end = max(end, leaving[i, 1])
                i += 1
            elif j < len(coming) and coming[j, 0] <= end:
                end = max(end, coming[j, 1])
                j += 1
            else:
                break
        moving += end - start
        while k < len(busy) and busy[k, 1] <= start:
            k += 1
        while k < len(busy) and busy[k, 0] < end:
            both += min(busy[k, 1], end) - max(busy[k, 0], start)
            if busy[k, 1] > end:
                break
            k += 1
    return moving, both


__all__ = ["INTS", "Group", "figures"]
