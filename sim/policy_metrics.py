"""A sweep computes a step's metrics for many policies here, without making their plans.

The planner's own walk runs with a clock and writes no rows (:mod:`loadahead.sim.planner.lower`), so that the metrics
are those of the plan that would be built, as the engines simulate it. Tasks are made once for all policies that differ
only in what is offloaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from loadahead.sim.costs import MOST_TOTAL, Costs
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.planner import Policy
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import Arena, UnitSizes, get
from loadahead.sim.planner.build import operations_of
from loadahead.sim.planner.lower import lower
from loadahead.sim.planner.offload import decide
from loadahead.sim.planner.tasks import tasks_of
from loadahead.sim.step_metrics import METRIC_COLUMNS, SweepRow
from loadahead.sim.workload import Workload

# A row's integer metrics, in the order in which the compiled walk writes them; ``overlap``, a float, comes beside them.
_INTEGERS = [name for name in METRIC_COLUMNS if name not in ("overlap", "kept")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyGroup:
    """Holds what policies share that differ only in horizon, its unit, release window and whether to offload."""

    arena: Arena
    boundaries: int

    @classmethod
    def of(cls, workload: Workload, costs: Costs, policy: Policy) -> PolicyGroup:
        """Return the group of one of its policies; raise InputError where workload, costs and policy do not match."""
        tasks, sizes = tasks_of(workload, policy), UnitSizes.of(workload)
        operations = operations_of(tasks, policy.checkpoint, tasks.boundaries if policy.checkpoint else 0)
        arena = Arena(tasks, sizes, operations, recording=False)
        arena.memory[a.CHECKPOINT] = policy.checkpoint
        _put_costs(arena, costs, sizes, [len(stage) for stage in workload.stages])
        _require_totals(arena, sizes, operations)
        return cls(arena=arena, boundaries=tasks.boundaries)


def _put_costs(arena: Arena, costs: Costs, sizes: UnitSizes, units: list[int]) -> None:
    ranks = int(arena.memory[a.RANKS])
    duration, arena.view(a.WORKSPACE)[...] = costs.tables(units)
    above = np.minimum(np.arange(len(sizes.boundary)) + 1, len(sizes.boundary) - 1)
    for kind, nbytes in (
        (Kind.OFFLOAD, sizes.boundary),
        (Kind.PREFETCH, sizes.boundary),
        (Kind.SEND_ACTIVATION, sizes.boundary[above]),
        (Kind.SEND_GRADIENT, sizes.gradient),
    ):
        duration[:, kind] = costs.transfer(kind, nbytes)
    arena.view(a.DURATION)[...] = duration
    arena.view(a.LAUNCH)[...] = costs.launch_table()
    arena.view(a.OPTIMIZER)[...] = costs.optimizer(ranks)
    arena.view(a.OPTIMIZER_WORKSPACE)[...] = costs.optimizer_bytes(ranks)
    arena.view(a.STATIC)[...] = costs.static(ranks)


def _require_totals(arena: Arena, sizes: UnitSizes, operations: int) -> None:
    """Raise InputError unless every sum of the step stays well inside int64; floats are used, which do not wrap."""
    microbatches = float(arena.memory[a.MICROBATCHES])
    times = float(arena.view(a.DURATION).sum(dtype=np.float64)) * microbatches + float(arena.view(a.OPTIMIZER).sum())
    times += float(arena.view(a.LAUNCH).max()) * operations
    # No unit has more than seven buffers of a microbatch at once.
    nbytes = 7 * microbatches * float((sizes.boundary + sizes.gradient + sizes.saved).sum(dtype=np.float64))
    for total, what, unit in ((times, "durations", "ns"), (nbytes, "sizes", "bytes")):
        if total > MOST_TOTAL:
            raise InputError(f"the step's {what} add up to {total:.3g} {unit}; at most {MOST_TOTAL} can be simulated")


def metrics_rows(
    group: PolicyGroup, policies: Sequence[Policy], axes: Sequence[Mapping[str, Any]] | None = None
) -> list[SweepRow]:
    """Return each policy's row of a sweep's table; ``axes`` holds each row's.

    Raise InputError for a pipeline order that deadlocks.
    """
    settings = np.asarray(
        [(p.horizon, p.horizon_unit == "layers", p.release_window, p.offload) for p in policies], dtype=np.int64
    ).reshape(len(policies), 4)
    ints, overlap = np.empty((len(policies), len(_INTEGERS)), dtype=np.int64), np.empty(len(policies))
    stuck = int(_evaluate(group.arena.memory, settings, ints, overlap))
    if stuck >= 0:
        raise InputError(f"pipeline {policies[0].pipeline!r} deadlocks: rank {stuck} waits and no rank can go on")
    rows = zip(axes or [{}] * len(policies), ints.tolist(), overlap.tolist(), strict=True)
    return [_row(group, own, values, hidden_share) for own, values, hidden_share in rows]


def _row(group: PolicyGroup, axes: Mapping[str, Any], values: list[int], overlap: float) -> SweepRow:
    metrics = dict(zip(_INTEGERS, values, strict=True))
    return SweepRow(axes=axes, overlap=overlap, kept=group.boundaries - metrics["offloaded"], **metrics)


@njit(cache=True)
def _evaluate(m, settings, ints, overlap):  # type: ignore[no-untyped-def]
    for p in range(len(settings)):
        horizon, layers, window, offload = settings[p, 0], settings[p, 1] != 0, settings[p, 2], settings[p, 3] != 0
        ints[p, 7] = decide(m, horizon, layers, window, offload)
        stuck = lower(m)
        if stuck >= 0:
            return stuck
        overlap[p] = _summary(m, ints[p])
    return -1


@njit(cache=True)
def _summary(m, out):  # type: ignore[no-untyped-def]
    """Fill the first seven integer metrics and return the overlap."""
    out[0] = m[a.LAST_END] - m[a.FIRST_START]
    out[1:7] = 0
    copying, hidden = 0, 0.0
    spans = m[a.SPAN_ROOM]
    for rank in range(m[a.RANKS]):
        out[1], out[2] = max(out[1], get(m, a.PEAK, rank)), max(out[2], get(m, a.BOUNDARY_PEAK, rank))
        out[3], out[4] = max(out[3], get(m, a.HOST_BYTES, rank)), max(out[4], get(m, a.STALL_RELEASE, rank))
        out[5], out[6] = max(out[5], get(m, a.STALL_PREFETCH, rank)), max(out[6], get(m, a.STALL_RECV, rank))
        first = m[a.SPANS] + 2 * get(m, a.SPAN_START, rank)
        busy = m[first : first + 2 * get(m, a.SPAN_COUNT, 3 * rank)]
        leaving = m[first + 2 * spans : first + 2 * spans + 2 * get(m, a.SPAN_COUNT, 3 * rank + 1)]
        coming = m[first + 4 * spans : first + 4 * spans + 2 * get(m, a.SPAN_COUNT, 3 * rank + 2)]
        moving, both = _moving(busy, leaving, coming)
        if moving:
            copying += moving
            hidden += both / moving * moving
    return hidden / copying if copying else 0.0


@njit(cache=True)
def _moving(busy, leaving, coming):  # type: ignore[no-untyped-def]
    """Return (time in which any copy runs, time in which both a copy and compute run), in ns.

    Each array holds one queue's spans in order, start and end in turn.
    """
    moving = both = 0
    i = j = k = 0
    while i < len(leaving) or j < len(coming):
        if j == len(coming) or (i < len(leaving) and leaving[i] <= coming[j]):
            start, end = leaving[i], leaving[i + 1]
            i += 2
        else:
            start, end = coming[j], coming[j + 1]
            j += 2
        while True:  # a copy that begins inside belongs to the same stretch of copying
            if i < len(leaving) and leaving[i] <= end:
                end = max(end, leaving[i + 1])
                i += 2
            elif j < len(coming) and coming[j] <= end:
                end = max(end, coming[j + 1])
                j += 2
            else:
                break
        moving += end - start
        while k < len(busy) and busy[k + 1] <= start:
            k += 2
        while k < len(busy) and busy[k] < end:
            both += min(busy[k + 1], end) - max(busy[k], start)
            if busy[k + 1] > end:
                break
            k += 2
    return moving, both


__all__ = ["PolicyGroup", "metrics_rows"]
