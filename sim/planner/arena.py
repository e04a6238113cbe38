"""One flat array of int64, in named sections, holds everything that the compiled planner reads and writes.

Compiled functions get arrays by value, a dozen words each, and a bundle of them costs more to hand on than the work of
an operation. So they get this one array, whose first places hold the scalars and where each section begins.

A section that grows as the walk goes on has room for so many rows. A row too many is not written into the next section:
:func:`claim` writes the section's last row again and notes it, and :meth:`Arena.require_room` raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.ir.kinds import QUEUES_PER_RANK, Kind
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner.tasks import Tasks
from loadahead.sim.step_metrics import STALLS
from loadahead.sim.workload import Workload

KINDS = len(Kind)
# A row of ROWS holds rank, kind, boundary (-1: none), bytes, edges, then reads, writes, allocs and frees; short lists
# are padded with -1.
EDGES, LISTED = 2, 3
OP_WIDTH = 4 + EDGES + 4 * LISTED
# A row of BUFFER_ROWS holds rank, space, bytes, role and boundary.
BUFFER_WIDTH = 5
# A row of RELEASES holds the next row of its slot or -1, operation to wait for, buffer, boundary, bytes and role.
RELEASE_WIDTH = 6
# Queues whose spans are kept: compute, d2h, h2d.
SPANNED = 3


# These are places at the array's start: the scalars come first, then where each section begins.
(
    RANKS,
    UNITS,
    MICROBATCHES,
    CLASSES,  # number of different boundary sizes
    SPAN_ROOM,  # spans that one queue has room for, those of all ranks together
    CHECKPOINT,
    SENT_WINDOW,  # number of tasks that follow one before the RELEASE of what it sent
    RECORDING,  # whether rows are written
    OP_ROOM,
    BUFFER_ROOM,
    RELEASE_ROOM,
    SLOT_ROOM,
    # tasks of all ranks, one rank after the other
    TASK_UNIT,
    TASK_MICROBATCH,
    TASK_BACKWARD,
    TASK_START,  # where each rank's tasks begin, and the end
    # chains by slot, one more than tasks per rank
    FIRST_ACQUIRE,  # of boundaries, through NEXT_ACQUIRE
    FIRST_RELEASE,  # of rows of RELEASES
    LAST_RELEASE,
    RELEASES,  # two rows per task
    # units
    UNIT_RANK,
    BOUNDARY_BYTES,
    GRADIENT_BYTES,
    SAVED_BYTES,
    SIZE_CLASS,
    DURATION,  # by kind
    WORKSPACE,  # by kind
    # boundaries: operations and buffers by position, -1 for none
    UNIT_OF,
    FORWARD_AT,
    BACKWARD_AT,
    RELEASE_SLOT,
    ACQUIRE_SLOT,
    NEXT_ACQUIRE,
    BOUNDARY_BUFFER,
    GRADIENT_BUFFER,
    SAVED_BUFFER,
    OFFLOAD_OP,
    PREFETCH_OP,
    SENT,
    SENT_GRADIENT,
    SLOT,
    # host slots, at most one per boundary
    SLOT_BUFFER,
    EMPTIED_BY,
    NEXT_FREE,
    # ranks
    FREE,  # by size class: a chain of slots through NEXT_FREE
    NEXT_TASK,
    HOST_CLOCK,
    QUEUE_END,  # by queue
    OPTIMIZER,
    OPTIMIZER_WORKSPACE,
    STATIC,
    LEVEL,
    BOUNDARY_LEVEL,
    PEAK,
    BOUNDARY_PEAK,
    HOST_BYTES,
    STALLED,  # by stall
    SPAN_START,
    SPAN_COUNT,  # by queue: compute, d2h, h2d
    # the rest
    LAUNCH,  # by kind
    END,  # when each operation ends
    SPANS,  # queue, span, (start, end): when something ran there
    ROWS,
    BUFFER_ROWS,
) = range(64)
PLACES = 64
_FIRST_SECTION = TASK_UNIT
# Scalars that change at every operation have a cache line each: a place that shares its line with one just written
# takes the processor longer to read than an operation's work takes.
OPS, BUFFERS, SLOTS, RELEASED, FIRST_START, LAST_END, FULL = range(72, 128, 8)
_HEADER = 136
assert BUFFER_ROWS < PLACES <= OPS and FULL < _HEADER, "a section has no place of its own"

# The sections' names, for people.
_NAMES = {place: name for name, place in list(globals().items()) if name.isupper() and isinstance(place, int)}


@dataclass(frozen=True, slots=True)
class Distinct:
    """Holds amounts of which many units share one: the distinct ones, and the place of each unit's, shape (units,)."""

    distinct: Ints
    of_unit: Ints

    @classmethod
    def of(cls, amounts: Sequence[int]) -> Distinct:
        """Return the distinct amounts, smallest first."""
        distinct, of_unit = np.unique(np.asarray(amounts, dtype=np.int64), return_inverse=True)
        return cls(distinct, of_unit.astype(np.int64))

    def by_unit(self) -> Ints:
        """Return each unit's amount; shape (units,)."""
        return self.distinct[self.of_unit]


@dataclass(frozen=True, slots=True)
class UnitSizes:
    """Holds the bytes of each unit's boundary, gradient and saved activations, in the order of the model.

    Units whose boundaries have equal bytes are of one size class: their host slots can serve each other. ``total`` is
    the sum of all bytes.
    """

    boundaries: Distinct
    gradients: Distinct
    saved: Ints
    total: float

    @classmethod
    def of(cls, workload: Workload) -> UnitSizes:
        """Return the sizes of all units of a workload."""
        units = [unit for stage in workload.stages for unit in stage]
        boundaries = Distinct.of([unit.boundary_bytes for unit in units])
        gradients = Distinct.of([unit.gradient_bytes for unit in units])
        saved = np.asarray([unit.saved_bytes for unit in units], dtype=np.int64)
        amounts = (boundaries.by_unit(), gradients.by_unit(), saved)
        return cls(boundaries, gradients, saved, sum(float(column.sum(dtype=np.float64)) for column in amounts))


class Arena:
    """Holds the array of one workload's tasks, with room for their largest plan.

    Args:
        operations: how many the largest plan has.
        recording: whether rows are written. Clock and memory are always kept; without costs they stay at 0.
    """

    def __init__(self, tasks: Tasks, sizes: UnitSizes, operations: int, *, recording: bool) -> None:
        ranks, units, boundaries, count = tasks.ranks, len(tasks.rank), tasks.boundaries, len(tasks.unit)
        # A rank has at most one span per compute operation; of copies there are fewer.
        spans = 3 * np.diff(tasks.start) // 2 + 1
        # A unit may have an input, an output, saved bytes, a gradient, a loaded and a received buffer, and a host slot.
        buffers = 7 * boundaries
        self.classes = len(sizes.boundaries.distinct)
        slots = count + ranks
        shapes: dict[int, tuple[int, ...]] = {
            **_alike((count,), TASK_UNIT, TASK_MICROBATCH, TASK_BACKWARD),
            TASK_START: (ranks + 1,),
            **_alike((slots,), FIRST_ACQUIRE, FIRST_RELEASE, LAST_RELEASE),
            RELEASES: (2 * count, RELEASE_WIDTH),
            **_alike((units,), *_between(UNIT_RANK, DURATION)),
            **_alike((units, KINDS), DURATION, WORKSPACE),
            **_alike((boundaries,), *_between(UNIT_OF, FREE)),
            FREE: (ranks, self.classes),
            **_alike((ranks,), *_between(NEXT_TASK, LAUNCH)),
            QUEUE_END: (ranks, QUEUES_PER_RANK),
            STALLED: (ranks, len(STALLS)),
            SPAN_COUNT: (ranks, SPANNED),
            LAUNCH: (KINDS,),
            END: (operations,),
            SPANS: (SPANNED, int(spans.sum()), 2),
            ROWS: (operations * recording, OP_WIDTH),
            BUFFER_ROWS: (buffers * recording, BUFFER_WIDTH),
        }
        sections = range(_FIRST_SECTION, PLACES)
        ends = np.cumsum([_HEADER, *(prod(shapes[section]) for section in sections)])
        self.memory: Ints = np.zeros(int(ends[-1]), dtype=np.int64)
        self.memory[_FIRST_SECTION:PLACES] = ends[:-1]
        self._views = {
            section: self.memory[begin:end].reshape(shapes[section])
            for section, begin, end in zip(sections, ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        }
        for scalar, value in (
            (RANKS, ranks),
            (UNITS, units),
            (MICROBATCHES, tasks.microbatches),
            (CLASSES, self.classes),
            (SPAN_ROOM, int(spans.sum())),
            (RECORDING, recording),
            (OP_ROOM, operations),
            (BUFFER_ROOM, buffers),
            (RELEASE_ROOM, 2 * count),
            (SLOT_ROOM, boundaries),
        ):
            self.memory[scalar] = value
        for section, column in (
            (TASK_UNIT, tasks.unit),
            (TASK_MICROBATCH, tasks.microbatch),
            (TASK_BACKWARD, tasks.backward),
            (TASK_START, tasks.start),
            (UNIT_RANK, tasks.rank),
            (UNIT_OF, np.arange(boundaries) // tasks.microbatches),
            (FORWARD_AT, tasks.forward_at),
            (BACKWARD_AT, tasks.backward_at),
            (SPAN_START, np.cumsum(spans) - spans),
        ):
            self.view(section)[...] = column
        self.put_sizes(sizes)

    def view(self, section: int) -> Ints:
        """Return a section of the array, in its shape, without copying."""
        return self._views[section]

    def put_sizes(self, sizes: UnitSizes) -> None:
        """Take other sizes, of as many units and with as many different boundaries."""
        assert len(sizes.boundaries.distinct) == self.classes, "an arena has room for its number of size classes"
        self._views[BOUNDARY_BYTES][...] = sizes.boundaries.by_unit()
        self._views[GRADIENT_BYTES][...] = sizes.gradients.by_unit()
        self._views[SAVED_BYTES][...] = sizes.saved
        self._views[SIZE_CLASS][...] = sizes.boundaries.of_unit

    def require_room(self) -> None:
        """Raise RuntimeError where the walk met a section that had no room left: a fault of the planner's."""
        if self.memory[FULL]:
            name = _NAMES[int(self.memory[FULL])]
            raise RuntimeError(f"the planner's arena is too small: section {name} has no room for what the walk adds")


def _between(first: int, end: int) -> Iterable[int]:
    return range(first, end)


def _alike(shape: tuple[int, ...], *sections: int) -> dict[int, tuple[int, ...]]:
    return dict.fromkeys(sections, shape)


@compiled
def get(m, section, index):  # type: ignore[no-untyped-def]
    """Return an entry of a section."""
    return m[np.uint64(m[section] + index)]


@compiled
def put(m, section, index, value):  # type: ignore[no-untyped-def]
    """Set an entry of a section."""
    m[np.uint64(m[section] + index)] = value


@compiled
def add(m, section, index, value):  # type: ignore[no-untyped-def]
    """Add to an entry of a section."""
    m[np.uint64(m[section] + index)] += value


@inlined
def claim(m, counter, room, section):  # type: ignore[no-untyped-def]
    """Return the next row of a growing section; where it has no room left, note it and return its last row."""
    index = m[counter]
    if index >= m[room]:
        m[FULL] = section
        return m[room] - 1
    m[counter] = index + 1
    return index
