"""A walk that decides for itself where RELEASEs and ACQUIREs stand, for boundaries of which it is told that they leave.

It is the planner's own walk (:mod:`loadahead.sim.planner.lower`), so that it knows at each slot when the queues are
done with what is listed. Before a task

1. each boundary whose OFFLOAD has ended is released, which makes nothing wait;
2. where the task needs more memory than there is, the compute queue waits for further OFFLOADs, the first first;
3. boundaries come back, the one that is needed soonest first, as long as they take memory that no task needs before
   they are read, and that no OFFLOAD to come would have to be waited for.

What step 3 expects of later tasks is an estimate from their durations; where it errs something waits, and the clock
counts it. Whatever the walk decides, the static memory of every task keeps its room: a boundary that leaves takes none
between its two tasks but what is free.

Its state is one flat array ``d`` beside the arena ``m``; tasks are numbered through all ranks (``g``).
"""

from __future__ import annotations

import numpy as np

from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import BOUNDARY_WIDTH, RANK_WIDTH, TASK_WIDTH, Arena, get, put
from loadahead.sim.planner.operations import NONE, add_operation, hold, hold_boundaries
from loadahead.sim.planner.tasks import Tasks
from loadahead.sim.stalls import NO_EDGE

_FORWARD, _RECOMPUTE, _BACKWARD = int(Kind.FORWARD), int(Kind.RECOMPUTE), int(Kind.BACKWARD)
_OFFLOAD, _RELEASE, _PREFETCH = int(Kind.OFFLOAD), int(Kind.RELEASE), int(Kind.PREFETCH)
_D2H, _H2D, _COMPUTE = int(Queue.D2H), int(Queue.H2D), int(Queue.COMPUTE)

# ---- the array's first places: where each section begins ---------------------------------------------------------
(
    BASE,  # by task: bytes of boundaries where all stay
    ROOM,  # by task: the most that boundaries may take
    LOW,  # by task: bytes of boundaries, were each that leaves away between its tasks unless it has come back
    LEAVES,  # by boundary: whether it leaves
    RELEASES,  # by boundary: the slots decided, -1 where it stays
    ACQUIRES,
    FORWARD_AT,  # by boundary: its tasks
    BACKWARD_AT,
    PENDING,  # rank by rank: rows of boundaries whose OFFLOAD is listed and whose RELEASE is not, the first first
    LATER,  # rank by rank: when OFFLOADs to come are expected to end
    RANK,  # by rank, see below
) = range(11)
HEADER = 16
# A rank: its first task, where its parts of PENDING and LATER begin, the first and last of PENDING and their bytes, the
# place in NEEDED of what is needed next, a task before which that cannot come back, and how urgent it has to be to make
# others wait: so many times the time that it takes to come back, in percent; and by how many tasks it may come before
# the one that reads it.
Q_FIRST, Q_PENDING, Q_LATER, Q_HEAD, Q_TAIL, Q_BYTES, Q_NEXT, Q_FULL, Q_URGENCY, Q_LEAD = range(10)
RANK_WIDTH_HERE = 16
# What a deciding walk returns where too little leaves for the memory that there is.
NO_ROOM = 2**31
# So many tasks are looked ahead for OFFLOADs that would have to be waited for.
LOOKED_AHEAD = 32


class Deciding:
    """Holds the state of deciding walks over one order's tasks.

    Args:
        base: bytes of boundaries on the device during each task where all stay; shape (tasks,).
        room: the most that they may take during each; shape (tasks,).
        lead: by how many tasks a boundary may come back before the one that reads it.
    """

    def __init__(self, tasks: Tasks, arena: Arena, base: Ints, room: Ints, lead: int) -> None:
        count, boundaries, ranks = len(tasks.unit), tasks.boundaries, tasks.ranks
        sizes = [*[count] * 3, *[boundaries] * 7, ranks * RANK_WIDTH_HERE]
        ends = HEADER + np.cumsum([0, *sizes])
        self.memory: Ints = np.zeros(int(ends[-1]), dtype=np.int64)
        self.memory[: len(sizes)] = ends[:-1]
        self._ends = ends
        of_unit = np.repeat(tasks.rank, tasks.microbatches)
        first = tasks.start[of_unit]
        self.view(FORWARD_AT)[:] = tasks.forward_at + first
        self.view(BACKWARD_AT)[:] = np.where(tasks.backward_at < 0, -1, tasks.backward_at + first)
        self.view(BASE)[:], self.view(ROOM)[:] = base, room
        rows = self.view(RANK).reshape(ranks, RANK_WIDTH_HERE)
        per_rank = np.bincount(of_unit, minlength=ranks)
        before = np.cumsum(per_rank) - per_rank
        rows[:, Q_FIRST] = tasks.start[:-1]
        rows[:, Q_PENDING], rows[:, Q_LATER] = self.memory[PENDING] + before, self.memory[LATER] + before
        rows[:, Q_LEAD] = lead
        self.ranks = rows

    def view(self, section: int) -> Ints:
        """Return a section of the array, without copying."""
        out: Ints = self.memory[self._ends[section] : self._ends[section + 1]]
        return out


@inlined
def begin(m, d):  # type: ignore[no-untyped-def]
    """Set all to before the first task, for what leaves now, and return whether that is enough for every task."""
    tasks = d[ROOM] - d[BASE]
    d[d[LOW] : d[LOW] + tasks] = 0
    boundaries = d[RELEASES] - d[LEAVES]
    for b in range(boundaries):
        put(d, d[RELEASES] + b, -1)
        put(d, d[ACQUIRES] + b, -1)
        if get(d, d[LEAVES] + b):
            nbytes = get(m, get(m, m[a.BOUNDARY_ROWS] + b * BOUNDARY_WIDTH + a.X_UNIT) + a.U_BOUNDARY)
            place = d[LOW] + get(d, d[FORWARD_AT] + b) + 1
            put(d, place, get(d, place) - nbytes)
            place = d[LOW] + get(d, d[BACKWARD_AT] + b)
            put(d, place, get(d, place) + nbytes)
    q, enough = d[RANK], True
    for r in range(m[a.RANK_ROWS], m[a.UNIT_ROWS], RANK_WIDTH):
        put(d, q + Q_HEAD, get(d, q + Q_PENDING))
        put(d, q + Q_TAIL, get(d, q + Q_PENDING))
        put(d, q + Q_BYTES, 0)
        put(d, q + Q_FULL, -1)
        put(d, q + Q_NEXT, get(m, r + a.R_LAST_NEEDED) - 2)
        away, g = 0, get(d, q + Q_FIRST)
        for _ in range((get(m, r + a.R_END) - get(m, r + a.R_FIRST)) // TASK_WIDTH):
            away += get(d, d[LOW] + g)
            put(d, d[LOW] + g, get(d, d[BASE] + g) + away)
            enough &= get(d, d[LOW] + g) <= get(d, d[ROOM] + g)
            g += 1
        q += RANK_WIDTH_HERE
    return enough


@inlined
def has_left(m, d, r, x):  # type: ignore[no-untyped-def]
    """Note that a boundary's OFFLOAD is listed."""
    q = d[RANK] + get(m, r + a.R_NUMBER) * RANK_WIDTH_HERE
    put(d, get(d, q + Q_TAIL), x)
    put(d, q + Q_TAIL, get(d, q + Q_TAIL) + 1)
    put(d, q + Q_BYTES, get(d, q + Q_BYTES) + get(m, get(m, x + a.X_UNIT) + a.U_BOUNDARY))


@inlined
def _release_first(m, d, recording, r, q, k):  # type: ignore[no-untyped-def]
    """List the RELEASE of the boundary whose OFFLOAD was listed first."""
    x = get(d, get(d, q + Q_HEAD))
    nbytes = get(m, get(m, x + a.X_UNIT) + a.U_BOUNDARY)
    put(d, q + Q_HEAD, get(d, q + Q_HEAD) + 1)
    put(d, q + Q_BYTES, get(d, q + Q_BYTES) - nbytes)
    put(d, d[RELEASES] + get(m, x + a.X_INDEX), k)
    add_operation(m, recording, r, _RELEASE, x, 0, 0, get(m, x + a.X_OFFLOAD), _OFFLOAD, NONE, NO_EDGE)
    hold(m, r, 0, nbytes, 0)
    hold_boundaries(m, r, 0, nbytes)


@inlined
def decide_slot(m, d, recording, r, t):  # type: ignore[no-untyped-def]
    """Decide on the slot before a task: list RELEASEs, and put what is to come back into the slot's chain."""
    q = d[RANK] + get(m, r + a.R_NUMBER) * RANK_WIDTH_HERE
    k = (t - get(m, r + a.R_FIRST)) // TASK_WIDTH
    g = get(d, q + Q_FIRST) + k
    _keep_what_came_too_late(m, d, q, g)
    room = get(d, d[ROOM] + g) - get(d, d[LOW] + g)
    while get(d, q + Q_HEAD) < get(d, q + Q_TAIL):
        x = get(d, get(d, q + Q_HEAD))
        ended = get(m, m[a.END] + get(m, x + a.X_OFFLOAD)) <= get(m, r + a.R_QUEUE_END + _COMPUTE)
        if not ended and get(d, q + Q_BYTES) <= room:
            break
        _release_first(m, d, recording, r, q, k)
    _come_back(m, d, recording, r, t, q, k, g)


@inlined
def _keep_what_came_too_late(m, d, q, g):  # type: ignore[no-untyped-def]
    """Let a boundary stay that the next task reads before its OFFLOAD has made room for anything."""
    place, found = get(d, q + Q_HEAD), False
    while place < get(d, q + Q_TAIL):
        x = get(d, place)
        b = get(m, x + a.X_INDEX)
        if found:
            put(d, place - 1, x)
        elif get(d, d[BACKWARD_AT] + b) == g:
            found = True
            put(d, q + Q_BYTES, get(d, q + Q_BYTES) - get(m, get(m, x + a.X_UNIT) + a.U_BOUNDARY))
            put(d, d[LEAVES] + b, 0)
        place += 1
    if found:
        put(d, q + Q_TAIL, get(d, q + Q_TAIL) - 1)


@inlined
def _come_back(m, d, recording, r, t, q, k, g):  # type: ignore[no-untyped-def]
    last = -1  # the last boundary of the slot's chain
    going = True
    while going:
        n = get(d, q + Q_NEXT)
        while n >= get(m, r + a.R_NEEDED) and not get(d, d[LEAVES] + get(m, n)):
            n -= 2
        put(d, q + Q_NEXT, n)
        going = n >= get(m, r + a.R_NEEDED)
        if going:
            b, x = get(m, n), get(m, n + 1)
            at = get(d, d[BACKWARD_AT] + b)
            nbytes = get(m, get(m, x + a.X_UNIT) + a.U_BOUNDARY)
            going = get(d, d[RELEASES] + b) >= 0 and (at == g or _may_come(m, d, r, t, q, g, at, x, nbytes))
            if going:
                room = get(d, d[ROOM] + g) - get(d, d[LOW] + g)
                if at > g:
                    room -= nbytes
                    for j in range(g, at):
                        put(d, d[LOW] + j, get(d, d[LOW] + j) + nbytes)
                while get(d, q + Q_HEAD) < get(d, q + Q_TAIL) and get(d, q + Q_BYTES) > room:
                    _release_first(m, d, recording, r, q, k)
                put(d, d[ACQUIRES] + b, k)
                put(m, x + a.X_NEXT, -1)
                if last < 0:
                    put(m, t + a.T_ACQUIRE, x)
                else:
                    put(m, last + a.X_NEXT, x)
                last = x
                put(d, q + Q_NEXT, n - 2)
                put(d, q + Q_FULL, -1)


@inlined
def _duration(m, t):  # type: ignore[no-untyped-def]
    u = get(m, t + a.T_UNIT)
    if get(m, t + a.T_BACKWARD):
        out = get(m, u + a.U_DURATION + _BACKWARD)
        if m[a.CHECKPOINT]:
            out += get(m, u + a.U_DURATION + _RECOMPUTE)
    else:
        out = get(m, u + a.U_DURATION + _FORWARD)
    return out


@inlined
def _may_come(m, d, r, t, q, g, at, x, nbytes):  # type: ignore[no-untyped-def]
    """Return whether a boundary that task ``at`` reads may take its memory before task ``g`` already."""
    fits = get(d, q + Q_FULL) < g and at - g <= get(d, q + Q_LEAD)
    j = g
    while fits and j < at:
        if get(d, d[LOW] + j) + nbytes > get(d, d[ROOM] + j):
            fits = False
            put(d, q + Q_FULL, j)
        j += 1
    if fits:
        # Would a task before that have to wait for an OFFLOAD?
        now = get(m, r + a.R_QUEUE_END + _COMPUTE)
        leaving_until = get(m, r + a.R_QUEUE_END + _D2H)
        head, bytes_of = get(d, q + Q_HEAD), get(d, q + Q_BYTES)
        first, end = get(d, q + Q_LATER), get(d, q + Q_LATER)
        time, j, row, waits = now, g, t, False
        stop = min(at, g + LOOKED_AHEAD)
        later_bytes = 0
        while j < stop and not waits:
            while head < get(d, q + Q_TAIL) and (get(m, m[a.END] + get(m, get(d, head) + a.X_OFFLOAD)) <= time):
                bytes_of -= get(m, get(m, get(d, head) + a.X_UNIT) + a.U_BOUNDARY)
                head += 1
            while first < end and get(d, first) <= time:
                first += 1
                later_bytes -= nbytes
            waits = get(d, d[LOW] + j) + nbytes + bytes_of + later_bytes > get(d, d[ROOM] + j)
            time += _duration(m, row)
            if not get(m, row + a.T_BACKWARD):
                y = get(m, row + a.T_BOUNDARY)
                if get(d, d[LEAVES] + get(m, y + a.X_INDEX)):
                    own = get(m, get(m, y + a.X_UNIT) + a.U_DURATION + _OFFLOAD)
                    leaving_until = max(leaving_until, time) + own
                    put(d, end, leaving_until)
                    end += 1
                    later_bytes += nbytes
            j += 1
            row += TASK_WIDTH
        if waits:
            # Then it comes only where it is as urgent itself.
            left, row = 0, t
            for _ in range(at - g):
                left += _duration(m, row)
                row += TASK_WIDTH
            needs = max(get(m, r + a.R_QUEUE_END + _H2D) - now, 0)
            needs += get(m, get(m, x + a.X_UNIT) + a.U_DURATION + _PREFETCH)
            fits = left * 100 < needs * get(d, q + Q_URGENCY)
    return fits


@compiled
def keep_what_is_away_for_nothing(d):  # type: ignore[no-untyped-def]
    """Let boundaries stay that come back where they are released; return how many leave."""
    count = 0
    for b in range(d[RELEASES] - d[LEAVES]):
        release, acquire = d[d[RELEASES] + b], d[d[ACQUIRES] + b]
        if release < 0 or acquire < 0 or release == acquire:
            d[d[RELEASES] + b] = d[d[ACQUIRES] + b] = -1
        else:
            count += 1
    return count
