"""The bound of an order under memory limits is reckoned here; docs/bound.md says why no plan beats it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from loadahead.sim.clock import host_times
from loadahead.sim.compiled import compiled
from loadahead.sim.costs import MOST_TOTAL
from loadahead.sim.engines.compiled_engine import run_alone
from loadahead.sim.ir.kinds import QUEUES_PER_RANK, Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.memory import walk as walk_memory
from loadahead.sim.planner import build_plan
from loadahead.sim.step_metrics import step_time
from loadahead.sim.tuning import bound_walk as w
from loadahead.sim.tuning.answer import Candidate
from loadahead.sim.tuning.bound import COMPUTE, CRITICAL_PATH, LINK, Bound
from loadahead.sim.tuning.limits import Limits
from loadahead.sim.tuning.trial import Trial


def bound_of(trial: Trial, limits: Limits, keep_all: Candidate) -> Bound:
    """Return the bound of the order under the limits, whatever leaves and at whatever slots.

    Where no plan keeps the limits it says nothing beyond what keeping all takes.
    """
    del keep_all
    plan = build_plan(trial.workload, replace(trial.policy, offload=False))
    times = run_alone(plan, trial.costs)
    critical = step_time(int(times.start_ns.min()), int(times.end_ns.max()))
    rank, compute = _compute(plan, trial, times.start_ns)
    link = _link(plan, trial, limits)
    step = max(compute, critical, 0 if link is None else link.step_time_ns)
    limited_by, whose = COMPUTE, rank
    if compute < step:
        limited_by, whose = CRITICAL_PATH, None
    if link is not None and max(compute, critical) < step:
        limited_by, whose = LINK, link.rank
    return Bound(
        step_time_ns=step,
        limited_by=limited_by,
        rank=whose,
        compute_ns=compute,
        link_ns=0 if link is None else link.step_time_ns,
        critical_path_ns=critical,
        link_bytes=link.nbytes if link is not None and limited_by == LINK else 0,
    )


def _compute(plan: Plan, trial: Trial, start: Ints) -> tuple[int, int]:
    """Return the rank whose tasks take longest, with what comes before and after them, and how long that is, in ns."""
    durations, ops = trial.costs.durations(plan), plan.ops
    behind = np.zeros(len(plan), dtype=np.int64)
    _behind(durations, plan.previous_in_queue, ops.after.starts, ops.after.values, behind)
    sums = []
    for rank in range(plan.ranks):
        own = plan.queue_ops(rank, Queue.COMPUTE)
        own = own[ops.kind[own] <= Kind.BACKWARD_WEIGHT]
        sums.append(int(start[own[0]] - start.min() + durations[own].sum() + behind[own[-1]]) if len(own) else 0)
    longest = max(range(plan.ranks), key=sums.__getitem__)
    return longest, sums[longest]


@compiled
def _behind(duration, previous, starts, values, behind):  # type: ignore[no-untyped-def]
    """Fill how long what has to follow each operation takes at the least, of shape (operations,)."""
    for i in range(len(duration) - 1, -1, -1):
        from_here = behind[i] + duration[i]
        if previous[i] >= 0:
            behind[previous[i]] = max(behind[previous[i]], from_here)
        for e in range(starts[i], starts[i + 1]):
            behind[values[e]] = max(behind[values[e]], from_here)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """Holds the bound by links: the step's time, the rank whose link it is, and the bytes that must leave that one."""

    step_time_ns: int
    rank: int
    nbytes: int


def _link(plan: Plan, trial: Trial, limits: Limits) -> _Link | None:
    """Return the bound by links; None where nothing must leave, or nothing can."""
    tasks, ranks, part = _tasks_and_ranks(plan, trial, limits)
    if not trial.policy.checkpoint or not tasks[:, w.EXCESS].any() or not _fits(plan, trial):
        return None
    ops = plan.ops
    queue_end = np.zeros(plan.ranks * QUEUES_PER_RANK, dtype=np.int64)
    end, cause = np.zeros(len(plan), dtype=np.int64), np.zeros(len(plan), dtype=np.int64)
    first = w.walk(
        trial.costs.durations(plan),
        plan.queue_index,
        ops.rank,
        ops.after.starts,
        ops.after.values,
        *host_times(plan, trial.costs.launches(plan)),
        _operations(plan, trial),
        tasks,
        ranks,
        queue_end,
        end,
        cause,
    )
    rank = _rank_of_path(ops.rank, end, cause)
    nbytes = int(w.parts_that_leave(tasks, ranks[rank])) * part[rank]
    return _Link(step_time_ns=step_time(int(first), int(end.max())), rank=rank, nbytes=nbytes)


def _fits(plan: Plan, trial: Trial) -> bool:
    """Return whether all that the walk adds up is sure to fit 64 bits, were every boundary to leave."""
    sizes = trial.sizes
    copies = sum(trial.costs.transfer(kind, sizes).sum(dtype=np.float64) for kind in (Kind.OFFLOAD, Kind.PREFETCH))
    own = trial.costs.durations(plan).sum(dtype=np.float64) + trial.costs.launches(plan).sum(dtype=np.float64)
    return bool(own + copies * trial.tasks.microbatches < MOST_TOTAL)


def _operations(plan: Plan, trial: Trial) -> Ints:
    """Return what each operation is to its task: the columns of :data:`bound_walk.SLOT` and the following."""
    kind, starts = plan.ops.kind, trial.tasks.start
    out = np.zeros((len(plan), w.OPERATION_COLUMNS), dtype=np.int64)
    out[:, w.SLOT] = -1
    out[:, w.BEGINS] = (kind == Kind.FORWARD) | (kind == Kind.RECOMPUTE)
    out[:, w.ENDS] = (kind == Kind.FORWARD) | (kind == Kind.BACKWARD)
    for rank in range(plan.ranks):
        own = plan.queue_ops(rank, Queue.COMPUTE)
        begun = np.cumsum(out[own, w.BEGINS])
        task = starts[rank] + begun - (kind[own] <= Kind.BACKWARD)
        inside = (kind[own] <= Kind.BACKWARD) | (kind[own] == Kind.ACQUIRE)
        out[own[inside], w.SLOT] = task[inside]
    return out


def _tasks_and_ranks(plan: Plan, trial: Trial, limits: Limits) -> tuple[Ints, Ints, list[int]]:
    """Return what the walk knows of tasks and of ranks, and the bytes of each rank's parts."""
    tasks, memory, ops = trial.tasks, walk_memory(plan, trial.costs), plan.ops
    count = len(tasks.unit)
    out = np.zeros((count, w.TASK_COLUMNS), dtype=np.int64)
    first = np.repeat(tasks.start[:-1], np.diff(tasks.start))
    boundary = tasks.unit * tasks.microbatches + tasks.microbatch
    partner = np.where(tasks.backward.astype(bool), tasks.forward_at[boundary], tasks.backward_at[boundary])
    out[:, w.FORWARD] = 1 - tasks.backward
    out[:, w.PARTNER] = np.where(partner >= 0, first + partner, -1)
    over = np.zeros(len(plan), dtype=np.int64)
    for held, limit in ((memory.during, limits.device_bytes), (memory.boundary_during, limits.boundary_bytes)):
        if limit is not None:
            over = np.maximum(over, held - limit)
    is_task = ops.kind <= Kind.BACKWARD
    excess = np.zeros(count, dtype=np.int64)
    slot = _operations(plan, trial)[:, w.SLOT]
    np.maximum.at(excess, slot[is_task], over[is_task])
    ranks = np.zeros((tasks.ranks, w.RANK_COLUMNS), dtype=np.int64)
    part = []
    size = np.where(partner >= 0, trial.sizes[tasks.unit], 0)
    out_ns, in_ns = (trial.costs.transfer(kind, trial.sizes) for kind in (Kind.OFFLOAD, Kind.PREFETCH))
    for rank in range(tasks.ranks):
        own = slice(int(tasks.start[rank]), int(tasks.start[rank + 1]))
        each = int(np.gcd.reduce(size[own], initial=0)) or 1
        part.append(each)
        out[own, w.PARTS] = size[own] // each
        out[own, w.EXCESS] = -(-excess[own] // each)
        needed = np.flatnonzero(excess[own])
        span = (own.start + needed[0], own.start + needed[-1]) if len(needed) else (count, -1)
        units = [
            unit for unit in np.unique(tasks.unit[own]).tolist() if unit >= tasks.frozen_units and trial.sizes[unit]
        ]
        rates = [
            _quickest([(int(ns[unit]), int(trial.sizes[unit]) // each) for unit in units]) for ns in (out_ns, in_ns)
        ]
        ranks[rank] = own.start, own.stop, *span, *rates[0], *rates[1]
    return out, ranks, part


def _quickest(copies: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the copy that takes least for its parts, as (ns, parts)."""
    return min(copies, key=lambda copy: Fraction(*copy), default=(0, 1))


def _rank_of_path(rank_of: Ints, end: Ints, cause: Ints) -> int:
    """Return the rank on whose links the longest path waits longest."""
    waits: dict[int, int] = {}
    at = int(end.argmax())
    while at >= 0:
        before = int(cause[at])
        if before < -1:
            before = -2 - before
            rank = int(rank_of[at])
            waits[rank] = waits.get(rank, 0) + int(end[at] - end[before])
        at = before
    return max(sorted(waits), key=waits.__getitem__, default=0)
