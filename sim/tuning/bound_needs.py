"""What memory limits ask of an order: how much of a rank's boundaries has to be away during each of its tasks.

It is read off the walk of keeping all, as what a task holds beside boundaries is the same in every plan of the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from loadahead.sim.costs import MOST_TOTAL
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.memory import walk
from loadahead.sim.tuning import bound_walk as w
from loadahead.sim.tuning.limits import Limits
from loadahead.sim.tuning.trial import Trial

# Copies of fewer parts than this are looked up; of more, their time follows from the quickest copy.
LOOKED_UP = 1024
# Of a copy out and of one back; of one size, (ns, parts).
_Copies = list[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Holds what :func:`loadahead.sim.tuning.bound_walk.walk` asks about operations, tasks and ranks.

    Attributes:
        operations: the columns of :data:`bound_walk.SLOT` and those after it; shape (operations, 3).
        tasks: those of :data:`bound_walk.FORWARD` and those after it; shape (tasks, 4).
        ranks: those of :data:`bound_walk.FIRST` and those after it; shape (ranks, 9).
        stretches: where each boundary may be away: :data:`bound_walk.MADE` and those after it; shape (stretches, 8).
        tables: what copies out and back of so many parts take at the least, in ns; shape (ranks, 2, parts).
        part: the bytes of each rank's parts.
        largest: the parts of each rank's largest boundary.
    """

    operations: Ints
    tasks: Ints
    ranks: Ints
    stretches: Ints
    tables: Ints
    part: tuple[int, ...]
    largest: tuple[int, ...]

    @classmethod
    def of(cls, plan: Plan, trial: Trial, limits: Limits) -> Needs:
        """Return the needs of a trial's order under limits; ``plan`` is the one that keeps all."""
        operations = _operations(plan, trial)
        excess = _excess(plan, trial, limits, operations[:, w.SLOT])
        tasks, start = _tasks(trial), trial.tasks.start
        ranks = np.zeros((trial.tasks.ranks, w.RANK_COLUMNS), dtype=np.int64)
        tables = np.zeros((trial.tasks.ranks, 2, LOOKED_UP), dtype=np.int64)
        part, largest = [], []
        for rank, (first, end) in enumerate(zip(start[:-1].tolist(), start[1:].tolist(), strict=True)):
            own, copies = slice(first, end), _copies(trial, rank)
            each = int(np.gcd.reduce(tasks[own, w.PARTS])) or 1
            tasks[own, w.PARTS] //= each
            needed = np.flatnonzero(excess[own]) + first
            span = (int(needed[0]), int(needed[-1])) if len(needed) else (len(tasks), -1)
            of_parts = [[(ns, nbytes // each) for ns, nbytes in way] for way in copies]
            ranks[rank] = first, end, *span, *_quickest(of_parts[0]), *_quickest(of_parts[1]), rank
            tables[rank] = [_least(tuple(way)) for way in of_parts]
            tasks[own, w.EXCESS] = _sums(-(-excess[own] // each), [parts for _, parts in of_parts[0]])
            part.append(each)
            largest.append(int(tasks[own, w.PARTS].max(initial=1)) or 1)
        return cls(
            operations=operations,
            tasks=tasks,
            ranks=ranks,
            stretches=_stretches(tasks, ranks),
            tables=tables,
            part=tuple(part),
            largest=tuple(largest),
        )

    @property
    def any(self) -> bool:
        """Return whether anything has to be away."""
        return bool(self.tasks[:, w.EXCESS].any())

    def parts_that_leave(self, rank: int) -> int:
        """Return the fewest parts that leave a rank in any plan that keeps the limits."""
        return int(w.parts_that_leave(self.tasks, self.ranks[rank]))


def _operations(plan: Plan, trial: Trial) -> Ints:
    """Return the slot of each ACQUIRE, the task of each operation of a task, and which begin and end one."""
    kind = plan.ops.kind
    out = np.zeros((len(plan), w.OPERATION_COLUMNS), dtype=np.int64)
    out[:, w.SLOT] = -1
    out[:, w.BEGINS] = (kind == Kind.FORWARD) | (kind == Kind.RECOMPUTE)
    out[:, w.ENDS] = (kind == Kind.FORWARD) | (kind == Kind.BACKWARD)
    for rank in range(plan.ranks):
        own = plan.queue_ops(rank, Queue.COMPUTE)
        of_task = kind[own] <= Kind.BACKWARD
        at = trial.tasks.start[rank] + np.cumsum(out[own, w.BEGINS]) - of_task
        inside = of_task | (kind[own] == Kind.ACQUIRE)
        out[own[inside], w.SLOT] = at[inside]
    return out


def _excess(plan: Plan, trial: Trial, limits: Limits, slot: Ints) -> Ints:
    """Return how many bytes each task holds beyond the limits where all is kept; shape (tasks,)."""
    memory, over = walk(plan, trial.costs), np.zeros(len(plan), dtype=np.int64)
    for held, limit in ((memory.during, limits.device_bytes), (memory.boundary_during, limits.boundary_bytes)):
        if limit is not None:
            over = np.maximum(over, held - limit)
    out = np.zeros(len(trial.tasks.unit), dtype=np.int64)
    of_task = plan.ops.kind <= Kind.BACKWARD
    np.maximum.at(out, slot[of_task], over[of_task])
    return out


def _tasks(trial: Trial) -> Ints:
    """Return what is known of each task, with bytes in the place of parts and no excess."""
    tasks = trial.tasks
    out = np.zeros((len(tasks.unit), w.TASK_COLUMNS), dtype=np.int64)
    boundary = tasks.unit * tasks.microbatches + tasks.microbatch
    partner = np.where(tasks.backward.astype(bool), tasks.forward_at[boundary], tasks.backward_at[boundary])
    first = np.repeat(tasks.start[:-1], np.diff(tasks.start))
    out[:, w.FORWARD] = 1 - tasks.backward
    out[:, w.PARTNER] = np.where(partner >= 0, first + partner, -1)
    out[:, w.PARTS] = np.where(partner >= 0, trial.sizes[tasks.unit], 0)
    return out


def _stretches(tasks: Ints, ranks: Ints) -> Ints:
    """Return where each boundary may be away: from the task behind its FORWARD to the one before its BACKWARD."""
    made = np.flatnonzero((tasks[:, w.FORWARD] > 0) & (tasks[:, w.PARTS] > 0))
    needed = tasks[made, w.PARTNER]
    made, needed = made[needed > made + 1], needed[needed > made + 1]
    out = np.full((len(made), w.STRETCH_COLUMNS), -1, dtype=np.int64)
    out[:, w.MADE], out[:, w.FROM], out[:, w.TO], out[:, w.NEEDED] = made, made + 1, needed - 1, needed
    out[:, w.SIZE] = tasks[made, w.PARTS]
    out[:, w.RANK] = np.searchsorted(ranks[:, w.END], made, side="right")
    return out


def _copies(trial: Trial, rank: int) -> list[_Copies]:
    """Return the copies of a rank's different boundaries, out and back: each as (ns, bytes)."""
    units = np.flatnonzero(trial.tasks.rank == rank)
    sizes = np.unique(trial.sizes[units[units >= trial.tasks.frozen_units]])
    sizes = sizes[sizes > 0]
    ways = (trial.costs.transfer(kind, sizes) for kind in (Kind.OFFLOAD, Kind.PREFETCH))
    return [list(zip(ns.tolist(), sizes.tolist(), strict=True)) for ns in ways]


def _quickest(copies: _Copies) -> tuple[int, int]:
    """Return the copy that takes least for its parts, as (ns, parts)."""
    return min(copies, key=lambda copy: Fraction(*copy), default=(0, 1))


@lru_cache
def _least(copies: tuple[tuple[int, int], ...]) -> list[int]:
    """Return the least that any copies of so many parts together, or more, take; of 0 parts and so on, in ns."""
    out = [0] * LOOKED_UP
    for parts in range(1, LOOKED_UP):
        least = min((ns + out[max(0, parts - own)] for ns, own in copies), default=0)
        out[parts] = min(least, MOST_TOTAL)  # a step of more is not walked
    return out


def _sums(least: Ints, sizes: Sequence[int]) -> Ints:
    """Return the smallest sum of boundaries that is no less, where it is looked up; shape (tasks,)."""
    # Of copies that take as long as they have parts, the quickest are the smallest.
    table = np.asarray(_least(tuple((own, own) for own in sizes)), dtype=np.int64)
    out: Ints = np.maximum(least, table[np.minimum(least, LOOKED_UP - 1)])
    return out
