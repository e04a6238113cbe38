"""Each rank's host issues the rank's operations in list order, one after the other, which bounds when they can run.

A task is many kernels: the device runs the first while the host still issues the later ones, and a task ends no earlier
than its last kernel has been issued. Any other operation (a copy, send, receive, RELEASE or ACQUIRE) is one call, and
starts once that call has been made.
"""

from __future__ import annotations

import numpy as np

from loadahead.sim.ir.kinds import TASK_KINDS, Kind
from loadahead.sim.ir.plan import Ints, Plan

# Entry k says whether an operation of kind k may start while the host still issues it; such an operation ends no
# earlier than it has been issued.
STARTS_BEFORE_ISSUED = np.asarray([kind in TASK_KINDS for kind in Kind])


def earliest_times(plan: Plan, launches: Ints) -> tuple[Ints, Ints]:
    """Return the earliest start and the earliest end that the host allows each operation, in ns; shape (operations,).

    An operation ends no earlier than it has been issued. ``launches`` is the host's time in ns to issue each operation,
    of shape (operations,).
    """
    issued = np.zeros(len(plan), dtype=np.int64)
    if not launches.any():
        return issued, issued
    for rank in range(plan.ranks):
        of_rank = np.flatnonzero(plan.ops.rank == rank)
        issued[of_rank] = np.cumsum(launches[of_rank])
    return np.where(STARTS_BEFORE_ISSUED[plan.ops.kind], issued - launches, issued), issued
