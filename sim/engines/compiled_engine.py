"""The compiled engine: one pass over the plan's columns, in numba.

With fixed durations, FIFO queues and static edges an operation starts at the latest of its issue, the end of the
operation before it on its queue and the ends of its edges, and list order visits every one of those first. Links are
private to a queue here, so a copy never waits for a link beyond its queue.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sim.costs import Costs
from sim.engines.base import Times
from sim.ir.kinds import QUEUES_PER_RANK
from sim.ir.plan import Plan


@njit(cache=True)
def _forward(duration, queue_index, rank, starts, values, launch, queue_end, host, start, end):  # type: ignore[no-untyped-def]
    """Fill ``start`` and ``end``; ``queue_end`` and ``host`` hold when each queue and host is free again."""
    for i in range(len(duration)):
        host[rank[i]] += launch[i]
        at = max(host[rank[i]], queue_end[queue_index[i]])
        for e in range(starts[i], starts[i + 1]):
            if end[values[e]] > at:
                at = end[values[e]]
        start[i] = at
        end[i] = at + duration[i]
        queue_end[queue_index[i]] = end[i]


def run(plan: Plan, costs: Costs) -> Times:
    """Times of every operation; see :class:`sim.engines.base.Engine`."""
    start, end = np.empty(len(plan), dtype=np.int64), np.empty(len(plan), dtype=np.int64)
    queue_end = np.zeros(plan.ranks * QUEUES_PER_RANK, dtype=np.int64)
    host = np.zeros(plan.ranks, dtype=np.int64)
    after = plan.ops.after
    _forward(
        costs.durations(plan), plan.queue_index, plan.ops.rank, after.starts, after.values, costs.launches(plan),
        queue_end, host, start, end,
    )  # fmt: skip
    return Times(start, end)
