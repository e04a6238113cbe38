"""When an operation starts and ends is said here, once, for both engines, the planner's walk and the metrics.

An operation starts at the latest of what its host allows, the end of the operation before it on its queue, and the
ends of its edges. It ends when its duration is over, and no earlier than its host has issued it.

Each rank's host issues the rank's operations in list order, one after the other. A task is many kernels: the device
runs the first while the host still issues the later ones. Any other operation (a copy, send, receive, RELEASE or
ACQUIRE) is one call, and starts once that call has been made.
"""

from __future__ import annotations

import numpy as np

from loadahead.sim import step_metrics
from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.ir.kinds import TASK_KINDS, Kind
from loadahead.sim.ir.plan import Ints, Plan

# Entry k says whether an operation of kind k may start while the host still issues it.
STARTS_BEFORE_ISSUED = np.asarray([kind in TASK_KINDS for kind in Kind])


@inlined
def host_allows(begun, issued, starts_before_issued):  # type: ignore[no-untyped-def]
    """Return the earliest start for a host that issues the operation from ``begun`` to ``issued``."""
    return begun if starts_before_issued else issued


@inlined
def later(time, other):  # type: ignore[no-untyped-def]
    """Return when both are behind: the queue's last end and what the host allows, or the start so far and an edge."""
    return max(time, other)


@inlined
def finish(start, duration, issued):  # type: ignore[no-untyped-def]
    """Return when an operation ends that its host has issued by ``issued``."""
    return max(start + duration, issued)


# Compiled code asks how long a step takes as well.
step_time = inlined(step_metrics.step_time)


@compiled
def _host_clock(rank, kind, launches, starts_before_issued, clock, allowed, issued):  # type: ignore[no-untyped-def]
    for i in range(len(rank)):
        begun = clock[rank[i]]
        issued[i] = clock[rank[i]] = begun + launches[i]
        allowed[i] = host_allows(begun, issued[i], starts_before_issued[kind[i]])


def host_times(plan: Plan, launches: Ints) -> tuple[Ints, Ints]:
    """Return what the host allows each operation: its earliest start and its earliest end; shape (operations,).

    ``launches`` is the host's time in ns to issue each operation, of shape (operations,).
    """
    allowed, issued = np.zeros(len(plan), dtype=np.int64), np.zeros(len(plan), dtype=np.int64)
    if launches.any():
        clock = np.zeros(plan.ranks, dtype=np.int64)
        _host_clock(plan.ops.rank, plan.ops.kind, launches, STARTS_BEFORE_ISSUED, clock, allowed, issued)
    return allowed, issued
