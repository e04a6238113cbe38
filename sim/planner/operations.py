"""An operation is added to what the walk has listed so far: its row, its times, and what its rank then holds.

A row is written where rows are wanted (``recording``, which is known when the walk is compiled). When an operation
starts and ends, what it holds and what it waits for are asked of the functions that the engines and the metrics ask.
``r`` and ``x`` are the places of the rows of a rank and a boundary in the arena ``m``.
"""

from __future__ import annotations

import numpy as np

from loadahead.sim.clock import STARTS_BEFORE_ISSUED, finish, host_allows, later
from loadahead.sim.compiled import inlined
from loadahead.sim.ir.kinds import QUEUE_OF, Kind, Queue
from loadahead.sim.memory import level_after, level_during
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import SPANNED, add, claim, get, put
from loadahead.sim.stalls import NO_EDGE, STALL_OF, is_to_blame, stall

NONE = -1  # no boundary, no buffer, no edge
# An operation's lists.
READS, WRITES, ALLOCS, FREES = range(4)
_QUEUE = np.asarray([QUEUE_OF[kind] for kind in Kind], dtype=np.int64)
_COMPUTE = int(Queue.COMPUTE)  # a plain integer stands for the IntEnum, whose members are slow to compile


@inlined
def add_buffer(m, recording, r, space, nbytes, role, x):  # type: ignore[no-untyped-def]
    """Add a buffer and return its position; return 0 where no rows are written, as no position is needed then."""
    if not recording:
        return 0
    index = claim(m, a.BUFFERS, a.BUFFER_ROOM, a.BUFFER_ROWS)
    row = m[a.BUFFER_ROWS] + index * a.BUFFER_WIDTH
    m[row], m[row + 1], m[row + 2], m[row + 3] = m[r + a.R_NUMBER], space, nbytes, role
    m[row + 4] = m[x + a.X_INDEX]
    return index


@inlined
def add_operation(m, recording, r, kind, x, nbytes, duration, edge0, kind0, edge1, kind1):  # type: ignore[no-untyped-def]
    """Add an operation and return its position; an edge comes with its kind, and the second, or both, may be -1."""
    index = claim(m, a.OPS, a.OP_ROOM, a.END)
    if recording:
        row = m[a.ROWS] + index * a.OP_WIDTH
        m[row], m[row + 1], m[row + 3] = m[r + a.R_NUMBER], kind, nbytes
        m[row + 2] = m[x + a.X_INDEX] if x >= 0 else NONE
        m[row + 4], m[row + 5] = edge0, edge1
        m[row + 4 + a.EDGES : row + a.OP_WIDTH] = -1
    _time_operation(m, index, r, kind, duration, edge0, kind0, edge1, kind1)
    return index


@inlined
def append(m, recording, which, op, value):  # type: ignore[no-untyped-def]
    """Put a buffer, unless it is -1, at the end of one of an operation's lists."""
    if recording and value >= 0:
        at = m[a.ROWS] + op * a.OP_WIDTH + 4 + a.EDGES + which * a.LISTED
        last = at + a.LISTED - 1
        while m[at] >= 0:
            if at == last:
                m[a.FULL] = a.ROWS
                return
            at += 1
        m[at] = value


@inlined
def _time_operation(m, index, r, kind, duration, edge0, kind0, edge1, kind1):  # type: ignore[no-untyped-def]
    """Time an operation, and keep its stall and its span."""
    queue = _QUEUE[kind]
    begun = get(m, r + a.R_CLOCK)
    issued = begun + m[a.LAUNCH + kind]
    put(m, r + a.R_CLOCK, issued)
    line = r + a.R_QUEUE_END + queue
    ready = later(get(m, line), host_allows(begun, issued, STARTS_BEFORE_ISSUED[kind]))
    start, latest, blamed = ready, 0, NO_EDGE
    for edge, edge_kind in ((edge0, kind0), (edge1, kind1)):
        if edge >= 0:
            ended = get(m, m[a.END] + edge)
            start = later(start, ended)
            if is_to_blame(ended, latest, blamed):
                latest, blamed = ended, edge_kind
    end = finish(start, duration, issued)
    put(m, m[a.END] + index, end)
    put(m, line, end)
    if start < m[a.FIRST_START]:
        m[a.FIRST_START] = start
    if queue >= SPANNED:
        return
    if queue == _COMPUTE and STALL_OF[blamed] >= 0:
        waited = stall(ready, latest)
        if waited:
            add(m, r + a.R_STALLED + STALL_OF[blamed], waited)
    if end > start:
        place = get(m, r + a.R_SPAN + queue)
        if place == get(m, r + a.R_LAST_SPAN + queue):
            m[a.FULL] = a.SPANS
            return
        put(m, place, start)
        put(m, place + 1, end)
        put(m, r + a.R_SPAN + queue, place + 2)


@inlined
def hold(m, r, taken, freed, workspace):  # type: ignore[no-untyped-def]
    """Keep the level and the peak of device memory over an operation of the compute queue."""
    level = get(m, r + a.R_LEVEL)
    put(m, r + a.R_PEAK, max(get(m, r + a.R_PEAK), level_during(level, taken, workspace)))
    put(m, r + a.R_LEVEL, level_after(level, taken, freed))


@inlined
def hold_boundaries(m, r, taken, freed):  # type: ignore[no-untyped-def]
    """Keep the same of the boundaries alone."""
    level = get(m, r + a.R_BOUNDARY_LEVEL)
    put(m, r + a.R_BOUNDARY_PEAK, max(get(m, r + a.R_BOUNDARY_PEAK), level_during(level, taken, 0)))
    put(m, r + a.R_BOUNDARY_LEVEL, level_after(level, taken, freed))
