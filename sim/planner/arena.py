"""One flat array of int64, in named sections, holds everything that the compiled planner reads and writes.

Compiled functions get arrays by value, a dozen words each, and a bundle of them costs more to hand on than the work of
an operation. So they get this one array, whose first places hold the scalars and where each section begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

import numpy as np
from numba import njit

from loadahead.sim.ir.kinds import QUEUES_PER_RANK, Kind
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner.tasks import Tasks
from loadahead.sim.workload import Workload

KINDS = len(Kind)
# A row of ROWS holds rank, kind, boundary (-1: none), bytes, edges, then reads, writes, allocs and frees; short lists
# are padded with -1.
EDGES, LISTED = 2, 3
OP_WIDTH = 4 + EDGES + 4 * LISTED
# A row of BUFFER_ROWS holds rank, space, bytes, role and boundary.
BUFFER_WIDTH = 5
# A row of RELEASES holds slot, operation to wait for, buffer, boundary, bytes and role.
RELEASE_WIDTH = 6


# These are places at the array's start: the scalars come first, then where each section begins.
(
    RANKS,
    UNITS,
    MICROBATCHES,
    CLASSES,  # number of different boundary sizes
    SPAN_ROOM,  # spans that one queue has room for
    CHECKPOINT,
    WINDOW,
    RECORDING,  # whether rows are written
    # tasks of all ranks, one rank after the other
    TASK_UNIT,
    TASK_MICROBATCH,
    TASK_BACKWARD,
    TASK_START,  # where each rank's tasks begin, and the end
    FIRST_ACQUIRE,  # by slot, one more than tasks per rank: a chain of boundaries through NEXT_ACQUIRE
    RELEASES,  # each rank's queue of RELEASEs to come, two rows per task
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
    RELEASE_HEAD,
    RELEASE_TAIL,
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
    STALL_RELEASE,
    STALL_PREFETCH,
    STALL_RECV,
    SPAN_START,
    SPAN_COUNT,  # by queue: compute, d2h, h2d
    # the rest
    LAUNCH,  # by kind
    END,  # when each operation ends
    SPANS,  # queue, span, (start, end): when something ran there
    ROWS,
    BUFFER_ROWS,
) = range(61)
PLACES = 61
# Scalars that change at every operation have a cache line each: a place that shares its line with one just written
# takes the processor longer to read than an operation's work takes.
OPS, BUFFERS, SLOTS, FIRST_START, LAST_END = range(80, 120, 8)
_HEADER = 128

_FIRST_SECTION = TASK_UNIT


class UnitSizes(NamedTuple):
    """Holds the bytes of each unit's boundary, gradient and saved activations; shape (units,).

    ``size_class`` is equal for units whose boundaries have equal bytes: their host slots can serve each other.
    """

    boundary: Ints
    gradient: Ints
    saved: Ints
    size_class: Ints

    @classmethod
    def of(cls, workload: Workload) -> UnitSizes:
        """Return the sizes of all units of a workload, in the order of the model."""
        units = [unit for stage in workload.stages for unit in stage]
        boundary = np.asarray([unit.boundary_bytes for unit in units], dtype=np.int64)
        return cls(
            boundary=boundary,
            gradient=np.asarray([unit.gradient_bytes for unit in units], dtype=np.int64),
            saved=np.asarray([unit.saved_bytes for unit in units], dtype=np.int64),
            size_class=np.unique(boundary, return_inverse=True)[1].astype(np.int64),
        )


class Arena:
    """Holds the array of one workload, order and number of microbatches, with room for its largest plan.

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
        classes = int(sizes.size_class.max()) + 1
        self._section_shapes: dict[int, tuple[int, ...]] = {
            **_alike((count,), TASK_UNIT, TASK_MICROBATCH, TASK_BACKWARD),
            TASK_START: (ranks + 1,),
            FIRST_ACQUIRE: (count + ranks,),
            RELEASES: (2 * count, RELEASE_WIDTH),
            **_alike((units,), *_between(UNIT_RANK, DURATION)),
            **_alike((units, KINDS), DURATION, WORKSPACE),
            **_alike((boundaries,), *_between(UNIT_OF, FREE)),
            FREE: (ranks, classes),
            **_alike((ranks,), *_between(RELEASE_HEAD, LAUNCH)),
            QUEUE_END: (ranks, QUEUES_PER_RANK),
            SPAN_COUNT: (ranks, 3),
            LAUNCH: (KINDS,),
            END: (operations,),
            SPANS: (3, int(spans.sum()), 2),
            ROWS: (operations * recording, OP_WIDTH),
            BUFFER_ROWS: (buffers * recording, BUFFER_WIDTH),
        }
        sections = range(_FIRST_SECTION, PLACES)
        ends = np.cumsum([_HEADER, *(prod(self._section_shapes[section]) for section in sections)])
        self.memory: Ints = np.zeros(int(ends[-1]), dtype=np.int64)
        self.memory[_FIRST_SECTION:PLACES] = ends[:-1]
        self.memory[RANKS], self.memory[UNITS] = ranks, units
        self.memory[MICROBATCHES], self.memory[CLASSES] = tasks.microbatches, classes
        self.memory[SPAN_ROOM] = int(spans.sum())
        self.memory[RECORDING] = recording
        for section, column in (
            (TASK_UNIT, tasks.unit),
            (TASK_MICROBATCH, tasks.microbatch),
            (TASK_BACKWARD, tasks.backward),
            (TASK_START, tasks.start),
            (UNIT_RANK, tasks.rank),
            (UNIT_OF, np.arange(boundaries) // tasks.microbatches),
            (FORWARD_AT, tasks.forward_at),
            (BACKWARD_AT, tasks.backward_at),
            (BOUNDARY_BYTES, sizes.boundary),
            (GRADIENT_BYTES, sizes.gradient),
            (SAVED_BYTES, sizes.saved),
            (SIZE_CLASS, sizes.size_class),
            (SPAN_START, np.cumsum(spans) - spans),
        ):
            self.view(section)[...] = column

    def view(self, section: int) -> Ints:
        """Return a section of the array, in its shape, without copying."""
        shape, begin = self._section_shapes[section], int(self.memory[section])
        return self.memory[begin : begin + prod(shape)].reshape(shape)


def _between(first: int, end: int) -> Iterable[int]:
    return range(first, end)


def _alike(shape: tuple[int, ...], *sections: int) -> dict[int, tuple[int, ...]]:
    return dict.fromkeys(sections, shape)


@njit(cache=True)
def get(m, section, index):  # type: ignore[no-untyped-def]
    """Return an entry of a section."""
    return m[np.uint64(m[section] + index)]


@njit(cache=True)
def put(m, section, index, value):  # type: ignore[no-untyped-def]
    """Set an entry of a section."""
    m[np.uint64(m[section] + index)] = value


@njit(cache=True)
def add(m, section, index, value):  # type: ignore[no-untyped-def]
    """Add to an entry of a section."""
    m[np.uint64(m[section] + index)] += value
