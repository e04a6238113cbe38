"""Lowering: tasks and offload decisions become operations, buffers and edges, in a list order that can be issued.

Ranks take turns, one task each, as soon as what the task receives has been sent; so every edge points backwards and
one host thread can issue the list as it stands.

One compiled walk does it. It writes the plan's rows (:class:`Rows`), or it keeps the clock and the memory
(:class:`Clock`) and writes nothing, so that a sweep evaluates the very plan that would be built.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from sim.ir.kinds import QUEUE_OF, QUEUES_PER_RANK, Kind, Role, Space
from sim.ir.plan import Codes, Ints, SmallInts

# Places in each rank's figures that the walk fills; see Clock.totals.
LEVEL, BOUNDARY_LEVEL, PEAK, BOUNDARY_PEAK, HOST, COMPUTE, STALL_RELEASE, STALL_PREFETCH, STALL_RECV = range(9)
TOTALS = 9
# Most entries of one operation's list of edges, and of buffers it reads, writes, takes or frees.
EDGES, LISTED = 2, 3

_QUEUE = np.asarray([QUEUE_OF[kind] for kind in Kind], dtype=np.int64)
# Kinds and roles as plain integers: members of an IntEnum are slow to compile.
_FORWARD, _RECOMPUTE, _BACKWARD = int(Kind.FORWARD), int(Kind.RECOMPUTE), int(Kind.BACKWARD)
_OFFLOAD, _RELEASE, _ACQUIRE, _PREFETCH = int(Kind.OFFLOAD), int(Kind.RELEASE), int(Kind.ACQUIRE), int(Kind.PREFETCH)
_SEND_ACTIVATION, _RECV_ACTIVATION = int(Kind.SEND_ACTIVATION), int(Kind.RECV_ACTIVATION)
_SEND_GRADIENT, _RECV_GRADIENT = int(Kind.SEND_GRADIENT), int(Kind.RECV_GRADIENT)
_OPTIMIZER_STEP = int(Kind.OPTIMIZER_STEP)
_BOUNDARY, _OUTPUT, _GRADIENT, _SAVED = int(Role.BOUNDARY), int(Role.OUTPUT), int(Role.GRADIENT), int(Role.WORKSPACE)
_DEVICE, _HOST = int(Space.DEVICE), int(Space.HOST)
_COMPUTE_QUEUE, _D2H, _H2D = 0, 1, 2

_READS, _WRITES, _ALLOCS, _FREES = range(4)


class Model(NamedTuple):
    """What is fixed for all policies of one workload, order and number of microbatches; see Tasks and Shapes."""

    start: Ints
    unit: Ints
    microbatch: Ints
    backward: npt.NDArray[np.bool_]
    backward_at: Ints
    rank: Ints
    boundary: Ints
    gradient: Ints
    saved: Ints
    size_class: Ints


class Rows(NamedTuple):
    """The plan's rows while they are written; lists are padded with -1. Of no rows when only the clock is kept.

    ``op`` has shape (operations, 4): rank, kind, boundary (-1: none), bytes. ``edges`` has shape (operations, EDGES),
    ``lists`` (4, operations, LISTED): reads, writes, allocs, frees. ``buffer`` has shape (buffers, 5): rank, space,
    bytes, role, boundary.
    """

    op: Ints
    edges: SmallInts
    lists: SmallInts
    buffer: Ints


class Clock(NamedTuple):
    """Costs, and what the walk keeps of times and memory. Of no operations when only rows are written.

    ``duration`` and ``workspace`` have shape (units, kinds), ``launch`` (kinds,), ``optimizer`` and
    ``optimizer_workspace`` (ranks,). ``end`` has shape (operations,), ``queue_end`` (ranks * queues,), ``host``
    (ranks,), ``totals`` (ranks, TOTALS). ``spans`` has shape (3, spans, 2): start and end of what ran on the compute,
    d2h and h2d queues, each rank's from ``span_start`` on; ``span_count`` has shape (3, ranks).
    """

    duration: Ints
    workspace: Ints
    launch: Ints
    optimizer: Ints
    optimizer_workspace: Ints
    end: Ints
    queue_end: Ints
    host: Ints
    totals: Ints
    spans: Ints
    span_start: Ints
    span_count: Ints
    step: Ints  # first start, last end


class Desk(NamedTuple):
    """What the walk remembers. By boundary, operations and buffers as positions, or -1; shape (boundaries,).

    ``next_acquire`` and ``first_acquire`` (by task place, one more per rank) chain the boundaries to acquire at a slot.
    ``release`` holds each rank's queue of RELEASEs to come, a row (slot, waited operation, buffer, boundary, bytes,
    role); ``release_head`` and ``release_tail`` its ends. Slots chain by ``next_free`` from ``free`` (rank, size
    class). ``count`` holds how many operations, buffers and slots there are, ``next_task`` each rank's place.
    """

    boundary_buffer: Ints
    gradient_buffer: Ints
    saved_buffer: Ints
    forward_op: Ints
    offload_op: Ints
    prefetch_op: Ints
    sent: Ints
    sent_gradient: Ints
    slot: Ints
    slot_buffer: Ints
    emptied_by: Ints
    next_free: Ints
    free: Ints
    next_acquire: Ints
    first_acquire: Ints
    release: Ints
    release_head: Ints
    release_tail: Ints
    count: Ints
    next_task: Ints


_OPS, _BUFFERS, _SLOTS = range(3)


def make_desk(model: Model) -> Desk:
    """A desk for plans of this model; :func:`lower` clears it."""
    boundaries, tasks, ranks = len(model.backward_at), len(model.unit), len(model.start) - 1
    classes = int(model.size_class.max()) + 1

    def empty(*shape: int) -> Ints:
        return np.empty(shape, dtype=np.int64)

    per_boundary = [empty(boundaries) for _ in range(12)]
    return Desk(
        *per_boundary, free=empty(ranks, classes), next_acquire=empty(boundaries), first_acquire=empty(tasks + ranks),
        release=empty(2 * tasks, 6), release_head=empty(ranks), release_tail=empty(ranks), count=empty(3),
        next_task=empty(ranks),
    )  # fmt: skip


@njit(cache=True)
def _clear(desk, model, slots):  # type: ignore[no-untyped-def]
    for b in range(len(slots)):
        desk.boundary_buffer[b] = desk.gradient_buffer[b] = desk.saved_buffer[b] = -1
        desk.forward_op[b] = desk.offload_op[b] = desk.prefetch_op[b] = -1
        desk.sent[b] = desk.sent_gradient[b] = desk.slot[b] = -1
    desk.free[:] = -1
    desk.first_acquire[:] = -1
    desk.count[:] = 0
    desk.next_task[:] = 0
    microbatches = len(slots) // len(model.rank)
    for r in range(len(model.start) - 1):
        desk.release_head[r] = desk.release_tail[r] = 2 * model.start[r]
        # From the last BACKWARD to the first, each put in front: a slot's chain begins with what is needed soonest.
        for at in range(model.start[r + 1] - 1, model.start[r] - 1, -1):
            if model.backward[at]:
                b = model.unit[at] * microbatches + model.microbatch[at]
                if slots[b] >= 0:
                    place = model.start[r] + r + slots[b]
                    desk.next_acquire[b] = desk.first_acquire[place]
                    desk.first_acquire[place] = b


@njit(cache=True)
def _buffer(desk, rows, rank, space, nbytes, role, boundary):  # type: ignore[no-untyped-def]
    """A new buffer's position."""
    index = desk.count[_BUFFERS]
    desk.count[_BUFFERS] = index + 1
    if len(rows.buffer):
        row = rows.buffer[index]
        row[0], row[1], row[2], row[3], row[4] = rank, space, nbytes, role, boundary
    return index


@njit(cache=True)
def _op(desk, rows, clock, rank, kind, unit, boundary, nbytes, edge0, edge1):  # type: ignore[no-untyped-def]
    """A new operation's position; on the clock it starts once it is issued, its queue is free and its edges ended."""
    index = desk.count[_OPS]
    desk.count[_OPS] = index + 1
    if len(rows.op):
        row = rows.op[index]
        row[0], row[1], row[2], row[3] = rank, kind, boundary, nbytes
        rows.edges[index, 0], rows.edges[index, 1] = edge0, edge1
    if len(clock.end):
        _tick(clock, index, rank, kind, unit, edge0, edge1)
    return index


@njit(cache=True)
def _tick(clock, index, rank, kind, unit, edge0, edge1):  # type: ignore[no-untyped-def]
    queue = _QUEUE[kind]
    clock.host[rank] += clock.launch[kind]
    ready = max(clock.host[rank], clock.queue_end[rank * QUEUES_PER_RANK + queue])
    start = ready
    if edge0 >= 0:
        start = max(start, clock.end[edge0])
    if edge1 >= 0:
        start = max(start, clock.end[edge1])
    end = start + (clock.optimizer[rank] if kind == _OPTIMIZER_STEP else clock.duration[unit, kind])
    clock.end[index] = end
    clock.queue_end[rank * QUEUES_PER_RANK + queue] = end
    clock.step[0], clock.step[1] = min(clock.step[0], start), max(clock.step[1], end)
    if kind == _RELEASE:
        clock.totals[rank, STALL_RELEASE] += start - ready
    elif kind == _ACQUIRE:
        return
    elif queue == _COMPUTE_QUEUE:
        # A task waits for a copy or for a receive; a plan of this planner never makes one wait for both.
        clock.totals[rank, STALL_PREFETCH if kind == _RECOMPUTE else STALL_RECV] += start - ready
        clock.totals[rank, COMPUTE] += end - start
    if end > start and queue <= _H2D:
        at = clock.span_start[rank] + clock.span_count[queue, rank]
        clock.spans[queue, at, 0], clock.spans[queue, at, 1] = start, end
        clock.span_count[queue, rank] += 1


@njit(cache=True)
def _takes(clock, rank, nbytes, is_boundary):  # type: ignore[no-untyped-def]
    """Device memory that an operation of the compute queue takes (or, below zero, frees)."""
    if len(clock.end):
        clock.totals[rank, LEVEL] += nbytes
        if is_boundary:
            clock.totals[rank, BOUNDARY_LEVEL] += nbytes


@njit(cache=True)
def _holds(clock, rank, workspace):  # type: ignore[no-untyped-def]
    """The level while an operation runs, after what it takes and before what it frees."""
    if len(clock.end):
        totals = clock.totals[rank]
        totals[PEAK] = max(totals[PEAK], totals[LEVEL] + workspace)
        totals[BOUNDARY_PEAK] = max(totals[BOUNDARY_PEAK], totals[BOUNDARY_LEVEL])


@njit(cache=True)
def _holds_task(clock, rank, unit, kind):  # type: ignore[no-untyped-def]
    if len(clock.end):
        _holds(clock, rank, clock.workspace[unit, kind])


@njit(cache=True)
def _list(rows, which, op, value):  # type: ignore[no-untyped-def]
    """Put a buffer at the end of one of an operation's lists."""
    if len(rows.op):
        row = rows.lists[which, op]
        at = 0
        while row[at] >= 0:
            at += 1
        row[at] = value


@njit(cache=True)
def _release_later(desk, model, rank, window, waited, buffer, boundary, nbytes, role):  # type: ignore[no-untyped-def]
    at = desk.release_tail[rank]
    desk.release_tail[rank] = at + 1
    row = desk.release[at]
    row[0] = min(desk.next_task[rank] + window + 1, model.start[rank + 1] - model.start[rank])
    row[1], row[2], row[3], row[4], row[5] = waited, buffer, boundary, nbytes, role


@njit(cache=True)
def _releases(desk, model, rows, clock, microbatches, rank, slot):  # type: ignore[no-untyped-def]
    while desk.release_head[rank] < desk.release_tail[rank] and desk.release[desk.release_head[rank], 0] <= slot:
        row = desk.release[desk.release_head[rank]]
        desk.release_head[rank] += 1
        op = _op(desk, rows, clock, rank, _RELEASE, row[3] // microbatches, row[3], 0, row[1], -1)
        _list(rows, _FREES, op, row[2])
        _holds(clock, rank, 0)
        _takes(clock, rank, -row[4], row[5] == _BOUNDARY)


@njit(cache=True)
def _load(desk, model, rows, clock, rank, unit, b):  # type: ignore[no-untyped-def]
    """ACQUIRE and PREFETCH of an offloaded boundary, into a buffer of its own."""
    nbytes, slot = model.boundary[unit], desk.slot[b]
    buffer = _buffer(desk, rows, rank, _DEVICE, nbytes, _BOUNDARY, b)
    acquire = _op(desk, rows, clock, rank, _ACQUIRE, unit, b, 0, -1, -1)
    _list(rows, _ALLOCS, acquire, buffer)
    _takes(clock, rank, nbytes, True)
    _holds(clock, rank, 0)
    load = _op(desk, rows, clock, rank, _PREFETCH, unit, b, nbytes, acquire, desk.offload_op[b])
    _list(rows, _READS, load, desk.slot_buffer[slot])
    _list(rows, _WRITES, load, buffer)
    desk.boundary_buffer[b] = buffer
    desk.prefetch_op[b] = desk.emptied_by[slot] = load


@njit(cache=True)
def _receive(desk, rows, clock, rank, kind, unit, b, nbytes, role, send):  # type: ignore[no-untyped-def]
    """ACQUIRE and RECV directly before the task that reads; returns (buffer, RECV)."""
    buffer = _buffer(desk, rows, rank, _DEVICE, nbytes, role, b)
    acquire = _op(desk, rows, clock, rank, _ACQUIRE, unit, b, 0, -1, -1)
    _list(rows, _ALLOCS, acquire, buffer)
    _takes(clock, rank, nbytes, role == _BOUNDARY)
    _holds(clock, rank, 0)
    received = _op(desk, rows, clock, rank, kind, unit, b, nbytes, send, acquire)
    _list(rows, _WRITES, received, buffer)
    return buffer, received


@njit(cache=True)
def _offload(desk, model, rows, clock, rank, unit, b, window):  # type: ignore[no-untyped-def]
    """OFFLOAD into a host slot, and the RELEASE to come.

    A slot is used again only once the BACKWARD of the boundary it held is behind on the compute queue, so its
    PREFETCH has ended and the reuse never makes a copy wait.
    """
    nbytes, size = model.boundary[unit], model.size_class[unit]
    slot, emptied = desk.free[rank, size], -1
    fresh = slot < 0
    if fresh:
        slot = desk.count[_SLOTS]
        desk.count[_SLOTS] = slot + 1
        desk.slot_buffer[slot] = _buffer(desk, rows, rank, _HOST, nbytes, _BOUNDARY, b)
        if len(clock.end):
            clock.totals[rank, HOST] += nbytes
    else:
        desk.free[rank, size] = desk.next_free[slot]
        emptied = desk.emptied_by[slot]
    op = _op(desk, rows, clock, rank, _OFFLOAD, unit, b, nbytes, desk.forward_op[b], emptied)
    _list(rows, _READS, op, desk.boundary_buffer[b])
    _list(rows, _WRITES, op, desk.slot_buffer[slot])
    if fresh:
        _list(rows, _ALLOCS, op, desk.slot_buffer[slot])
    desk.slot[b], desk.offload_op[b] = slot, op
    _release_later(desk, model, rank, window, op, desk.boundary_buffer[b], b, nbytes, _BOUNDARY)


@njit(cache=True)
def _forward(desk, model, rows, clock, rank, unit, b, microbatches, checkpoint, offloaded, window):  # type: ignore[no-untyped-def]
    above = unit + 1 if unit + 1 < len(model.rank) else -1
    own, output, saved, received = -1, -1, -1, -1
    if desk.sent[b] >= 0:
        desk.boundary_buffer[b], received = _receive(
            desk, rows, clock, rank, _RECV_ACTIVATION, unit, b, model.boundary[unit], _BOUNDARY, desk.sent[b]
        )
    elif unit == 0:
        own = _buffer(desk, rows, rank, _DEVICE, model.boundary[unit], _BOUNDARY, b)
        desk.boundary_buffer[b] = own
        _takes(clock, rank, model.boundary[unit], True)
    local = above >= 0 and model.rank[above] == rank
    if above >= 0:
        nbytes = model.boundary[above]
        if local:
            output = _buffer(desk, rows, rank, _DEVICE, nbytes, _BOUNDARY, b + microbatches)
            desk.boundary_buffer[b + microbatches] = output
        else:
            output = _buffer(desk, rows, rank, _DEVICE, nbytes, _OUTPUT, b)
        _takes(clock, rank, nbytes, local)
    if not checkpoint and model.saved[unit]:
        saved = _buffer(desk, rows, rank, _DEVICE, model.saved[unit], _SAVED, b)
        desk.saved_buffer[b] = saved
        _takes(clock, rank, model.saved[unit], False)
    done = _op(desk, rows, clock, rank, _FORWARD, unit, b, 0, received, -1)
    _holds_task(clock, rank, unit, _FORWARD)
    _list(rows, _READS, done, desk.boundary_buffer[b])
    for buffer in (own, output, saved):
        if buffer >= 0:
            _list(rows, _WRITES, done, buffer)
            _list(rows, _ALLOCS, done, buffer)
    desk.forward_op[b] = done
    if offloaded:
        _offload(desk, model, rows, clock, rank, unit, b, window)
    if above >= 0 and not local:
        nbytes = model.boundary[above]
        send = _op(desk, rows, clock, rank, _SEND_ACTIVATION, unit, b, nbytes, done, -1)
        _list(rows, _READS, send, output)
        desk.sent[b + microbatches] = send
        _release_later(desk, model, rank, window, send, output, b, nbytes, _OUTPUT)


@njit(cache=True)
def _backward(desk, model, rows, clock, rank, unit, b, microbatches, checkpoint, window):  # type: ignore[no-untyped-def]
    above = unit + 1 if unit + 1 < len(model.rank) else -1
    loaded, received, outgoing = desk.prefetch_op[b], -1, -1
    if desk.sent_gradient[b] >= 0:
        desk.gradient_buffer[b], received = _receive(
            desk, rows, clock, rank, _RECV_GRADIENT, unit, b, model.gradient[above], _GRADIENT, desk.sent_gradient[b]
        )
    if checkpoint:
        again = _op(desk, rows, clock, rank, _RECOMPUTE, unit, b, 0, loaded, -1)
        _list(rows, _READS, again, desk.boundary_buffer[b])
        _holds_task(clock, rank, unit, _RECOMPUTE)
    if unit > 0:
        outgoing = _buffer(desk, rows, rank, _DEVICE, model.gradient[unit], _GRADIENT, b)
        _takes(clock, rank, model.gradient[unit], False)
    done = _op(desk, rows, clock, rank, _BACKWARD, unit, b, 0, received, -1)
    _holds_task(clock, rank, unit, _BACKWARD)
    incoming = desk.gradient_buffer[b] if above >= 0 else -1
    for buffer in (desk.boundary_buffer[b], incoming, desk.saved_buffer[b]):
        if buffer >= 0:
            _list(rows, _READS, done, buffer)
            _list(rows, _FREES, done, buffer)
    _takes(clock, rank, -model.boundary[unit], True)
    if above >= 0:
        _takes(clock, rank, -model.gradient[above], False)
    if desk.saved_buffer[b] >= 0:
        _takes(clock, rank, -model.saved[unit], False)
    if outgoing >= 0:
        _list(rows, _WRITES, done, outgoing)
        _list(rows, _ALLOCS, done, outgoing)
    if desk.slot[b] >= 0:
        slot, size = desk.slot[b], model.size_class[unit]
        desk.next_free[slot], desk.free[rank, size] = desk.free[rank, size], slot
    if unit > 0:
        below = b - microbatches
        if model.rank[unit - 1] == rank:
            desk.gradient_buffer[below] = outgoing
            return
        nbytes = model.gradient[unit]
        send = _op(desk, rows, clock, rank, _SEND_GRADIENT, unit, b, nbytes, done, -1)
        _list(rows, _READS, send, outgoing)
        desk.sent_gradient[below] = send
        _release_later(desk, model, rank, window, send, outgoing, b, nbytes, _GRADIENT)


@njit(cache=True)
def _is_ready(desk, model, rank, at, b):  # type: ignore[no-untyped-def]
    """Whether what the task receives has been sent."""
    unit = model.unit[at]
    if model.backward[at]:
        above = unit + 1
        return above == len(model.rank) or model.rank[above] == rank or desk.sent_gradient[b] >= 0
    return unit == 0 or model.rank[unit - 1] == rank or desk.sent[b] >= 0


@njit(cache=True)
def _task(desk, model, rows, clock, microbatches, slots, checkpoint, window, rank, at, b):  # type: ignore[no-untyped-def]
    place = at - model.start[rank]
    _releases(desk, model, rows, clock, microbatches, rank, place)
    wanted = desk.first_acquire[at + rank]
    while wanted >= 0:
        _load(desk, model, rows, clock, rank, wanted // microbatches, wanted)
        wanted = desk.next_acquire[wanted]
    if model.backward[at]:
        _backward(desk, model, rows, clock, rank, model.unit[at], b, microbatches, checkpoint, window)
    else:
        offloaded = slots[b] >= 0
        _forward(
            desk, model, rows, clock, rank, model.unit[at], b, microbatches, checkpoint, offloaded, window
        )
    desk.next_task[rank] = place + 1


@njit(cache=True)
def lower(desk, model, rows, clock, slots, checkpoint, window):  # type: ignore[no-untyped-def]
    """Walk all tasks; returns -1, or the rank that waits for ever in an order that deadlocks.

    ``slots`` holds each boundary's ACQUIRE slot or -1; shape (boundaries,).
    """
    ranks, microbatches = len(model.start) - 1, len(slots) // len(model.rank)
    _clear(desk, model, slots)
    left = len(model.unit)
    while left:
        before = left
        for rank in range(ranks):
            at = model.start[rank] + desk.next_task[rank]
            if at < model.start[rank + 1]:
                b = model.unit[at] * microbatches + model.microbatch[at]
                if _is_ready(desk, model, rank, at, b):
                    _task(desk, model, rows, clock, microbatches, slots, checkpoint, window, rank, at, b)
                    left -= 1
        if left == before:
            for rank in range(ranks):
                if model.start[rank] + desk.next_task[rank] < model.start[rank + 1]:
                    return rank
    for rank in range(ranks):
        _releases(desk, model, rows, clock, microbatches, rank, model.start[rank + 1] - model.start[rank])
        _op(desk, rows, clock, rank, _OPTIMIZER_STEP, 0, -1, 0, -1, -1)
        if len(clock.end):
            _holds(clock, rank, clock.optimizer_workspace[rank])
    if len(rows.op):
        for slot in range(desk.count[_SLOTS]):
            _list(rows, _FREES, desk.emptied_by[slot], desk.slot_buffer[slot])
    return -1


def no_clock() -> Clock:
    """For a walk that writes rows only."""
    flat, table = np.empty(0, dtype=np.int64), np.empty((0, 0), dtype=np.int64)
    return Clock(
        duration=table, workspace=table, launch=flat, optimizer=flat, optimizer_workspace=flat, end=flat,
        queue_end=flat, host=flat, totals=table, spans=np.empty((3, 0, 2), dtype=np.int64), span_start=flat,
        span_count=table, step=flat,
    )  # fmt: skip


def no_rows() -> Rows:
    """For a walk that keeps the clock only."""
    return Rows(
        op=np.empty((0, 4), dtype=np.int64), edges=np.empty((0, EDGES), dtype=np.int32),
        lists=np.empty((4, 0, LISTED), dtype=np.int32), buffer=np.empty((0, 5), dtype=np.int64),
    )  # fmt: skip
