"""Lowering turns tasks and decisions into operations, buffers and edges, in an order that can be issued.

Ranks take turns, one task each, as soon as what the task receives has been sent; so every edge points backwards and
one host thread can issue the list as it stands. It knows no policy: where a boundary's RELEASE and ACQUIRE stand has
been decided.

One compiled walk does it. It keeps the clock and the memory, and writes the plan's rows where they are wanted, so that
a sweep evaluates the very plan that would be built. When an operation starts and ends, what it holds and what it waits
for are asked of the functions that the engines and the metrics ask. Its state lies in the arena (``m``), see
:mod:`loadahead.sim.planner.arena`.
"""

from __future__ import annotations

import numpy as np

from loadahead.sim.clock import STARTS_BEFORE_ISSUED, finish, host_allows, later
from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.ir.kinds import QUEUE_OF, QUEUES_PER_RANK, Kind, Queue, Role, Space
from loadahead.sim.memory import level_after, level_during
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import (
    BUFFER_WIDTH,
    EDGES,
    KINDS,
    LISTED,
    OP_WIDTH,
    RELEASE_WIDTH,
    SPANNED,
    add,
    claim,
    get,
    put,
)
from loadahead.sim.stalls import NO_EDGE, STALL_OF, is_to_blame, stall
from loadahead.sim.step_metrics import STALLS

_QUEUE = np.asarray([QUEUE_OF[kind] for kind in Kind], dtype=np.int64)
_STALLS = len(STALLS)
# Plain integers stand for the IntEnums, whose members are slow to compile.
_FORWARD, _RECOMPUTE, _BACKWARD = int(Kind.FORWARD), int(Kind.RECOMPUTE), int(Kind.BACKWARD)
_OFFLOAD, _RELEASE, _ACQUIRE, _PREFETCH = int(Kind.OFFLOAD), int(Kind.RELEASE), int(Kind.ACQUIRE), int(Kind.PREFETCH)
_SEND_ACTIVATION, _RECV_ACTIVATION = int(Kind.SEND_ACTIVATION), int(Kind.RECV_ACTIVATION)
_SEND_GRADIENT, _RECV_GRADIENT = int(Kind.SEND_GRADIENT), int(Kind.RECV_GRADIENT)
_OPTIMIZER_STEP = int(Kind.OPTIMIZER_STEP)
_BOUNDARY, _OUTPUT, _GRADIENT, _SAVED = int(Role.BOUNDARY), int(Role.OUTPUT), int(Role.GRADIENT), int(Role.WORKSPACE)
_DEVICE, _HOST = int(Space.DEVICE), int(Space.HOST)
_COMPUTE = int(Queue.COMPUTE)
_NOTHING = -1  # no boundary, no edge
_READS, _WRITES, _ALLOCS, _FREES = range(4)


@compiled
def lower(m):  # type: ignore[no-untyped-def]
    """Walk all tasks and return -1, or the rank that waits for ever in an order that deadlocks."""
    _clear(m)
    ranks, microbatches = m[a.RANKS], m[a.MICROBATCHES]
    left = get(m, a.TASK_START, ranks)
    while left:
        before = left
        for rank in range(ranks):
            at = get(m, a.TASK_START, rank) + get(m, a.NEXT_TASK, rank)
            if at < get(m, a.TASK_START, rank + 1):
                unit = get(m, a.TASK_UNIT, at)
                b = unit * microbatches + get(m, a.TASK_MICROBATCH, at)
                if _is_ready(m, at, unit, b):
                    _lower_task(m, rank, at, unit, b)
                    left -= 1
        if left == before:
            for rank in range(ranks):
                if get(m, a.TASK_START, rank) + get(m, a.NEXT_TASK, rank) < get(m, a.TASK_START, rank + 1):
                    return rank
    for rank in range(ranks):
        _add_releases(m, rank, get(m, a.TASK_START, rank + 1) + rank)
        _add_operation(m, rank, _OPTIMIZER_STEP, 0, _NOTHING, 0, _NOTHING, NO_EDGE, _NOTHING, NO_EDGE)
        _hold(m, rank, 0, 0, get(m, a.OPTIMIZER_WORKSPACE, rank))
    for slot in range(m[a.SLOTS]):
        _append(m, _FREES, get(m, a.EMPTIED_BY, slot), get(m, a.SLOT_BUFFER, slot))
    return -1


@inlined
def _clear(m):  # type: ignore[no-untyped-def]
    """Set the arena's state to that before the first task."""
    ranks, microbatches = m[a.RANKS], m[a.MICROBATCHES]
    m[a.OPS] = m[a.BUFFERS] = m[a.SLOTS] = m[a.RELEASED] = m[a.FULL] = 0
    m[m[a.BOUNDARY_BUFFER] : m[a.SLOT_BUFFER]] = -1  # every boundary's operations and buffers
    m[m[a.FREE] : m[a.NEXT_TASK]] = -1
    m[m[a.FIRST_ACQUIRE] : m[a.LAST_RELEASE]] = -1
    m[m[a.NEXT_TASK] : m[a.OPTIMIZER]] = 0
    m[m[a.LEVEL] : m[a.SPAN_START]] = 0
    m[m[a.SPAN_COUNT] : m[a.LAUNCH]] = 0
    m[a.FIRST_START], m[a.LAST_END] = np.iinfo(np.int64).max, 0
    for rank in range(ranks):
        begin, end = get(m, a.TASK_START, rank), get(m, a.TASK_START, rank + 1)
        put(m, a.LEVEL, rank, get(m, a.STATIC, rank))
        put(m, a.PEAK, rank, get(m, a.STATIC, rank))
        # BACKWARDs are put in front of the chain from last to first, so that it begins with what is needed soonest.
        for at in range(end - 1, begin - 1, -1):
            if get(m, a.TASK_BACKWARD, at):
                b = get(m, a.TASK_UNIT, at) * microbatches + get(m, a.TASK_MICROBATCH, at)
                slot = get(m, a.ACQUIRE_SLOT, b)
                if slot >= 0:
                    place = begin + rank + slot
                    put(m, a.NEXT_ACQUIRE, b, get(m, a.FIRST_ACQUIRE, place))
                    put(m, a.FIRST_ACQUIRE, place, b)


@inlined
def _is_ready(m, at, unit, b):  # type: ignore[no-untyped-def]
    """Return whether what the task reads has been made on its rank, or sent to it."""
    if get(m, a.TASK_BACKWARD, at):
        return unit + 1 == m[a.UNITS] or get(m, a.GRADIENT_BUFFER, b) >= 0 or get(m, a.SENT_GRADIENT, b) >= 0
    return unit == 0 or get(m, a.BOUNDARY_BUFFER, b) >= 0 or get(m, a.SENT, b) >= 0


@inlined
def _lower_task(m, rank, at, unit, b):  # type: ignore[no-untyped-def]
    _add_releases(m, rank, at + rank)
    wanted = get(m, a.FIRST_ACQUIRE, at + rank)
    while wanted >= 0:
        _prefetch(m, rank, get(m, a.UNIT_OF, wanted), wanted)
        wanted = get(m, a.NEXT_ACQUIRE, wanted)
    if get(m, a.TASK_BACKWARD, at):
        _backward(m, rank, unit, b)
    else:
        _forward(m, rank, unit, b)
    add(m, a.NEXT_TASK, rank, 1)


@inlined
def _forward(m, rank, unit, b):  # type: ignore[no-untyped-def]
    own = output = saved = received = -1
    taken = taken_boundary = 0
    if get(m, a.SENT, b) >= 0:
        nbytes = get(m, a.BOUNDARY_BYTES, unit)
        buffer, received = _receive(m, rank, _RECV_ACTIVATION, unit, b, nbytes, _BOUNDARY, get(m, a.SENT, b))
        put(m, a.BOUNDARY_BUFFER, b, buffer)
    elif unit == 0:
        nbytes = get(m, a.BOUNDARY_BYTES, unit)
        own = _add_buffer(m, rank, _DEVICE, nbytes, _BOUNDARY, b)
        put(m, a.BOUNDARY_BUFFER, b, own)
        taken, taken_boundary = nbytes, nbytes
    ends, local, nbytes = unit + 1 == m[a.UNITS], False, 0
    if not ends:
        nbytes, local = get(m, a.BOUNDARY_BYTES, unit + 1), get(m, a.UNIT_RANK, unit + 1) == rank
        above = b + m[a.MICROBATCHES]
        output = _add_buffer(m, rank, _DEVICE, nbytes, _BOUNDARY if local else _OUTPUT, above if local else b)
        taken += nbytes
        if local:
            put(m, a.BOUNDARY_BUFFER, above, output)
            taken_boundary += nbytes
    if not m[a.CHECKPOINT] and get(m, a.SAVED_BYTES, unit):
        saved = _add_buffer(m, rank, _DEVICE, get(m, a.SAVED_BYTES, unit), _SAVED, b)
        put(m, a.SAVED_BUFFER, b, saved)
        taken += get(m, a.SAVED_BYTES, unit)
    done = _add_operation(m, rank, _FORWARD, unit, b, 0, received, _RECV_ACTIVATION, _NOTHING, NO_EDGE)
    _hold(m, rank, taken, 0, get(m, a.WORKSPACE, unit * KINDS + _FORWARD))
    _hold_boundaries(m, rank, taken_boundary, 0)
    _append(m, _READS, done, get(m, a.BOUNDARY_BUFFER, b))
    for buffer in (own, output, saved):
        _append(m, _WRITES, done, buffer)
        _append(m, _ALLOCS, done, buffer)
    if get(m, a.ACQUIRE_SLOT, b) >= 0:
        _offload(m, rank, unit, b, done)
    if not ends and not local:
        send = _add_operation(m, rank, _SEND_ACTIVATION, unit, b, nbytes, done, _FORWARD, _NOTHING, NO_EDGE)
        _append(m, _READS, send, output)
        put(m, a.SENT, b + m[a.MICROBATCHES], send)
        _release_sent(m, rank, send, output, b, nbytes, _OUTPUT)


@inlined
def _backward(m, rank, unit, b):  # type: ignore[no-untyped-def]
    ends, received, incoming, outgoing = unit + 1 == m[a.UNITS], -1, -1, -1
    if get(m, a.SENT_GRADIENT, b) >= 0:
        nbytes = get(m, a.GRADIENT_BYTES, unit + 1)
        buffer, received = _receive(m, rank, _RECV_GRADIENT, unit, b, nbytes, _GRADIENT, get(m, a.SENT_GRADIENT, b))
        put(m, a.GRADIENT_BUFFER, b, buffer)
    if m[a.CHECKPOINT]:
        loaded = get(m, a.PREFETCH_OP, b)
        recompute = _add_operation(m, rank, _RECOMPUTE, unit, b, 0, loaded, _PREFETCH, _NOTHING, NO_EDGE)
        _append(m, _READS, recompute, get(m, a.BOUNDARY_BUFFER, b))
        _hold(m, rank, 0, 0, get(m, a.WORKSPACE, unit * KINDS + _RECOMPUTE))
    taken, boundary = 0, get(m, a.BOUNDARY_BYTES, unit)
    if unit > 0:
        taken = get(m, a.GRADIENT_BYTES, unit)
        outgoing = _add_buffer(m, rank, _DEVICE, taken, _GRADIENT, b)
    freed = boundary
    if not ends:
        incoming = get(m, a.GRADIENT_BUFFER, b)
        freed += get(m, a.GRADIENT_BYTES, unit + 1)
    if get(m, a.SAVED_BUFFER, b) >= 0:
        freed += get(m, a.SAVED_BYTES, unit)
    done = _add_operation(m, rank, _BACKWARD, unit, b, 0, received, _RECV_GRADIENT, _NOTHING, NO_EDGE)
    _hold(m, rank, taken, freed, get(m, a.WORKSPACE, unit * KINDS + _BACKWARD))
    _hold_boundaries(m, rank, 0, boundary)
    for buffer in (get(m, a.BOUNDARY_BUFFER, b), incoming, get(m, a.SAVED_BUFFER, b)):
        _append(m, _READS, done, buffer)
        _append(m, _FREES, done, buffer)
    _append(m, _WRITES, done, outgoing)
    _append(m, _ALLOCS, done, outgoing)
    if get(m, a.SLOT, b) >= 0:
        _give_back_slot(m, rank, unit, get(m, a.SLOT, b))
    if unit > 0:
        below = b - m[a.MICROBATCHES]
        if get(m, a.UNIT_RANK, unit - 1) == rank:
            put(m, a.GRADIENT_BUFFER, below, outgoing)
        else:
            send = _add_operation(m, rank, _SEND_GRADIENT, unit, b, taken, done, _BACKWARD, _NOTHING, NO_EDGE)
            _append(m, _READS, send, outgoing)
            put(m, a.SENT_GRADIENT, below, send)
            _release_sent(m, rank, send, outgoing, b, taken, _GRADIENT)


# ---- copies and messages --------------------------------------------------------------------------------------------


@inlined
def _offload(m, rank, unit, b, done):  # type: ignore[no-untyped-def]
    """Add the OFFLOAD into a host slot, and note its RELEASE.

    A slot is used again only once the BACKWARD of the boundary it held is behind on the compute queue, so its
    PREFETCH has ended and the reuse never makes a copy wait.
    """
    nbytes, chain = get(m, a.BOUNDARY_BYTES, unit), _free_chain(m, rank, unit)
    slot, emptied = get(m, a.FREE, chain), -1
    fresh = slot < 0
    if fresh:
        slot = claim(m, a.SLOTS, a.SLOT_ROOM, a.SLOT_BUFFER)
        put(m, a.SLOT_BUFFER, slot, _add_buffer(m, rank, _HOST, nbytes, _BOUNDARY, b))
        add(m, a.HOST_BYTES, rank, nbytes)
    else:
        put(m, a.FREE, chain, get(m, a.NEXT_FREE, slot))
        emptied = get(m, a.EMPTIED_BY, slot)
    op = _add_operation(m, rank, _OFFLOAD, unit, b, nbytes, done, _FORWARD, emptied, _PREFETCH)
    _append(m, _READS, op, get(m, a.BOUNDARY_BUFFER, b))
    _append(m, _WRITES, op, get(m, a.SLOT_BUFFER, slot))
    if fresh:
        _append(m, _ALLOCS, op, get(m, a.SLOT_BUFFER, slot))
    put(m, a.SLOT, b, slot)
    put(m, a.OFFLOAD_OP, b, op)
    _release_at(m, rank, get(m, a.RELEASE_SLOT, b), op, get(m, a.BOUNDARY_BUFFER, b), b, nbytes, _BOUNDARY)


@inlined
def _free_chain(m, rank, unit):  # type: ignore[no-untyped-def]
    """Return where the chain of a rank's free slots of a unit's size begins, in FREE."""
    return rank * m[a.CLASSES] + get(m, a.SIZE_CLASS, unit)


@inlined
def _give_back_slot(m, rank, unit, slot):  # type: ignore[no-untyped-def]
    chain = _free_chain(m, rank, unit)
    put(m, a.NEXT_FREE, slot, get(m, a.FREE, chain))
    put(m, a.FREE, chain, slot)


@inlined
def _prefetch(m, rank, unit, b):  # type: ignore[no-untyped-def]
    """Add the ACQUIRE and PREFETCH of an offloaded boundary, into a buffer of its own."""
    nbytes, slot = get(m, a.BOUNDARY_BYTES, unit), get(m, a.SLOT, b)
    buffer, acquire = _acquire(m, rank, unit, b, nbytes, _BOUNDARY)
    stored = get(m, a.OFFLOAD_OP, b)
    load = _add_operation(m, rank, _PREFETCH, unit, b, nbytes, acquire, _ACQUIRE, stored, _OFFLOAD)
    _append(m, _READS, load, get(m, a.SLOT_BUFFER, slot))
    _append(m, _WRITES, load, buffer)
    put(m, a.BOUNDARY_BUFFER, b, buffer)
    put(m, a.PREFETCH_OP, b, load)
    put(m, a.EMPTIED_BY, slot, load)


@inlined
def _receive(m, rank, kind, unit, b, nbytes, role, send):  # type: ignore[no-untyped-def]
    """Add ACQUIRE and RECV directly before the task that reads; return (buffer, RECV)."""
    buffer, acquire = _acquire(m, rank, unit, b, nbytes, role)
    sent = _SEND_ACTIVATION if kind == _RECV_ACTIVATION else _SEND_GRADIENT
    received = _add_operation(m, rank, kind, unit, b, nbytes, send, sent, acquire, _ACQUIRE)
    _append(m, _WRITES, received, buffer)
    return buffer, received


@inlined
def _acquire(m, rank, unit, b, nbytes, role):  # type: ignore[no-untyped-def]
    buffer = _add_buffer(m, rank, _DEVICE, nbytes, role, b)
    acquire = _add_operation(m, rank, _ACQUIRE, unit, b, 0, _NOTHING, NO_EDGE, _NOTHING, NO_EDGE)
    _append(m, _ALLOCS, acquire, buffer)
    _hold(m, rank, nbytes, 0, 0)
    if role == _BOUNDARY:
        _hold_boundaries(m, rank, nbytes, 0)
    return buffer, acquire


@inlined
def _release_sent(m, rank, send, buffer, b, nbytes, role):  # type: ignore[no-untyped-def]
    """Note the RELEASE of what was sent, as many tasks after the one that wrote it as the window says."""
    tasks = get(m, a.TASK_START, rank + 1) - get(m, a.TASK_START, rank)
    slot = min(get(m, a.NEXT_TASK, rank) + m[a.SENT_WINDOW] + 1, tasks)
    _release_at(m, rank, slot, send, buffer, b, nbytes, role)


@inlined
def _release_at(m, rank, slot, waited, buffer, b, nbytes, role):  # type: ignore[no-untyped-def]
    """Note a RELEASE, behind those that the slot has already."""
    at = claim(m, a.RELEASED, a.RELEASE_ROOM, a.RELEASES)
    row = m[a.RELEASES] + at * RELEASE_WIDTH
    m[row], m[row + 1], m[row + 2], m[row + 3], m[row + 4], m[row + 5] = -1, waited, buffer, b, nbytes, role
    place = get(m, a.TASK_START, rank) + rank + slot
    if get(m, a.FIRST_RELEASE, place) < 0:
        put(m, a.FIRST_RELEASE, place, at)
    else:
        m[m[a.RELEASES] + get(m, a.LAST_RELEASE, place) * RELEASE_WIDTH] = at
    put(m, a.LAST_RELEASE, place, at)


@inlined
def _add_releases(m, rank, place):  # type: ignore[no-untyped-def]
    """Add the RELEASEs of a slot, in the order in which they were noted."""
    at = get(m, a.FIRST_RELEASE, place)
    while at >= 0:
        row = m[a.RELEASES] + at * RELEASE_WIDTH
        b, role = m[row + 3], m[row + 5]
        kind = _OFFLOAD if role == _BOUNDARY else _SEND_ACTIVATION if role == _OUTPUT else _SEND_GRADIENT
        op = _add_operation(m, rank, _RELEASE, get(m, a.UNIT_OF, b), b, 0, m[row + 1], kind, _NOTHING, NO_EDGE)
        _append(m, _FREES, op, m[row + 2])
        _hold(m, rank, 0, m[row + 4], 0)
        if role == _BOUNDARY:
            _hold_boundaries(m, rank, 0, m[row + 4])
        at = m[row]


# ---- rows, clock and memory -----------------------------------------------------------------------------------------


@inlined
def _add_buffer(m, rank, space, nbytes, role, b):  # type: ignore[no-untyped-def]
    """Add a buffer and return its position; return 0 where no rows are written, as no position is needed then."""
    if not m[a.RECORDING]:
        return 0
    index = claim(m, a.BUFFERS, a.BUFFER_ROOM, a.BUFFER_ROWS)
    row = m[a.BUFFER_ROWS] + index * BUFFER_WIDTH
    m[row], m[row + 1], m[row + 2], m[row + 3], m[row + 4] = rank, space, nbytes, role, b
    return index


@inlined
def _add_operation(m, rank, kind, unit, b, nbytes, edge0, kind0, edge1, kind1):  # type: ignore[no-untyped-def]
    """Add an operation and return its position; an edge comes with its kind, and the second, or both, may be -1."""
    index = claim(m, a.OPS, a.OP_ROOM, a.END)
    if m[a.RECORDING]:
        row = m[a.ROWS] + index * OP_WIDTH
        m[row], m[row + 1], m[row + 2], m[row + 3] = rank, kind, b, nbytes
        m[row + 4], m[row + 5] = edge0, edge1
        m[row + 4 + EDGES : row + OP_WIDTH] = -1
    _time_operation(m, index, rank, kind, unit, edge0, kind0, edge1, kind1)
    return index


@inlined
def _append(m, which, op, value):  # type: ignore[no-untyped-def]
    """Put a buffer, unless it is -1, at the end of one of an operation's lists."""
    if m[a.RECORDING] and value >= 0:
        at = m[a.ROWS] + op * OP_WIDTH + 4 + EDGES + which * LISTED
        last = at + LISTED - 1
        while m[at] >= 0:
            if at == last:
                m[a.FULL] = a.ROWS
                return
            at += 1
        m[at] = value


@inlined
def _time_operation(m, index, rank, kind, unit, edge0, kind0, edge1, kind1):  # type: ignore[no-untyped-def]
    """Time an operation, and keep its stall and its span."""
    queue = _QUEUE[kind]
    begun = get(m, a.HOST_CLOCK, rank)
    issued = begun + get(m, a.LAUNCH, kind)
    put(m, a.HOST_CLOCK, rank, issued)
    line = m[a.QUEUE_END] + rank * QUEUES_PER_RANK + queue
    ready = later(m[line], host_allows(begun, issued, STARTS_BEFORE_ISSUED[kind]))
    start, latest, blamed = ready, 0, NO_EDGE
    for edge, edge_kind in ((edge0, kind0), (edge1, kind1)):
        if edge >= 0:
            ended = get(m, a.END, edge)
            start = later(start, ended)
            if is_to_blame(ended, latest, blamed):
                latest, blamed = ended, edge_kind
    if kind == _OPTIMIZER_STEP:
        end = finish(start, get(m, a.OPTIMIZER, rank), issued)
    else:
        end = finish(start, get(m, a.DURATION, unit * KINDS + kind), issued)
    put(m, a.END, index, end)
    m[line] = end
    m[a.FIRST_START], m[a.LAST_END] = min(m[a.FIRST_START], start), max(m[a.LAST_END], end)
    if queue >= SPANNED:
        return
    if queue == _COMPUTE and STALL_OF[blamed] >= 0:
        add(m, a.STALLED, rank * _STALLS + STALL_OF[blamed], stall(ready, latest))
    if end > start:
        count = m[a.SPAN_COUNT] + rank * SPANNED + queue
        begin = get(m, a.SPAN_START, rank)
        room = (get(m, a.SPAN_START, rank + 1) if rank + 1 < m[a.RANKS] else m[a.SPAN_ROOM]) - begin
        if m[count] == room:
            m[a.FULL] = a.SPANS
            return
        row = m[a.SPANS] + 2 * (queue * m[a.SPAN_ROOM] + begin + m[count])
        m[row], m[row + 1] = start, end
        m[count] += 1


@inlined
def _hold(m, rank, taken, freed, workspace):  # type: ignore[no-untyped-def]
    """Keep the level and the peak of device memory over an operation of the compute queue."""
    level = get(m, a.LEVEL, rank)
    put(m, a.PEAK, rank, max(get(m, a.PEAK, rank), level_during(level, taken, workspace)))
    put(m, a.LEVEL, rank, level_after(level, taken, freed))


@inlined
def _hold_boundaries(m, rank, taken, freed):  # type: ignore[no-untyped-def]
    """Keep the same of the boundaries alone."""
    level = get(m, a.BOUNDARY_LEVEL, rank)
    put(m, a.BOUNDARY_PEAK, rank, max(get(m, a.BOUNDARY_PEAK, rank), level_during(level, taken, 0)))
    put(m, a.BOUNDARY_LEVEL, rank, level_after(level, taken, freed))
