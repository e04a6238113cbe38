"""One flat array of int64 for everything the compiled planner reads and writes, in named sections.

Compiled functions get arrays by value, a dozen words each, and a bundle of them costs more to hand on than the work of
an operation. So they get this one array, whose first places hold the scalars and where each section begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np
from numba import njit

from loadahead.sim.ir.kinds import QUEUES_PER_RANK, Kind
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner.shapes import Shapes
from loadahead.sim.planner.tasks import Tasks

KINDS = len(Kind)
# A row of ROWS: rank, kind, boundary (-1: none), bytes, edges, then reads, writes, allocs and frees, -1 where short.
EDGES, LISTED = 2, 3
OP_WIDTH = 4 + EDGES + 4 * LISTED
# A row of BUFFER_ROWS: rank, space, bytes, role, boundary.
BUFFER_WIDTH = 5
# A row of RELEASES: slot, operation to wait for, buffer, boundary, bytes, role.
RELEASE_WIDTH = 6


# Places at the array's start: scalars, then where each section begins.
(
    RANKS,
    UNITS,
    MICROBATCHES,
    CLASSES,  # sizes of boundaries
    SPAN_ROOM,  # spans of one queue
    CHECKPOINT,
    WINDOW,
    RECORDING,  # whether rows are written
    # tasks of all ranks, one rank's after the other's
    TASK_UNIT,
    TASK_MICROBATCH,
    TASK_BACKWARD,
    TASK_START,  # of each rank, and the end
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
    FORWARD_OP,
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
    END,  # of each operation
    SPANS,  # queue, span, (start, end): when something ran there
    ROWS,
    BUFFER_ROWS,
) = range(62)
PLACES = 62
# Scalars that change at every operation stand apart, each in a line of the cache of its own: read together with a
# neighbour that was just written, a place costs the processor more than an operation's work.
OPS, BUFFERS, SLOTS, FIRST_START, LAST_END = range(80, 120, 8)
_HEADER = 128

_FIRST_SECTION = TASK_UNIT


class Arena:
    """The array of one workload, order and number of microbatches, with room for its largest plan.

    Args:
        operations: of the largest plan.
        recording: whether rows are written. Clock and memory are always kept; without costs they stand still.
    """

    def __init__(self, tasks: Tasks, shapes: Shapes, operations: int, *, recording: bool) -> None:
        ranks, units, boundaries, count = tasks.ranks, len(tasks.rank), tasks.boundaries, len(tasks.unit)
        # A rank has at most one span per compute operation; of copies there are fewer.
        spans = 3 * np.diff(tasks.start) // 2 + 1
        # A unit's input, output, saved bytes and gradient, what is loaded and received, and its host slot.
        buffers = 7 * boundaries
        classes = int(shapes.size_class.max()) + 1
        self._shapes: dict[int, tuple[int, ...]] = {
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
        ends = np.cumsum([_HEADER, *(prod(self._shapes[section]) for section in sections)])
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
            (BOUNDARY_BYTES, shapes.boundary),
            (GRADIENT_BYTES, shapes.gradient),
            (SAVED_BYTES, shapes.saved),
            (SIZE_CLASS, shapes.size_class),
            (SPAN_START, np.cumsum(spans) - spans),
        ):
            self.view(section)[...] = column

    def view(self, section: int) -> Ints:
        """A section of the array, in its shape."""
        shape, begin = self._shapes[section], int(self.memory[section])
        return self.memory[begin : begin + prod(shape)].reshape(shape)


def _between(first: int, end: int) -> Iterable[int]:
    return range(first, end)


def _alike(shape: tuple[int, ...], *sections: int) -> dict[int, tuple[int, ...]]:
    return dict.fromkeys(sections, shape)


@njit(cache=True)
def get(m, section, index):  # type: ignore[no-untyped-def]
    """An entry of a section."""
    return m[np.uint64(m[section] + index)]


@njit(cache=True)
def put(m, section, index, value):  # type: ignore[no-untyped-def]
    """Set an entry of a section."""
    m[np.uint64(m[section] + index)] = value


@njit(cache=True)
def add(m, section, index, value):  # type: ignore[no-untyped-def]
    """Add to an entry of a section."""
    m[np.uint64(m[section] + index)] += value
