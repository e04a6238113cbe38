"""What the host allows: each rank's host issues the rank's operations in list order, one after the other.

A task is many kernels: the device runs the first while the host still issues the later ones, and a task ends no earlier
than its last kernel has been issued. Whatever else there is, copies, sends, receives, RELEASE and ACQUIRE, is one call,
and starts once that call has been made.
"""

from __future__ import annotations

import numpy as np

from sim.ir.kinds import TASK_KINDS
from sim.ir.plan import Codes, Ints, Plan

_TASKS = sorted(TASK_KINDS)


def before_start(kind: Codes | Ints, launches: Ints) -> Ints:
    """The part of each operation's issuing that must be over before it starts, in ns; shape of the arguments."""
    return np.where(np.isin(kind, _TASKS), 0, launches)


def earliest(plan: Plan, launches: Ints) -> tuple[Ints, Ints]:
    """(start, end) of each operation if the device never made it wait, in ns; shape (operations,).

    No operation starts or ends before; the end is when it has been issued. ``launches`` is the host's time to issue
    each operation, shape (operations,).
    """
    issued = np.zeros(len(plan), dtype=np.int64)
    if not launches.any():
        return issued, issued
    for rank in range(plan.ranks):
        mine = np.flatnonzero(plan.ops.rank == rank)
        issued[mine] = np.cumsum(launches[mine])
    return issued - launches + before_start(plan.ops.kind, launches), issued
