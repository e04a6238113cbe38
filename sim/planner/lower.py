"""Lowering turns tasks and decisions into operations, buffers and edges, in an order that can be issued.

Ranks take turns, one task each, as soon as what the task receives has been sent; so every edge points backwards and
one host thread can issue the list as it stands. It knows no policy: where a boundary's RELEASE and ACQUIRE stand has
been decided.

A SEND is listed once its task and the ACQUIRE of the memory that it is sent into are, behind what the receiver reads
before it from the same rank. The RELEASE of what was sent has a fixed place where every rank holds one stage. Else, or
where that would come to a halt, it stands in the first slot from there on before which its SEND is listed.

One compiled walk does it. It keeps the clock and the memory, and writes the plan's rows where they are wanted, so that
a sweep evaluates the very plan that would be built. When an operation starts and ends, what it holds and what it waits
for are asked of the functions that the engines and the metrics ask. Its state lies in the arena (``m``), see
:mod:`loadahead.sim.planner.arena`.
"""

from __future__ import annotations

import numpy as np

from loadahead.sim.clock import STARTS_BEFORE_ISSUED, finish, host_allows, later
from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.ir.kinds import QUEUE_OF, Kind, Queue, Role, Space
from loadahead.sim.memory import level_after, level_during
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import (
    BOUNDARY_WIDTH,
    RANK_WIDTH,
    SPANNED,
    TASK_WIDTH,
    UNIT_WIDTH,
    add,
    claim,
    clear,
    get,
    put,
)
from loadahead.sim.stalls import NO_EDGE, STALL_OF, is_to_blame, stall

_QUEUE = np.asarray([QUEUE_OF[kind] for kind in Kind], dtype=np.int64)
# Plain integers stand for the IntEnums, whose members are slow to compile.
_FORWARD, _RECOMPUTE, _BACKWARD = int(Kind.FORWARD), int(Kind.RECOMPUTE), int(Kind.BACKWARD)
_OFFLOAD, _RELEASE, _ACQUIRE, _PREFETCH = int(Kind.OFFLOAD), int(Kind.RELEASE), int(Kind.ACQUIRE), int(Kind.PREFETCH)
_SEND_ACTIVATION, _RECV_ACTIVATION = int(Kind.SEND_ACTIVATION), int(Kind.RECV_ACTIVATION)
_SEND_GRADIENT, _RECV_GRADIENT = int(Kind.SEND_GRADIENT), int(Kind.RECV_GRADIENT)
_OPTIMIZER_STEP = int(Kind.OPTIMIZER_STEP)
_BOUNDARY, _OUTPUT, _GRADIENT = int(Role.BOUNDARY), int(Role.OUTPUT), int(Role.GRADIENT)
_DEVICE, _HOST = int(Space.DEVICE), int(Space.HOST)
_COMPUTE = int(Queue.COMPUTE)
_NONE = -1  # no boundary, no buffer, no edge
_READS, _WRITES, _ALLOCS, _FREES = range(4)
# The RELEASE of what a task sent stands before the task that comes so many places after it: one lies between.
SENT_STAYS = 2


@compiled
def lower(m, release, acquire):  # type: ignore[no-untyped-def]
    """Walk all tasks and write rows; return -1, or the rank that waits for ever in an order that deadlocks.

    ``release`` and ``acquire`` hold the slots decided for each boundary, -1 where it stays; shape (boundaries,).
    """
    return _walk_or_put_off(m, True, release, acquire)


@compiled
def lower_without_rows(m, release, acquire):  # type: ignore[no-untyped-def]
    """Walk all tasks in the same way and write no rows: the clock and the memory are all that is wanted."""
    return _walk_or_put_off(m, False, release, acquire)


# Below, ``recording`` says whether rows are written; it is known when the walk is compiled. ``r``, ``t``, ``x`` and
# ``u`` are the places of the rows of a rank, a task, a boundary and its unit.


@inlined
def _walk_or_put_off(m, recording, release, acquire):  # type: ignore[no-untyped-def]
    """Walk, and where RELEASEs in fixed places bring that to a halt, once more with RELEASEs that are put off."""
    m[a.FIXED] = m[a.ONE_STAGE]
    while True:
        stuck = _walk(m, recording, release, acquire)
        if stuck < 0 or not m[a.FIXED]:
            return stuck
        clear(m)
        m[a.FIXED] = 0


@inlined
def _walk(m, recording, release, acquire):  # type: ignore[no-untyped-def]
    ranks, left = _begin(m, release, acquire)
    while left:
        moved = False
        for r in range(m[a.RANK_ROWS], m[a.UNIT_ROWS], RANK_WIDTH):
            t = get(m, r + a.R_NEXT)
            if t < get(m, r + a.R_END):
                if not get(m, r + a.R_OPEN):
                    if not _list_slot(m, recording, r, t):
                        continue
                    put(m, r + a.R_OPEN, 1)
                    moved = True
                x = get(m, t + a.T_BOUNDARY)
                if _is_ready(m, t, x):
                    _lower_task(m, recording, r, t, x)
                    left -= 1
                    moved = True
        if not moved:
            for rank in range(ranks):
                r = m[a.RANK_ROWS] + rank * RANK_WIDTH
                if get(m, r + a.R_NEXT) < get(m, r + a.R_END):
                    return rank
    for r in range(m[a.RANK_ROWS], m[a.UNIT_ROWS], RANK_WIDTH):
        _list_slot(m, recording, r, get(m, r + a.R_END))
        duration = get(m, r + a.R_OPTIMIZER)
        _add_operation(m, recording, r, _OPTIMIZER_STEP, _NONE, 0, duration, _NONE, NO_EDGE, _NONE, NO_EDGE)
        _hold(m, r, 0, 0, get(m, r + a.R_OPTIMIZER_WORKSPACE))
    if recording:
        for s in range(m[a.SLOT_ROWS], m[a.SLOT_ROWS] + m[a.SLOTS] * a.SLOT_WIDTH, a.SLOT_WIDTH):
            _append(m, recording, _FREES, get(m, s + a.S_EMPTIED_BY), get(m, s + a.S_BUFFER))
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
def _list_slot(m, recording, r, t):  # type: ignore[no-untyped-def]
    """List what stands in the slot before a task, and return True; or nothing of it where it has to wait for a SEND."""
    if not _add_releases(m, recording, r, t):
        return False
    wanted = get(m, t + a.T_ACQUIRE)
    while wanted >= 0:
        _prefetch(m, recording, r, wanted)
        wanted = get(m, wanted + a.X_NEXT)
    put(m, t + a.T_ACQUIRE, -1)
    at, end = get(m, r + a.R_ARRIVING), min(t + (m[a.RECEIVE_AHEAD] + 1) * TASK_WIDTH, get(m, r + a.R_END))
    while at < end:
        if get(m, at + a.T_ARRIVES) >= 0:
            _take_for_arrival(m, recording, r, at)
        at += TASK_WIDTH
    put(m, r + a.R_ARRIVING, at)
    return True


@inlined
def _lower_task(m, recording, r, t, x):  # type: ignore[no-untyped-def]
    if get(m, t + a.T_BACKWARD):
        _backward(m, recording, r, t, x)
    else:
        _forward(m, recording, r, t, x)
    put(m, r + a.R_NEXT, t + TASK_WIDTH)
    put(m, r + a.R_OPEN, 0)


@inlined
def _forward(m, recording, r, t, x):  # type: ignore[no-untyped-def]
    u, own, output, received = get(m, t + a.T_UNIT), _NONE, _NONE, _NONE
    above, boundary, taken_boundary = get(m, u + a.U_ABOVE), get(m, u + a.U_BOUNDARY), 0
    taken, freed, freed_boundary = get(m, u + a.U_TAKES), get(m, u + a.U_FORWARD_FREES), 0
    if get(m, t + a.T_ARRIVES) >= 0:
        sent, kind = get(m, x + a.X_SENT), _RECV_ACTIVATION
        received = _receive(m, recording, r, kind, x, boundary, get(m, x + a.X_BUFFER), sent, _SEND_ACTIVATION)
    elif get(m, u + a.U_BELOW) == a.END_OF_MODEL:
        taken_boundary = boundary
        taken += boundary
        own = _add_buffer(m, recording, r, _DEVICE, boundary, _BOUNDARY, x)
        put(m, x + a.X_BUFFER, own)
    nbytes, next_x = 0, x + m[a.MICROBATCHES] * BOUNDARY_WIDTH
    if above != a.END_OF_MODEL:
        nbytes = get(m, u + UNIT_WIDTH + a.U_BOUNDARY)
        taken += nbytes
        if above == a.SAME_RANK:
            output = _add_buffer(m, recording, r, _DEVICE, nbytes, _BOUNDARY, next_x)
            put(m, next_x + a.X_BUFFER, output)
            taken_boundary += nbytes
        else:
            output = _add_buffer(m, recording, r, _DEVICE, nbytes, _OUTPUT, x)
    if get(m, u + a.U_FROZEN) == a.FROZEN:
        freed_boundary = boundary
        freed += boundary
    duration = get(m, u + a.U_DURATION + _FORWARD)
    done = _add_operation(m, recording, r, _FORWARD, x, 0, duration, received, _RECV_ACTIVATION, _NONE, NO_EDGE)
    _hold(m, r, taken, freed, get(m, u + a.U_WORKSPACE + _FORWARD))
    _hold_boundaries(m, r, taken_boundary, freed_boundary)
    if recording:
        _append(m, recording, _READS, done, get(m, x + a.X_BUFFER))
        for buffer in (own, output):
            _append(m, recording, _WRITES, done, buffer)
            _append(m, recording, _ALLOCS, done, buffer)
    if get(m, x + a.X_RELEASE) >= 0:
        _offload(m, recording, r, u, x, done)
    if get(m, u + a.U_FROZEN) == a.FROZEN:
        _append(m, recording, _FREES, done, get(m, x + a.X_BUFFER))
        _forget(m, x)
    if above == a.OTHER_RANK:
        _leave(m, recording, r, t, x, next_x + a.X_MADE, nbytes, done, output, _OUTPUT)


@inlined
def _backward(m, recording, r, t, x):  # type: ignore[no-untyped-def]
    u, received, incoming, outgoing = get(m, t + a.T_UNIT), _NONE, _NONE, _NONE
    below, boundary = get(m, u + a.U_BELOW), get(m, u + a.U_BOUNDARY)
    freed = boundary + get(m, u + a.U_BACKWARD_FREES)
    if get(m, u + a.U_ABOVE) != a.END_OF_MODEL:
        nbytes, incoming = get(m, u + UNIT_WIDTH + a.U_GRADIENT), get(m, x + a.X_GRADIENT)
        freed += nbytes
        if get(m, t + a.T_ARRIVES) >= 0:
            sent = get(m, x + a.X_SENT + a.OF_GRADIENT)
            received = _receive(m, recording, r, _RECV_GRADIENT, x, nbytes, incoming, sent, _SEND_GRADIENT)
    if m[a.CHECKPOINT]:
        loaded, duration = get(m, x + a.X_PREFETCH), get(m, u + a.U_DURATION + _RECOMPUTE)
        done = _add_operation(m, recording, r, _RECOMPUTE, x, 0, duration, loaded, _PREFETCH, _NONE, NO_EDGE)
        _append(m, recording, _READS, done, get(m, x + a.X_BUFFER))
        _hold(m, r, 0, 0, get(m, u + a.U_WORKSPACE + _RECOMPUTE))
    taken, wanted = 0, below != a.END_OF_MODEL and get(m, u + a.U_FROZEN) == a.TRAINED
    if wanted:
        taken = get(m, u + a.U_GRADIENT)
        outgoing = _add_buffer(m, recording, r, _DEVICE, taken, _GRADIENT, x)
    duration = get(m, u + a.U_DURATION + _BACKWARD)
    done = _add_operation(m, recording, r, _BACKWARD, x, 0, duration, received, _RECV_GRADIENT, _NONE, NO_EDGE)
    _hold(m, r, taken, freed, get(m, u + a.U_WORKSPACE + _BACKWARD))
    _hold_boundaries(m, r, 0, boundary)
    if recording:
        for buffer in (get(m, x + a.X_BUFFER), incoming):
            _append(m, recording, _READS, done, buffer)
            _append(m, recording, _FREES, done, buffer)
        _append(m, recording, _WRITES, done, outgoing)
        _append(m, recording, _ALLOCS, done, outgoing)
    if get(m, x + a.X_SLOT) >= 0:
        _give_back_slot(m, r, u, get(m, x + a.X_SLOT))
    _forget(m, x)
    next_x = x - m[a.MICROBATCHES] * BOUNDARY_WIDTH
    if wanted and below == a.SAME_RANK:
        put(m, next_x + a.X_GRADIENT, outgoing)
    elif wanted:
        _leave(m, recording, r, t, x, next_x + a.X_MADE + a.OF_GRADIENT, taken, done, outgoing, _GRADIENT)


@inlined
def _forget(m, x):  # type: ignore[no-untyped-def]
    """Clear a boundary of which nothing is needed any more."""
    for entry in range(x + a.FIRST_CLEARED, x + BOUNDARY_WIDTH):
        put(m, entry, -1)


# ---- copies and messages --------------------------------------------------------------------------------------------


@inlined
def _offload(m, recording, r, u, x, done):  # type: ignore[no-untyped-def]
    """Add the OFFLOAD into a host slot, and note its RELEASE.

    A slot is used again only once the BACKWARD of the boundary it held is behind on the compute queue, so its
    PREFETCH has ended and the reuse never makes a copy wait.
    """
    nbytes, chain, emptied = get(m, u + a.U_BOUNDARY), get(m, r + a.R_FREE) + get(m, u + a.U_CLASS), _NONE
    s = get(m, chain)
    fresh = s < 0
    if fresh:
        s = m[a.SLOT_ROWS] + claim(m, a.SLOTS, a.SLOT_ROOM, a.SLOT_ROWS) * a.SLOT_WIDTH
        put(m, s + a.S_BUFFER, _add_buffer(m, recording, r, _HOST, nbytes, _BOUNDARY, x))
        add(m, r + a.R_HOST, nbytes)
    else:
        put(m, chain, get(m, s + a.S_NEXT))
        emptied = get(m, s + a.S_EMPTIED_BY)
    duration, buffer = get(m, u + a.U_DURATION + _OFFLOAD), get(m, x + a.X_BUFFER)
    op = _add_operation(m, recording, r, _OFFLOAD, x, nbytes, duration, done, _FORWARD, emptied, _PREFETCH)
    _append(m, recording, _READS, op, buffer)
    _append(m, recording, _WRITES, op, get(m, s + a.S_BUFFER))
    if fresh:
        _append(m, recording, _ALLOCS, op, get(m, s + a.S_BUFFER))
    put(m, x + a.X_SLOT, s)
    put(m, x + a.X_OFFLOAD, op)
    place = get(m, r + a.R_FIRST) + get(m, x + a.X_RELEASE) * TASK_WIDTH
    _release_at(m, recording, place, op, buffer, x, nbytes, _BOUNDARY)


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
    buffer, acquire = _acquire(m, recording, r, x, nbytes, _BOUNDARY)
    load = _add_operation(m, recording, r, _PREFETCH, x, nbytes, duration, acquire, _ACQUIRE, stored, _OFFLOAD)
    _append(m, recording, _READS, load, get(m, s + a.S_BUFFER))
    _append(m, recording, _WRITES, load, buffer)
    put(m, x + a.X_BUFFER, buffer)
    put(m, x + a.X_PREFETCH, load)
    put(m, s + a.S_EMPTIED_BY, load)


@inlined
def _take_for_arrival(m, recording, r, t):  # type: ignore[no-untyped-def]
    """Add the ACQUIRE of what a task reads from another rank, and list the SENDs that have waited for it."""
    x, u, gradient = get(m, t + a.T_BOUNDARY), get(m, t + a.T_UNIT), get(m, t + a.T_BACKWARD)
    if gradient:
        buffer, acquire = _acquire(m, recording, r, x, get(m, u + UNIT_WIDTH + a.U_GRADIENT), _GRADIENT)
        put(m, x + a.X_GRADIENT, buffer)
    else:
        buffer, acquire = _acquire(m, recording, r, x, get(m, u + a.U_BOUNDARY), _BOUNDARY)
        put(m, x + a.X_BUFFER, buffer)
    put(m, x + a.X_TAKEN + a.OF_GRADIENT * gradient, acquire)
    _list_sends(m, recording, get(m, t + a.T_ARRIVES))


@inlined
def _leave(m, recording, r, t, x, made, nbytes, done, buffer, role):  # type: ignore[no-untyped-def]
    """Note the RELEASE of what a task wrote for another rank, and list the SENDs that have waited for it.

    ``made`` is the entry of the boundary's row, on the other rank, that knows of it.
    """
    place = min(t + SENT_STAYS * TASK_WIDTH, get(m, r + a.R_END))
    row = _release_at(m, recording, place, _NONE, buffer, x, nbytes, role)
    put(m, row + a.L_MADE, done)
    put(m, row + a.L_RANK, r)
    put(m, made, row)
    _list_sends(m, recording, get(m, t + a.T_LEAVES))


@inlined
def _list_sends(m, recording, p):  # type: ignore[no-untyped-def]
    """List a pair's SENDs, in the order in which they are read, as far as they are made and have memory to land in."""
    arrival, end = get(m, p + a.P_NEXT), get(m, p + a.P_END)
    while arrival < end:
        x = get(m, arrival) + get(m, arrival + 1)
        row, taken = get(m, x + a.X_MADE), get(m, x + a.X_TAKEN)
        if row < 0 or taken < 0:
            break
        role, sender, nbytes = get(m, row + a.L_ROLE), get(m, row + a.L_BOUNDARY), get(m, row + a.L_BYTES)
        kind, made_by = (_SEND_ACTIVATION, _FORWARD) if role == _OUTPUT else (_SEND_GRADIENT, _BACKWARD)
        duration, made, r = (
            get(m, get(m, sender + a.X_UNIT) + a.U_DURATION + kind),
            get(m, row + a.L_MADE),
            get(m, row + a.L_RANK),
        )
        send = _add_operation(m, recording, r, kind, sender, nbytes, duration, made, made_by, taken, _ACQUIRE)
        _append(m, recording, _READS, send, get(m, row + a.L_BUFFER))
        put(m, row + a.L_WAITED, send)
        put(m, x + a.X_SENT, send)
        arrival += a.ARRIVAL_WIDTH
    put(m, p + a.P_NEXT, arrival)


@inlined
def _receive(m, recording, r, kind, x, nbytes, buffer, sent, sent_kind):  # type: ignore[no-untyped-def]
    """Add the RECV directly before the task that reads, and return it."""
    received = _add_operation(m, recording, r, kind, x, nbytes, 0, sent, sent_kind, _NONE, NO_EDGE)
    _append(m, recording, _WRITES, received, buffer)
    return received


@inlined
def _acquire(m, recording, r, x, nbytes, role):  # type: ignore[no-untyped-def]
    buffer = _add_buffer(m, recording, r, _DEVICE, nbytes, role, x)
    acquire = _add_operation(m, recording, r, _ACQUIRE, x, 0, 0, _NONE, NO_EDGE, _NONE, NO_EDGE)
    _append(m, recording, _ALLOCS, acquire, buffer)
    _hold(m, r, nbytes, 0, 0)
    if role == _BOUNDARY:
        _hold_boundaries(m, r, nbytes, 0)
    return buffer, acquire


@inlined
def _release_at(m, recording, place, waited, buffer, x, nbytes, role):  # type: ignore[no-untyped-def]
    """Note a RELEASE and return its row; ``place`` is the row of the task after its slot."""
    row = m[a.RELEASE_ROWS] + claim(m, a.RELEASED, a.RELEASE_ROOM, a.RELEASE_ROWS) * a.RELEASE_WIDTH
    put(m, row + a.L_WAITED, waited)
    put(m, row + a.L_BUFFER, buffer)
    put(m, row + a.L_BOUNDARY, x)
    put(m, row + a.L_BYTES, nbytes)
    put(m, row + a.L_ROLE, role)
    _put_into_slot(m, place, row)
    return row


@inlined
def _put_into_slot(m, place, row):  # type: ignore[no-untyped-def]
    """Put a RELEASE behind those that a slot has already."""
    put(m, row + a.L_NEXT, -1)
    if get(m, place + a.T_RELEASE) < 0:
        put(m, place + a.T_RELEASE, row)
    else:
        put(m, get(m, place + a.T_LAST_RELEASE) + a.L_NEXT, row)
    put(m, place + a.T_LAST_RELEASE, row)


@inlined
def _add_releases(m, recording, r, t):  # type: ignore[no-untyped-def]
    """Add the RELEASEs of the slot before a task, in the order in which they were noted, and return True.

    Where one has a fixed place and its SEND is not listed yet, add none and return False.
    """
    row = get(m, t + a.T_RELEASE)
    while row >= 0 and m[a.FIXED]:
        if get(m, row + a.L_WAITED) < 0:
            return False
        row = get(m, row + a.L_NEXT)
    row = get(m, t + a.T_RELEASE)
    while row >= 0:
        role, waited, x = get(m, row + a.L_ROLE), get(m, row + a.L_WAITED), get(m, row + a.L_BOUNDARY)
        following = get(m, row + a.L_NEXT)
        if waited < 0:
            _put_into_slot(m, t + TASK_WIDTH, row)
        else:
            kind = _OFFLOAD if role == _BOUNDARY else _SEND_ACTIVATION if role == _OUTPUT else _SEND_GRADIENT
            op = _add_operation(m, recording, r, _RELEASE, x, 0, 0, waited, kind, _NONE, NO_EDGE)
            _append(m, recording, _FREES, op, get(m, row + a.L_BUFFER))
            nbytes = get(m, row + a.L_BYTES)
            _hold(m, r, 0, nbytes, 0)
            if role == _BOUNDARY:
                _hold_boundaries(m, r, 0, nbytes)
        row = following
    put(m, t + a.T_RELEASE, -1)
    return True


# ---- rows, clock and memory -----------------------------------------------------------------------------------------


@inlined
def _add_buffer(m, recording, r, space, nbytes, role, x):  # type: ignore[no-untyped-def]
    """Add a buffer and return its position; return 0 where no rows are written, as no position is needed then."""
    if not recording:
        return 0
    index = claim(m, a.BUFFERS, a.BUFFER_ROOM, a.BUFFER_ROWS)
    row = m[a.BUFFER_ROWS] + index * a.BUFFER_WIDTH
    m[row], m[row + 1], m[row + 2], m[row + 3] = m[r + a.R_NUMBER], space, nbytes, role
    m[row + 4] = m[x + a.X_INDEX]
    return index


@inlined
def _add_operation(m, recording, r, kind, x, nbytes, duration, edge0, kind0, edge1, kind1):  # type: ignore[no-untyped-def]
    """Add an operation and return its position; an edge comes with its kind, and the second, or both, may be -1."""
    index = claim(m, a.OPS, a.OP_ROOM, a.END)
    if recording:
        row = m[a.ROWS] + index * a.OP_WIDTH
        m[row], m[row + 1], m[row + 3] = m[r + a.R_NUMBER], kind, nbytes
        m[row + 2] = m[x + a.X_INDEX] if x >= 0 else _NONE
        m[row + 4], m[row + 5] = edge0, edge1
        m[row + 4 + a.EDGES : row + a.OP_WIDTH] = -1
    _time_operation(m, index, r, kind, duration, edge0, kind0, edge1, kind1)
    return index


@inlined
def _append(m, recording, which, op, value):  # type: ignore[no-untyped-def]
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
def _hold(m, r, taken, freed, workspace):  # type: ignore[no-untyped-def]
    """Keep the level and the peak of device memory over an operation of the compute queue."""
    level = get(m, r + a.R_LEVEL)
    put(m, r + a.R_PEAK, max(get(m, r + a.R_PEAK), level_during(level, taken, workspace)))
    put(m, r + a.R_LEVEL, level_after(level, taken, freed))


@inlined
def _hold_boundaries(m, r, taken, freed):  # type: ignore[no-untyped-def]
    """Keep the same of the boundaries alone."""
    level = get(m, r + a.R_BOUNDARY_LEVEL)
    put(m, r + a.R_BOUNDARY_PEAK, max(get(m, r + a.R_BOUNDARY_PEAK), level_during(level, taken, 0)))
    put(m, r + a.R_BOUNDARY_LEVEL, level_after(level, taken, freed))
