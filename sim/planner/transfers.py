"""What a task sends to another rank lands in memory that the receiver has taken, in the order in which it is read.

A SEND is listed once its task and the ACQUIRE of the memory that it is sent into are, behind what the receiver reads
before it from the same rank. What was sent is released in a slot after that of its task.
"""

from __future__ import annotations

from loadahead.sim.compiled import inlined
from loadahead.sim.ir.kinds import Kind, Role
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import TASK_WIDTH, UNIT_WIDTH, get, put
from loadahead.sim.planner.operations import NONE, READS, WRITES, add_operation, append
from loadahead.sim.planner.slots import note_release, take
from loadahead.sim.stalls import NO_EDGE

_FORWARD, _BACKWARD, _ACQUIRE = int(Kind.FORWARD), int(Kind.BACKWARD), int(Kind.ACQUIRE)
_SEND_ACTIVATION, _SEND_GRADIENT = int(Kind.SEND_ACTIVATION), int(Kind.SEND_GRADIENT)
_BOUNDARY, _OUTPUT, _GRADIENT = int(Role.BOUNDARY), int(Role.OUTPUT), int(Role.GRADIENT)
# The RELEASE of what a task sent stands before the task that comes so many places after it: one lies between.
SENT_STAYS = 2


@inlined
def take_for_arrival(m, recording, r, t):  # type: ignore[no-untyped-def]
    """Add the ACQUIRE of what a task reads from another rank, and list the SENDs that have waited for it."""
    x, u, gradient = get(m, t + a.T_BOUNDARY), get(m, t + a.T_UNIT), get(m, t + a.T_BACKWARD)
    if gradient:
        buffer, acquire = take(m, recording, r, x, get(m, u + UNIT_WIDTH + a.U_GRADIENT), _GRADIENT)
        put(m, x + a.X_GRADIENT, buffer)
    else:
        buffer, acquire = take(m, recording, r, x, get(m, u + a.U_BOUNDARY), _BOUNDARY)
        put(m, x + a.X_BUFFER, buffer)
    put(m, x + a.X_TAKEN + a.OF_GRADIENT * gradient, acquire)
    _list_sends(m, recording, get(m, t + a.T_ARRIVES))


@inlined
def leave(m, recording, r, t, x, made, nbytes, done, buffer, role):  # type: ignore[no-untyped-def]
    """Note the RELEASE of what a task wrote for another rank, and list the SENDs that have waited for it.

    ``made`` is the entry of the boundary's row, on the other rank, that knows of it.
    """
    place = min(t + SENT_STAYS * TASK_WIDTH, get(m, r + a.R_END))
    row = note_release(m, recording, place, NONE, buffer, x, nbytes, role)
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
        send = add_operation(m, recording, r, kind, sender, nbytes, duration, made, made_by, taken, _ACQUIRE)
        append(m, recording, READS, send, get(m, row + a.L_BUFFER))
        put(m, row + a.L_WAITED, send)
        put(m, x + a.X_SENT, send)
        arrival += a.ARRIVAL_WIDTH
    put(m, p + a.P_NEXT, arrival)


@inlined
def receive(m, recording, r, kind, x, nbytes, buffer, sent, sent_kind):  # type: ignore[no-untyped-def]
    """Add the RECV directly before the task that reads, and return it."""
    received = add_operation(m, recording, r, kind, x, nbytes, 0, sent, sent_kind, NONE, NO_EDGE)
    append(m, recording, WRITES, received, buffer)
    return received
