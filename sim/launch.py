"""What the host allows: each rank's host issues the rank's operations in list order, one after the other.

A task is many kernels: the device runs the first while the host still issues the later ones, and a task ends no earlier
than its last kernel has been issued. Whatever else there is, copies, sends, receives, RELEASE and ACQUIRE, is one call,
and starts once that call has been made.
"""

from __future__ import annotations

import numpy as np

from loadahead.sim.ir.kinds import TASK_KINDS, Kind
from loadahead.sim.ir.plan import Ints, Plan

# By kind: whether an operation may start when its issuing begins, and may not end before that has ended.
STARTS_WHILE_ISSUED = np.asarray([kind in TASK_KINDS for kind in Kind])


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
    return np.where(STARTS_WHILE_ISSUED[plan.ops.kind], issued - launches, issued), issued
