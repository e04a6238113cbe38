"""One flat array of int64 holds everything that the compiled walk reads and writes.

Compiled functions get arrays by value, a dozen words each, and a bundle of them costs more to hand on than the work of
an operation. So they get this one array. Its first places hold scalars; then come sections of rows, a row for each
task, rank, unit, boundary and so on. The walk knows a row by its place in the array, so that an entry is one addition
away, and what is used together lies together: a task's row is one cache line.

A section that grows as the walk goes on has room for so many rows. A row too many is not written into the next section:
:func:`claim` writes the section's last row again and notes it, and :meth:`Arena.require_room` raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.costs import MOST_TOTAL, Costs
from loadahead.sim.ir.kinds import QUEUES_PER_RANK, UNIT_KINDS, Kind
from loadahead.sim.ir.plan import Ints
from loadahead.sim.placement import Reach
from loadahead.sim.planner.tasks import Tasks
from loadahead.sim.planner.workspaces import bytes_beside, kept_bytes
from loadahead.sim.step_metrics import STALLS
from loadahead.sim.workload import PassThrough, UnitShape, Workload, distinct_units

KINDS = len(Kind)
# These kinds move a unit's bytes; what their RECVs take is the SENDs'.
_MOVES = (Kind.OFFLOAD, Kind.PREFETCH, Kind.SEND_ACTIVATION, Kind.SEND_GRADIENT)
# Queues whose spans are kept: compute, d2h, h2d.
SPANNED = 3

# ---- rows: the places of their entries -------------------------------------------------------------------------------

# A task, or a rank's end, with the slot before it: a chain of boundaries to ACQUIRE, and one of RELEASE_ROWS. A task
# also has the pair of ranks over which what it reads arrives, and the one over which what it writes leaves, or -1.
T_UNIT, T_BOUNDARY, T_BACKWARD, T_ACQUIRE, T_RELEASE, T_LAST_RELEASE, T_ARRIVES, T_LEAVES = range(8)
TASK_WIDTH = 8  # a cache line
# A boundary: rows, operations and buffers, -1 for none. All but the first two are -1 again when its last task is done.
(
    X_UNIT,
    X_INDEX,
    X_BUFFER,
    X_RELEASE,  # the slot of its RELEASE, where it leaves
    X_SLOT,
    X_OFFLOAD,
    X_PREFETCH,
    X_NEXT,  # the next boundary whose ACQUIRE stands in the same slot
    X_GRADIENT,  # the buffer of the gradient of the unit's output
    # Of the boundary, and then of that gradient, where they come from another rank:
    X_MADE,  # the row of RELEASE_ROWS of what is to be sent
    X_TAKEN,  # the ACQUIRE of the memory it is sent into
    X_SENT,  # the SEND
) = range(12)
OF_GRADIENT = 3
BOUNDARY_WIDTH, FIRST_CLEARED = 16, X_BUFFER  # two cache lines
# A unit, its durations and workspaces by kind. Beside boundaries and gradients its FORWARD takes and frees bytes, and
# its BACKWARD frees some.
U_BOUNDARY, U_GRADIENT, U_CLASS, U_TAKES, U_FORWARD_FREES, U_BACKWARD_FREES = range(6)
U_ABOVE, U_BELOW, U_FROZEN, U_DURATION = range(6, 10)
U_WORKSPACE = U_DURATION + KINDS
_SIZES_END, _BESIDE_END = U_CLASS + 1, U_BACKWARD_FREES + 1
# Other kinds' durations are those of moves, or 0; none has a workspace.
_DURATIONS_END, _WORKSPACES_END = U_DURATION + len(UNIT_KINDS), U_WORKSPACE + len(UNIT_KINDS)
UNIT_WIDTH = U_WORKSPACE + KINDS
# What stands above or below a unit: nothing, a unit of the same rank, or one of another. Below the first unit that is
# trained stands nothing that wants a gradient: U_FROZEN says whether that is so of a unit, or whether it is frozen.
TRAINED, LOWEST_TRAINED, FROZEN = range(3)
END_OF_MODEL, SAME_RANK, OTHER_RANK = range(3)
# A rank. Spans are known by the place of the next one, of the first and behind the last, for each of the queues.
R_NUMBER, R_FIRST, R_NEXT, R_END, R_FREE, R_STATIC, R_OPTIMIZER, R_OPTIMIZER_WORKSPACE, R_CLOCK = range(9)
R_QUEUE_END = R_CLOCK + 1
R_LEVEL = R_QUEUE_END + QUEUES_PER_RANK
R_PEAK, R_BOUNDARY_LEVEL, R_BOUNDARY_PEAK, R_HOST, R_STALLED = range(R_LEVEL + 1, R_LEVEL + 6)
R_SPAN = R_STALLED + len(STALLS)
R_FIRST_SPAN, R_LAST_SPAN = R_SPAN + SPANNED, R_SPAN + 2 * SPANNED
R_NEEDED = R_LAST_SPAN + SPANNED  # where its boundaries begin in NEEDED
R_LAST_NEEDED = R_NEEDED + 1
R_OPEN = R_LAST_NEEDED + 1  # whether the slot before its next task is listed
R_ARRIVING = R_OPEN + 1  # the first task for whose arrivals no memory is taken yet
RANK_WIDTH = R_ARRIVING + 1
# A pair of ranks, one of which sends to the other: rows of ARRIVALS, in the order in which the receiver reads them.
P_FIRST, P_NEXT, P_END = range(3)
PAIR_WIDTH = 3
# What arrives: the row of the boundary, and 0, or OF_GRADIENT where it is the gradient of the unit's output.
ARRIVAL_WIDTH = 2
# A host slot.
S_BUFFER, S_EMPTIED_BY, S_NEXT = range(3)
SLOT_WIDTH = 3
# A RELEASE to come: the next one of its slot or -1, what it waits for (-1: a SEND that is not listed yet), what it
# frees, its boundary, bytes and role; and of what is sent the task that made it and the sender.
L_NEXT, L_WAITED, L_BUFFER, L_BOUNDARY, L_BYTES, L_ROLE, L_MADE, L_RANK = range(8)
RELEASE_WIDTH = 8
# An operation: rank, kind, boundary (-1: none), bytes, edges, then reads, writes, allocs and frees; short lists are
# padded with -1.
EDGES, LISTED = 2, 3
OP_WIDTH = 4 + EDGES + 4 * LISTED
# A buffer: rank, space, bytes, role and boundary.
BUFFER_WIDTH = 5

# ---- the array's first places ----------------------------------------------------------------------------------------

(
    MICROBATCHES,
    CLASSES,  # number of different boundary sizes
    CHECKPOINT,
    RECEIVE_AHEAD,  # number of tasks between an ACQUIRE of what arrives and the task that reads it
    ONE_STAGE,  # whether every rank holds one stage
    FIXED,  # whether RELEASEs of what was sent have fixed places
    OP_ROOM,
    BUFFER_ROOM,
    RELEASE_ROOM,
    SLOT_ROOM,
    # where each section begins
    TASK_ROWS,
    RANK_ROWS,
    UNIT_ROWS,
    BOUNDARY_ROWS,
    SLOT_ROWS,
    RELEASE_ROWS,
    PAIRS,
    ARRIVALS,
    NEEDED,  # the boundaries of each rank, the one whose BACKWARD is last first: (index, row)
    FREE,  # by rank and size class: a chain of slots
    END,  # when each operation ends
    SPANS,  # queue by queue, rank by rank, (start, end): when something ran there
    ROWS,
    BUFFER_ROWS,
    LAUNCH,  # by kind, to the end
) = range(25)
_FIRST_SECTION, _SECTIONS_END = TASK_ROWS, LAUNCH
_LAUNCH_END = LAUNCH + KINDS
# Scalars that change at every operation have a cache line each: a place that shares its line with one just written
# takes the processor longer to read than an operation's work takes.
OPS, BUFFERS, SLOTS, RELEASED, FIRST_START, FULL = range(48, 96, 8)
HEADER = 104
assert _LAUNCH_END <= OPS and FULL < HEADER, "the header's scalars overlap"

# The growing sections' names, for people.
_NAMES = {SLOT_ROWS: "SLOT_ROWS", RELEASE_ROWS: "RELEASE_ROWS", END: "END", SPANS: "SPANS", ROWS: "ROWS"}
_NAMES |= {BUFFER_ROWS: "BUFFER_ROWS"}


@dataclass(frozen=True, slots=True)
class UnitSizes:
    """Holds the bytes of each unit's boundary, gradient and workspaces, in the order of the model.

    Units whose boundaries have equal bytes are of one size class: their host slots can serve each other.

    Attributes:
        distinct: the units that are different objects; ``of_unit`` says which of them each unit is, shape (units,).
        rows: each unit's boundary and gradient bytes and its class, as they stand in its row; shape (units, 3).
        saved, state: each unit's saved and state bytes; shape (units,).
        passed: the tensors that units hand on unchanged.
        classes: how many size classes there are.
        total: the sum of all bytes.
    """

    distinct: Sequence[UnitShape]
    of_unit: Ints
    rows: Ints
    saved: Ints
    state: Ints
    passed: tuple[PassThrough, ...]
    classes: int
    total: float

    @classmethod
    def of(cls, workload: Workload) -> UnitSizes:
        """Return the sizes of all units of a workload."""
        distinct, of_unit = distinct_units(workload.stages)
        boundaries = sorted({unit.boundary_bytes for unit in distinct})
        of_size = {boundary: number for number, boundary in enumerate(boundaries)}
        sizes = [
            (unit.boundary_bytes, unit.gradient_bytes, of_size[unit.boundary_bytes], unit.saved_bytes, unit.state_bytes)
            for unit in distinct
        ]
        table = np.asarray(sizes, dtype=np.int64).take(of_unit, axis=0)
        rows, saved, state = table[:, :_SIZES_END], table[:, 3], table[:, 4]
        handed_on = sum(tensor.nbytes * len(tensor.readers) for tensor in workload.passed)
        total = float(table[:, [0, 1, 3, 4]].sum(dtype=np.float64)) + handed_on
        return cls(distinct, of_unit, rows, saved, state, workload.passed, len(boundaries), total)


class Arena:
    """Holds the array of one workload's tasks, with room for their largest plan.

    Args:
        operations: how many the largest plan has.
        checkpoint: whether units are recomputed.
        recording: whether there is room for the plan's rows.
    """

    def __init__(self, tasks: Tasks, sizes: UnitSizes, operations: int, *, checkpoint: bool, recording: bool) -> None:
        ranks, units, boundaries, count = tasks.ranks, len(tasks.rank), tasks.boundaries, len(tasks.unit)
        # A rank has at most one span per compute operation; of copies there are fewer.
        spans = 3 * np.diff(tasks.start) // 2 + 1
        # A unit may have an input, an output, two gradients, a loaded and a received buffer, and a host slot.
        buffers = 7 * boundaries
        pairs = _Pairs.of(tasks)
        self.classes = sizes.classes
        shapes: dict[int, tuple[int, ...]] = {
            TASK_ROWS: (count + ranks, TASK_WIDTH),
            RANK_ROWS: (ranks, RANK_WIDTH),
            UNIT_ROWS: (units, UNIT_WIDTH),
            BOUNDARY_ROWS: (boundaries, BOUNDARY_WIDTH),
            SLOT_ROWS: (boundaries, SLOT_WIDTH),
            RELEASE_ROWS: (2 * count, RELEASE_WIDTH),
            PAIRS: (len(pairs.starts) - 1, PAIR_WIDTH),
            ARRIVALS: (len(pairs.boundary), ARRIVAL_WIDTH),
            NEEDED: (int(tasks.backward.sum()), 2),
            FREE: (ranks, self.classes),
            END: (operations,),
            SPANS: (SPANNED, int(spans.sum()), 2),
            ROWS: (operations * recording, OP_WIDTH),
            BUFFER_ROWS: (buffers * recording, BUFFER_WIDTH),
        }
        sections = range(_FIRST_SECTION, _SECTIONS_END)
        ends = np.cumsum([HEADER, *(prod(shapes[section]) for section in sections)])
        self.memory: Ints = np.zeros(int(ends[-1]), dtype=np.int64)
        self.memory[_FIRST_SECTION:_SECTIONS_END] = ends[:-1]
        self._views = {
            section: self.memory[begin:end].reshape(shapes[section])
            for section, begin, end in zip(sections, ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        }
        for scalar, value in (
            (MICROBATCHES, tasks.microbatches),
            (CLASSES, self.classes),
            (CHECKPOINT, checkpoint),
            (ONE_STAGE, not tasks.several_stages),
            (OP_ROOM, operations),
            (BUFFER_ROOM, buffers),
            (RELEASE_ROOM, 2 * count),
            (SLOT_ROOM, boundaries),
        ):
            self.memory[scalar] = value
        self._put_tasks(tasks)
        self._put_ranks(tasks, spans)
        self._put_pairs(tasks, pairs)
        self.put_sizes(sizes, tasks)

    def _put_tasks(self, tasks: Tasks) -> None:
        boundary = np.arange(tasks.boundaries)
        rows = self._views[BOUNDARY_ROWS]
        rows[:, X_UNIT] = self._place(UNIT_ROWS, boundary // tasks.microbatches)
        rows[:, X_INDEX] = boundary
        above, below = (np.full(len(tasks.rank), END_OF_MODEL) for _ in range(2))
        above[:-1] = below[1:] = np.where(tasks.rank[1:] == tasks.rank[:-1], SAME_RANK, OTHER_RANK)
        units = self._views[UNIT_ROWS]
        units[:, U_ABOVE], units[:, U_BELOW], units[:, U_FROZEN] = above, below, TRAINED
        units[tasks.frozen_units, U_FROZEN] = LOWEST_TRAINED
        units[: tasks.frozen_units, U_FROZEN] = FROZEN
        # Behind each rank's tasks stands a row for its last slot.
        at = _rows_of_tasks(tasks)
        index = tasks.unit * tasks.microbatches + tasks.microbatch
        rows = self._views[TASK_ROWS]
        rows[at, T_UNIT], rows[at, T_BOUNDARY] = (
            self._place(UNIT_ROWS, tasks.unit),
            self._place(BOUNDARY_ROWS, index),
        )
        rows[at, T_BACKWARD] = tasks.backward
        latest = np.flatnonzero(tasks.backward)[::-1]
        rank = np.searchsorted(tasks.start, latest, side="right") - 1
        needed = index[latest[np.argsort(rank, kind="stable")]]
        self._views[NEEDED][:, 0], self._views[NEEDED][:, 1] = needed, self._place(BOUNDARY_ROWS, needed)
        ends = np.concatenate([[0], np.cumsum(np.bincount(rank, minlength=tasks.ranks))])
        rows = self._views[RANK_ROWS]
        rows[:, R_NEEDED], rows[:, R_LAST_NEEDED] = self._place(NEEDED, ends[:-1]), self._place(NEEDED, ends[1:])
        self.clear()

    def _put_ranks(self, tasks: Tasks, spans: Ints) -> None:
        rank = np.arange(tasks.ranks)
        rows = self._views[RANK_ROWS]
        rows[:, R_NUMBER], rows[:, R_FREE] = rank, self._place(FREE, rank)
        rows[:, R_FIRST] = self._place(TASK_ROWS, tasks.start[:-1] + rank)
        rows[:, R_END] = self._place(TASK_ROWS, tasks.start[1:] + rank)
        for queue in range(SPANNED):
            last = int(self.memory[SPANS]) + 2 * (queue * int(spans.sum()) + np.cumsum(spans))
            rows[:, R_FIRST_SPAN + queue], rows[:, R_LAST_SPAN + queue] = last - 2 * spans, last

    def _put_pairs(self, tasks: Tasks, pairs: _Pairs) -> None:
        ends = self._place(ARRIVALS, pairs.starts)
        rows = self._views[PAIRS]
        rows[:, P_FIRST], rows[:, P_END] = ends[:-1], ends[1:]
        rows = self._views[ARRIVALS]
        rows[:, 0], rows[:, 1] = self._place(BOUNDARY_ROWS, pairs.boundary), pairs.gradient * OF_GRADIENT
        rows, at = self._views[TASK_ROWS], _rows_of_tasks(tasks)
        for column, pair in ((T_ARRIVES, pairs.arrives), (T_LEAVES, pairs.leaves)):
            rows[at, column] = np.where(pair >= 0, self._place(PAIRS, pair), -1)

    def _place(self, section: int, row: Ints) -> Ints:
        """Return the places of a section's rows in the array."""
        out: Ints = int(self.memory[section]) + row * self._views[section].shape[1]
        return out

    def view(self, section: int) -> Ints:
        """Return a section of the array, in its shape, without copying."""
        return self._views[section]

    def clear(self) -> None:
        """Forget a walk that came to a halt; one that reached its end leaves nothing behind."""
        clear(self.memory)

    def put_sizes(self, sizes: UnitSizes, tasks: Tasks) -> None:
        """Take other sizes, of as many units and with as many different boundaries."""
        assert sizes.classes == self.classes, "an arena has room for its number of size classes"
        units, checkpoint = self._views[UNIT_ROWS], bool(self.memory[CHECKPOINT])
        units[:, U_BOUNDARY:_SIZES_END] = sizes.rows
        kept = kept_bytes(sizes.saved, sizes.state, checkpoint, tasks.frozen_units)
        beside = bytes_beside(kept, sizes.passed, tasks, checkpoint)
        for column, amounts in zip(range(_SIZES_END, _BESIDE_END), beside, strict=True):
            units[:, column] = amounts

    def put_costs(self, costs: Costs, table: Ints, sizes: UnitSizes, tasks: Tasks) -> bool:
        """Take costs and return whether all sums of a step are sure to fit 64 bits; where not, do not walk.

        ``table`` is what :meth:`loadahead.sim.costs.Costs.table` returns.
        """
        units = self._views[UNIT_ROWS]
        units[:, U_DURATION:_DURATIONS_END] = table[:, : len(UNIT_KINDS)]
        units[:, U_WORKSPACE:_WORKSPACES_END] = table[:, len(UNIT_KINDS) :]
        boundaries = [unit.boundary_bytes for unit in sizes.distinct]
        gradients = [unit.gradient_bytes for unit in sizes.distinct]
        sent = {Kind.SEND_ACTIVATION: boundaries, Kind.SEND_GRADIENT: gradients}
        times = [costs.transfer_times(kind, sent.get(kind, boundaries)) for kind in _MOVES]
        is_apart = costs.placement.is_apart(tasks.ranks)
        far = [
            (reach, kind, costs.transfer_times(kind, of_units, reach))
            for reach in (Reach.BOTH, Reach.NETWORK)
            for kind, of_units in sent.items()
            if is_apart
        ]
        if max(map(max, [*times, *(of_unit for *_, of_unit in far)])) > MOST_TOTAL:
            return False
        of_unit = np.asarray(times, dtype=np.int64).T.take(sizes.of_unit, axis=0)
        units[:, [U_DURATION + kind for kind in _MOVES]] = of_unit
        # What a unit reads comes as far as its gradient goes: a pair of ranks is as far apart both ways.
        below = np.concatenate([tasks.rank[:1], tasks.rank[:-1]])
        to_below = costs.placement.reach(tasks.ranks, below, tasks.rank) if is_apart else below
        for reach, kind, of_size in far:
            there = to_below == reach
            units[there, U_DURATION + kind] = np.asarray(of_size, dtype=np.int64)[sizes.of_unit[there]]
        # A unit sends what the unit above reads.
        activations = units[:, U_DURATION + Kind.SEND_ACTIVATION]
        activations[:-1], activations[-1] = activations[1:], 0
        self.memory[LAUNCH:_LAUNCH_END] = costs.launch_table()
        ranks, placement = self._views[RANK_ROWS], (tasks.stage_rank, tasks.ranks)
        ranks[:, R_STATIC], ranks[:, R_OPTIMIZER] = costs.static(*placement), costs.optimizer(*placement)
        ranks[:, R_OPTIMIZER_WORKSPACE] = costs.optimizer_bytes(*placement)
        # Host slots are counted once for each GPU of a host.
        return self._most(sizes) * float(costs.placement.occupancy(tasks.ranks)[:, 2].max()) <= MOST_TOTAL

    def _most(self, sizes: UnitSizes) -> float:
        """Return no less than any sum of a step's times or bytes, as a float, which does not wrap."""
        amounts = float(self._views[UNIT_ROWS][:, U_DURATION:].sum(dtype=np.float64))
        launches = float(max(self.memory[LAUNCH:_LAUNCH_END].tolist())) * float(self.memory[OP_ROOM])
        ranks = self._views[RANK_ROWS][:, [R_STATIC, R_OPTIMIZER, R_OPTIMIZER_WORKSPACE]]
        # No unit has more than seven buffers of a microbatch at once.
        return (
            (amounts + 7 * sizes.total) * float(self.memory[MICROBATCHES])
            + launches
            + float(sum(ranks.ravel().tolist()))
        )

    def require_room(self) -> None:
        """Raise RuntimeError where the walk met a section that had no room left: a fault of the planner's."""
        if self.memory[FULL]:
            name = _NAMES[int(self.memory[FULL])]
            raise RuntimeError(f"the planner's arena is too small: section {name} has no room for what the walk adds")


def _rows_of_tasks(tasks: Tasks) -> Ints:
    """Return the row of each task among TASK_ROWS, where behind each rank's tasks stands one for its last slot."""
    out: Ints = np.arange(len(tasks.unit)) + np.repeat(np.arange(tasks.ranks), np.diff(tasks.start))
    return out


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Holds what ranks send to each other, by pairs of a sender and a receiver, in the order in which it is read.

    Attributes:
        starts: where each pair's arrivals begin, and the end; shape (pairs + 1,).
        boundary, gradient: of each arrival the boundary, and whether it is the gradient of the unit's output.
        arrives, leaves: of each task the pair over which what it reads arrives and what it writes leaves, or -1.
    """

    starts: Ints
    boundary: Ints
    gradient: Ints
    arrives: Ints
    leaves: Ints

    @classmethod
    def of(cls, tasks: Tasks) -> _Pairs:
        """Return what the tasks send to each other."""
        own, last = tasks.rank[tasks.unit], len(tasks.rank) - 1
        # What a task reads comes from the unit below, or in a BACKWARD from the one above; what it writes goes on.
        from_unit, to_unit = (tasks.unit + np.where(tasks.backward.astype(bool), step, -step) for step in (1, -1))
        reads = (from_unit >= 0) & (from_unit <= last)
        lowest = np.where(tasks.backward.astype(bool), tasks.frozen_units, 0)
        writes = (to_unit >= lowest) & (to_unit <= last)
        arrives, leaves = (np.full(len(own), -1, dtype=np.int64) for _ in range(2))
        for out, unit, there, sends in ((arrives, from_unit, reads, False), (leaves, to_unit, writes, True)):
            other = tasks.rank[np.clip(unit, 0, last)]
            sender, receiver = (own, other) if sends else (other, own)
            at = there & (own != other)
            out[at] = (sender * tasks.ranks + receiver)[at]
        order = np.flatnonzero(arrives >= 0)
        order = order[np.argsort(arrives[order], kind="stable")]
        names, starts = np.unique(arrives[order], return_index=True)
        for out in (arrives, leaves):
            out[out >= 0] = np.searchsorted(names, out[out >= 0])
        boundary = tasks.unit * tasks.microbatches + tasks.microbatch
        ends = np.append(starts, len(order)).astype(np.int64)
        return cls(ends, boundary[order], tasks.backward[order].astype(np.int64), arrives, leaves)


@compiled
def clear(m):  # type: ignore[no-untyped-def]
    """Forget what a walk has left of boundaries and tasks."""
    for x in range(m[BOUNDARY_ROWS], m[SLOT_ROWS], BOUNDARY_WIDTH):
        m[x + FIRST_CLEARED : x + BOUNDARY_WIDTH] = -1
    for t in range(m[TASK_ROWS], m[RANK_ROWS], TASK_WIDTH):
        m[t + T_ACQUIRE] = m[t + T_RELEASE] = -1


@compiled
def get(m, place):  # type: ignore[no-untyped-def]
    """Return the entry at a place; unsigned, so that numba does not look whether it is counted from the end."""
    return m[np.uint64(place)]


@compiled
def put(m, place, value):  # type: ignore[no-untyped-def]
    """Set the entry at a place."""
    m[np.uint64(place)] = value


@compiled
def add(m, place, value):  # type: ignore[no-untyped-def]
    """Add to the entry at a place."""
    m[np.uint64(place)] += value


@inlined
def claim(m, counter, room, section):  # type: ignore[no-untyped-def]
    """Return the next row of a growing section; where it has no room left, note it and return its last row."""
    index = m[counter]
    if index >= m[room]:
        m[FULL] = section
        return m[room] - 1
    m[counter] = index + 1
    return index
