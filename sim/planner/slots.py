"""A slot is the place before a task, where memory is freed by RELEASEs and then taken by ACQUIREs."""

from __future__ import annotations

from loadahead.sim.compiled import inlined
from loadahead.sim.ir.kinds import Kind, Role, Space
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import TASK_WIDTH, claim, get, put
from loadahead.sim.planner.operations import (
    ALLOCS,
    FREES,
    NONE,
    add_buffer,
    add_operation,
    append,
    hold,
    hold_boundaries,
)
from loadahead.sim.stalls import NO_EDGE

_OFFLOAD, _RELEASE, _ACQUIRE = int(Kind.OFFLOAD), int(Kind.RELEASE), int(Kind.ACQUIRE)
_SEND_ACTIVATION, _SEND_GRADIENT = int(Kind.SEND_ACTIVATION), int(Kind.SEND_GRADIENT)
_BOUNDARY, _OUTPUT, _DEVICE = int(Role.BOUNDARY), int(Role.OUTPUT), int(Space.DEVICE)


@inlined
def take(m, recording, r, x, nbytes, role):  # type: ignore[no-untyped-def]
    """Add the ACQUIRE of a buffer, and return (buffer, ACQUIRE)."""
    buffer = add_buffer(m, recording, r, _DEVICE, nbytes, role, x)
    acquire = add_operation(m, recording, r, _ACQUIRE, x, 0, 0, NONE, NO_EDGE, NONE, NO_EDGE)
    append(m, recording, ALLOCS, acquire, buffer)
    hold(m, r, nbytes, 0, 0)
    if role == _BOUNDARY:
        hold_boundaries(m, r, nbytes, 0)
    return buffer, acquire


@inlined
def note_release(m, recording, place, waited, buffer, x, nbytes, role):  # type: ignore[no-untyped-def]
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
def add_releases(m, recording, r, t):  # type: ignore[no-untyped-def]
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
            op = add_operation(m, recording, r, _RELEASE, x, 0, 0, waited, kind, NONE, NO_EDGE)
            append(m, recording, FREES, op, get(m, row + a.L_BUFFER))
            nbytes = get(m, row + a.L_BYTES)
            hold(m, r, 0, nbytes, 0)
            if role == _BOUNDARY:
                hold_boundaries(m, r, 0, nbytes)
        row = following
    put(m, t + a.T_RELEASE, -1)
    return True
