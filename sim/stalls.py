"""What a stall is is said here, once: how long an operation waits for an edge, and which of its edges is to blame.

An operation of a compute queue stalls from when its queue and its host are ready for it until its last edge has ended.
The edge that ended last gives the stall its name; of edges that ended together, the one that is listed first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadahead.sim.clock import host_times, later
from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.ir.kinds import RECV_KINDS, SEND_KINDS, Kind
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.step_metrics import STALLS

NO_EDGE = -1
_NAMES = {
    Kind.OFFLOAD: "release",
    Kind.PREFETCH: "prefetch",
    **dict.fromkeys(SEND_KINDS, "send"),
    **dict.fromkeys(RECV_KINDS, "recv"),
}
# Entry k is the place in STALLS of a wait for an operation of kind k; the last place, that of NO_EDGE, and kinds whose
# waits are no stall hold -1.
STALL_OF = np.asarray([STALLS.index(_NAMES[kind]) if kind in _NAMES else -1 for kind in Kind] + [-1], dtype=np.int64)


def stall_name(kind: int) -> str | None:
    """Return the name in :data:`STALLS` of a wait for an operation of a kind; None where it is no stall."""
    place = int(STALL_OF[kind])
    return STALLS[place] if place >= 0 else None


@inlined
def is_to_blame(ended, latest, so_far):  # type: ignore[no-untyped-def]
    """Return whether an edge that ended is to blame rather than the one so far, which ended at ``latest``."""
    return so_far == NO_EDGE or ended > latest


@inlined
def stall(ready, latest):  # type: ignore[no-untyped-def]
    """Return how long an operation waits whose queue and host are ready, for edges the last of which ended then."""
    return max(latest - ready, 0)


@compiled
def _waits(previous, starts, sources, kinds, allowed, end, ready, wait, blamed, edge):  # type: ignore[no-untyped-def]
    for i in range(len(wait)):
        ready[i] = later(allowed[i], end[previous[i]] if previous[i] >= 0 else 0)
        latest, kind = 0, NO_EDGE
        for e in range(starts[i], starts[i + 1]):
            if is_to_blame(end[sources[e]], latest, kind):
                latest, kind = end[sources[e]], kinds[sources[e]]
                edge[i] = sources[e]
        blamed[i] = kind
        if kind != NO_EDGE:
            wait[i] = stall(ready[i], latest)


@dataclass(frozen=True, slots=True)
class Waits:
    """Holds how long each operation waited for an edge while its queue and its host were ready for it.

    ``ready_ns`` is since when they were, ``wait_ns`` how long it waited from then on, and ``blamed`` the kind of the
    operation to blame or -1; ``edge`` is that operation's position or -1; all of shape (operations,).
    """

    ready_ns: Ints
    wait_ns: Ints
    blamed: Ints
    edge: Ints


def waits(plan: Plan, end_ns: Ints, launches: Ints | None = None) -> Waits:
    """Return the operations' waits; ``launches`` is the host's time to issue each, in ns, where it is known."""
    ops = plan.ops
    ready, wait = np.zeros(len(plan), dtype=np.int64), np.zeros(len(plan), dtype=np.int64)
    blamed, edge = (np.full(len(plan), NO_EDGE, dtype=np.int64) for _ in range(2))
    allowed = np.zeros(len(plan), dtype=np.int64) if launches is None else host_times(plan, launches)[0]
    edges = (ops.after.starts, ops.after.values, ops.kind)
    _waits(plan.previous_in_queue, *edges, allowed, end_ns, ready, wait, blamed, edge)
    return Waits(ready, wait, blamed, edge)
