"""Lowering turns tasks and decisions into operations, buffers and edges, in an order that can be issued.

Ranks take turns, one task each, as soon as what the task receives has been sent; so every edge points backwards and
one host thread can issue the list as it stands. It knows no policy: where a boundary's RELEASE and ACQUIRE stand has
been decided.

The RELEASE of what was sent has a fixed place where every rank holds one stage. Else, or where that would come to a
halt, it stands in the first slot from there on before which its SEND is listed.

One compiled walk does it: tasks here, what lies between them in :mod:`loadahead.sim.planner.slots`, what ranks send to
each other in :mod:`loadahead.sim.planner.transfers`. It keeps the clock and the memory, and writes the plan's rows if
they are wanted (:mod:`loadahead.sim.planner.operations`), so that a sweep evaluates the very plan that would be built.
Its state lies in the arena (``m``), see :mod:`loadahead.sim.planner.arena`.
"""

from __future__ import annotations

import numpy as np

from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.ir.kinds import Kind, Role, Space
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import BOUNDARY_WIDTH, RANK_WIDTH, TASK_WIDTH, UNIT_WIDTH, add, claim, clear, get, put
from loadahead.sim.planner.deciding import LEAVES, NO_ROOM, begin, decide_slot, has_left
from loadahead.sim.planner.operations import (
    ALLOCS,
    FREES,
    NONE,
    READS,
    WRITES,
    add_buffer,
    add_operation,
    append,
    hold,
    hold_boundaries,
)
from loadahead.sim.planner.slots import add_releases, note_release, take
from loadahead.sim.planner.transfers import leave, receive, take_for_arrival
from loadahead.sim.stalls import NO_EDGE

# Plain integers stand for the IntEnums, whose members are slow to compile.
_FORWARD, _RECOMPUTE, _BACKWARD = int(Kind.FORWARD), int(Kind.RECOMPUTE), int(Kind.BACKWARD)
_OFFLOAD, _ACQUIRE, _PREFETCH = int(Kind.OFFLOAD), int(Kind.ACQUIRE), int(Kind.PREFETCH)
_SEND_ACTIVATION, _RECV_ACTIVATION = int(Kind.SEND_ACTIVATION), int(Kind.RECV_ACTIVATION)
_SEND_GRADIENT, _RECV_GRADIENT = int(Kind.SEND_GRADIENT), int(Kind.RECV_GRADIENT)
_OPTIMIZER_STEP = int(Kind.OPTIMIZER_STEP)
_BOUNDARY, _OUTPUT, _GRADIENT = int(Role.BOUNDARY), int(Role.OUTPUT), int(Role.GRADIENT)
_DEVICE, _HOST = int(Space.DEVICE), int(Space.HOST)


@compiled
def lower(m, release, acquire):  # type: ignore[no-untyped-def]
    """Walk all tasks and write rows; return -1, or the rank that waits for ever in an order that deadlocks.

    ``release`` and ``acquire`` hold the slots decided for each boundary, -1 where it stays; shape (boundaries,).
    """
    return _walk_or_put_off(m, True, release, acquire, False, m)


@compiled
def lower_without_rows(m, release, acquire):  # type: ignore[no-untyped-def]
    """Walk all tasks in the same way and write no rows: the clock and the memory are all that is wanted."""
    return _walk_or_put_off(m, False, release, acquire, False, m)


@compiled
def lower_deciding(m, d, release, acquire):  # type: ignore[no-untyped-def]
    """Walk all tasks, decide on slots on the way (:mod:`loadahead.sim.planner.deciding`), and write no rows.

    ``d`` says what leaves and takes what is decided; ``release`` and ``acquire`` are -1 throughout. Return -1,
    ``NO_ROOM`` where too little leaves, or the rank that waits for ever.
    """
    return _walk_or_put_off(m, False, release, acquire, True, d)


# Below, ``recording`` says whether rows are written, and ``deciding`` whether slots are decided on the way, with ``d``
# (else any array); both are known when the walk is compiled. ``r``, ``t``, ``x`` and
# ``u`` are the places of the rows of a rank, a task, a boundary and its unit.


@inlined
def _walk_or_put_off(m, recording, release, acquire, deciding, d):  # type: ignore[no-untyped-def]
    """Walk, and where RELEASEs in fixed places bring that to a halt, once more with RELEASEs that are put off."""
    m[a.FIXED] = m[a.ONE_STAGE]
    while True:
        stuck = _walk(m, recording, release, acquire, deciding, d)
        if stuck < 0 or stuck == NO_ROOM or not m[a.FIXED]:
            return stuck
        clear(m)
        m[a.FIXED] = 0


@inlined
def _walk(m, recording, release, acquire, deciding, d):  # type: ignore[no-untyped-def]
    ranks, left = _begin(m, release, acquire)
    if deciding and not begin(m, d):
        return NO_ROOM
    while left:
        moved = False
        for r in range(m[a.RANK_ROWS], m[a.UNIT_ROWS], RANK_WIDTH):
            t = get(m, r + a.R_NEXT)
            if t < get(m, r + a.R_END):
                if not get(m, r + a.R_OPEN):
                    if not _list_slot(m, recording, r, t, deciding, d):
                        continue
                    put(m, r + a.R_OPEN, 1)
                    moved = True
                x = get(m, t + a.T_BOUNDARY)
                if _is_ready(m, t, x):
                    _lower_task(m, recording, r, t, x, deciding, d)
                    left -= 1
                    moved = True
        if not moved:
            for rank in range(ranks):
                r = m[a.RANK_ROWS] + rank * RANK_WIDTH
                if get(m, r + a.R_NEXT) < get(m, r + a.R_END):
                    return rank
    for r in range(m[a.RANK_ROWS], m[a.UNIT_ROWS], RANK_WIDTH):
        _list_slot(m, recording, r, get(m, r + a.R_END), False, d)
        duration = get(m, r + a.R_OPTIMIZER)
        add_operation(m, recording, r, _OPTIMIZER_STEP, NONE, 0, duration, NONE, NO_EDGE, NONE, NO_EDGE)
        hold(m, r, 0, 0, get(m, r + a.R_OPTIMIZER_WORKSPACE))
    if recording:
        for s in range(m[a.SLOT_ROWS], m[a.SLOT_ROWS] + m[a.SLOTS] * a.SLOT_WIDTH, a.SLOT_WIDTH):
            append(m, recording, FREES, get(m, s + a.S_EMPTIED_BY), get(m, s + a.S_BUFFER))
    return -1


@inlined
def _begin(m, release, acquire):  # type: ignore[no-untyped-def]
    """Set all to before the first task, put each ACQUIRE into its slot, and return the numbers of ranks and tasks."""
    m[a.OPS] = m[a.BUFFERS] = m[a.SLOTS] = m[a.RELEASED] = m[a.FULL] = 0
    m[a.FIRST_START] = np.iinfo(np.int64).max
    ranks = tasks = 0
    for r in range(m[a.RANK_ROWS], m[a.UNIT_ROWS], RANK_WIDTH):
        first, end = get(m, r + a.R_FIRST), get(m, r + a.R_END)
        put(m, r + a.R_NEXT, first)
        put(m, r + a.R_ARRIVING, first)
        put(m, r + a.R_OPEN, 0)
        m[r + a.R_CLOCK : r + a.R_SPAN] = 0
        m[r + a.R_LEVEL] = m[r + a.R_PEAK] = m[r + a.R_STATIC]
        m[r + a.R_SPAN : r + a.R_FIRST_SPAN] = m[r + a.R_FIRST_SPAN : r + a.R_LAST_SPAN]
        m[m[r + a.R_FREE] : m[r + a.R_FREE] + m[a.CLASSES]] = -1
        # The last BACKWARD's boundary is put into its chain first, so that a chain begins with what is needed soonest.
        for needed in range(m[r + a.R_NEEDED], m[r + a.R_LAST_NEEDED], 2):
            index = get(m, needed)
            slot = acquire[np.uint64(index)]
            if slot >= 0:
                x, place = get(m, needed + 1), first + slot * TASK_WIDTH
                put(m, x + a.X_RELEASE, release[np.uint64(index)])
                put(m, x + a.X_NEXT, get(m, place + a.T_ACQUIRE))
                put(m, place + a.T_ACQUIRE, x)
        ranks += 1
        tasks += (end - first) // TASK_WIDTH
    for p in range(m[a.PAIRS], m[a.ARRIVALS], a.PAIR_WIDTH):
        put(m, p + a.P_NEXT, get(m, p + a.P_FIRST))
    return ranks, tasks


@inlined
def _is_ready(m, t, x):  # type: ignore[no-untyped-def]
    """Return whether what the task reads has been made on its rank, or sent to it."""
    # One way out: with several, numba counts references to the array here, which takes longer than all the rest.
    u, backward = get(m, t + a.T_UNIT), get(m, t + a.T_BACKWARD)
    made, beside = a.X_BUFFER, a.U_BELOW
    if backward:
        made, beside = a.X_GRADIENT, a.U_ABOVE
    if get(m, t + a.T_ARRIVES) >= 0:
        made = a.X_SENT + a.OF_GRADIENT * backward
    return (get(m, u + beside) == a.END_OF_MODEL) | (get(m, x + made) >= 0)


@inlined
def _list_slot(m, recording, r, t, deciding, d):  # type: ignore[no-untyped-def]
    """List what stands in the slot before a task, and return True; or nothing of it where it has to wait for a SEND."""
    if not add_releases(m, recording, r, t):
        return False
    if deciding:
        decide_slot(m, d, recording, r, t)
    wanted = get(m, t + a.T_ACQUIRE)
    while wanted >= 0:
        _prefetch(m, recording, r, wanted)
        wanted = get(m, wanted + a.X_NEXT)
    put(m, t + a.T_ACQUIRE, -1)
    at, end = get(m, r + a.R_ARRIVING), min(t + (m[a.RECEIVE_AHEAD] + 1) * TASK_WIDTH, get(m, r + a.R_END))
    while at < end:
        if get(m, at + a.T_ARRIVES) >= 0:
            take_for_arrival(m, recording, r, at)
        at += TASK_WIDTH
    put(m, r + a.R_ARRIVING, at)
    return True


@inlined
def _lower_task(m, recording, r, t, x, deciding, d):  # type: ignore[no-untyped-def]
    if get(m, t + a.T_BACKWARD):
        _backward(m, recording, r, t, x)
    else:
        _forward(m, recording, r, t, x, deciding, d)
    put(m, r + a.R_NEXT, t + TASK_WIDTH)
    put(m, r + a.R_OPEN, 0)


@inlined
def _forward(m, recording, r, t, x, deciding, d):  # type: ignore[no-untyped-def]
    u, own, output, received = get(m, t + a.T_UNIT), NONE, NONE, NONE
    above, boundary, taken_boundary = get(m, u + a.U_ABOVE), get(m, u + a.U_BOUNDARY), 0
    taken, freed, freed_boundary = get(m, u + a.U_TAKES), get(m, u + a.U_FORWARD_FREES), 0
    if get(m, t + a.T_ARRIVES) >= 0:
        sent, kind = get(m, x + a.X_SENT), _RECV_ACTIVATION
        received = receive(m, recording, r, kind, x, boundary, get(m, x + a.X_BUFFER), sent, _SEND_ACTIVATION)
    elif get(m, u + a.U_BELOW) == a.END_OF_MODEL:
        taken_boundary = boundary
        taken += boundary
        own = add_buffer(m, recording, r, _DEVICE, boundary, _BOUNDARY, x)
        put(m, x + a.X_BUFFER, own)
    nbytes, next_x = 0, x + m[a.MICROBATCHES] * BOUNDARY_WIDTH
    if above != a.END_OF_MODEL:
        nbytes = get(m, u + UNIT_WIDTH + a.U_BOUNDARY)
        taken += nbytes
        if above == a.SAME_RANK:
            output = add_buffer(m, recording, r, _DEVICE, nbytes, _BOUNDARY, next_x)
            put(m, next_x + a.X_BUFFER, output)
            taken_boundary += nbytes
        else:
            output = add_buffer(m, recording, r, _DEVICE, nbytes, _OUTPUT, x)
    if get(m, u + a.U_FROZEN) == a.FROZEN:
        freed_boundary = boundary
        freed += boundary
    duration = get(m, u + a.U_DURATION + _FORWARD)
    done = add_operation(m, recording, r, _FORWARD, x, 0, duration, received, _RECV_ACTIVATION, NONE, NO_EDGE)
    hold(m, r, taken, freed, get(m, u + a.U_WORKSPACE + _FORWARD))
    hold_boundaries(m, r, taken_boundary, freed_boundary)
    if recording:
        append(m, recording, READS, done, get(m, x + a.X_BUFFER))
        for buffer in (own, output):
            append(m, recording, WRITES, done, buffer)
            append(m, recording, ALLOCS, done, buffer)
    if deciding:
        if get(d, d[LEAVES] + get(m, x + a.X_INDEX)):
            _offload(m, recording, r, u, x, done)
            has_left(m, d, r, x)
    elif get(m, x + a.X_RELEASE) >= 0:
        op = _offload(m, recording, r, u, x, done)
        place = get(m, r + a.R_FIRST) + get(m, x + a.X_RELEASE) * TASK_WIDTH
        note_release(m, recording, place, op, get(m, x + a.X_BUFFER), x, boundary, _BOUNDARY)
    if get(m, u + a.U_FROZEN) == a.FROZEN:
        append(m, recording, FREES, done, get(m, x + a.X_BUFFER))
        _forget(m, x)
    if above == a.OTHER_RANK:
        leave(m, recording, r, t, x, next_x + a.X_MADE, nbytes, done, output, _OUTPUT)


@inlined
def _backward(m, recording, r, t, x):  # type: ignore[no-untyped-def]
    u, received, incoming, outgoing = get(m, t + a.T_UNIT), NONE, NONE, NONE
    below, boundary = get(m, u + a.U_BELOW), get(m, u + a.U_BOUNDARY)
    freed = boundary + get(m, u + a.U_BACKWARD_FREES)
    if get(m, u + a.U_ABOVE) != a.END_OF_MODEL:
        nbytes, incoming = get(m, u + UNIT_WIDTH + a.U_GRADIENT), get(m, x + a.X_GRADIENT)
        freed += nbytes
        if get(m, t + a.T_ARRIVES) >= 0:
            sent = get(m, x + a.X_SENT + a.OF_GRADIENT)
            received = receive(m, recording, r, _RECV_GRADIENT, x, nbytes, incoming, sent, _SEND_GRADIENT)
    if m[a.CHECKPOINT]:
        loaded, duration = get(m, x + a.X_PREFETCH), get(m, u + a.U_DURATION + _RECOMPUTE)
        done = add_operation(m, recording, r, _RECOMPUTE, x, 0, duration, loaded, _PREFETCH, NONE, NO_EDGE)
        append(m, recording, READS, done, get(m, x + a.X_BUFFER))
        hold(m, r, 0, 0, get(m, u + a.U_WORKSPACE + _RECOMPUTE))
    taken, wanted = 0, below != a.END_OF_MODEL and get(m, u + a.U_FROZEN) == a.TRAINED
    if wanted:
        taken = get(m, u + a.U_GRADIENT)
        outgoing = add_buffer(m, recording, r, _DEVICE, taken, _GRADIENT, x)
    duration = get(m, u + a.U_DURATION + _BACKWARD)
    done = add_operation(m, recording, r, _BACKWARD, x, 0, duration, received, _RECV_GRADIENT, NONE, NO_EDGE)
    hold(m, r, taken, freed, get(m, u + a.U_WORKSPACE + _BACKWARD))
    hold_boundaries(m, r, 0, boundary)
    if recording:
        for buffer in (get(m, x + a.X_BUFFER), incoming):
            append(m, recording, READS, done, buffer)
            append(m, recording, FREES, done, buffer)
        append(m, recording, WRITES, done, outgoing)
        append(m, recording, ALLOCS, done, outgoing)
    if get(m, x + a.X_SLOT) >= 0:
        _give_back_slot(m, r, u, get(m, x + a.X_SLOT))
    _forget(m, x)
    next_x = x - m[a.MICROBATCHES] * BOUNDARY_WIDTH
    if wanted and below == a.SAME_RANK:
        put(m, next_x + a.X_GRADIENT, outgoing)
    elif wanted:
        leave(m, recording, r, t, x, next_x + a.X_MADE + a.OF_GRADIENT, taken, done, outgoing, _GRADIENT)


@inlined
def _forget(m, x):  # type: ignore[no-untyped-def]
    """Clear a boundary of which nothing is needed any more."""
    for entry in range(x + a.FIRST_CLEARED, x + BOUNDARY_WIDTH):
        put(m, entry, -1)


# ---- copies ---------------------------------------------------------------------------------------------------------


@inlined
def _offload(m, recording, r, u, x, done):  # type: ignore[no-untyped-def]
    """Add the OFFLOAD into a host slot, and return it.

    A slot is used again only once the BACKWARD of the boundary it held is behind on the compute queue, so its
    PREFETCH has ended and the reuse never makes a copy wait.
    """
    nbytes, chain, emptied = get(m, u + a.U_BOUNDARY), get(m, r + a.R_FREE) + get(m, u + a.U_CLASS), NONE
    s = get(m, chain)
    fresh = s < 0
    if fresh:
        s = m[a.SLOT_ROWS] + claim(m, a.SLOTS, a.SLOT_ROOM, a.SLOT_ROWS) * a.SLOT_WIDTH
        put(m, s + a.S_BUFFER, add_buffer(m, recording, r, _HOST, nbytes, _BOUNDARY, x))
        add(m, r + a.R_HOST, nbytes)
    else:
        put(m, chain, get(m, s + a.S_NEXT))
        emptied = get(m, s + a.S_EMPTIED_BY)
    duration = get(m, u + a.U_DURATION + _OFFLOAD)
    op = add_operation(m, recording, r, _OFFLOAD, x, nbytes, duration, done, _FORWARD, emptied, _PREFETCH)
    append(m, recording, READS, op, get(m, x + a.X_BUFFER))
    append(m, recording, WRITES, op, get(m, s + a.S_BUFFER))
    if fresh:
        append(m, recording, ALLOCS, op, get(m, s + a.S_BUFFER))
    put(m, x + a.X_SLOT, s)
    put(m, x + a.X_OFFLOAD, op)
    return op


@inlined
def _give_back_slot(m, r, u, s):  # type: ignore[no-untyped-def]
    chain = get(m, r + a.R_FREE) + get(m, u + a.U_CLASS)
    put(m, s + a.S_NEXT, get(m, chain))
    put(m, chain, s)


@inlined
def _prefetch(m, recording, r, x):  # type: ignore[no-untyped-def]
    """Add the ACQUIRE and PREFETCH of an offloaded boundary, into a buffer of its own."""
    u, s = get(m, x + a.X_UNIT), get(m, x + a.X_SLOT)
    nbytes, duration, stored = get(m, u + a.U_BOUNDARY), get(m, u + a.U_DURATION + _PREFETCH), get(m, x + a.X_OFFLOAD)
    buffer, acquire = take(m, recording, r, x, nbytes, _BOUNDARY)
    load = add_operation(m, recording, r, _PREFETCH, x, nbytes, duration, acquire, _ACQUIRE, stored, _OFFLOAD)
    append(m, recording, READS, load, get(m, s + a.S_BUFFER))
    append(m, recording, WRITES, load, buffer)
    put(m, x + a.X_BUFFER, buffer)
    put(m, x + a.X_PREFETCH, load)
    put(m, s + a.S_EMPTIED_BY, load)
