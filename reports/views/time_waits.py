"""Says when compute queues stand still and for what: as the metrics count it, by every figure in the same way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadahead.reports.launches import launches_of
from loadahead.reports.run_data import RunData
from loadahead.reports.views.timelines import compute_queue, ranks_of
from loadahead.sim.ir.kinds import Queue
from loadahead.sim.ir.plan import Ints
from loadahead.sim.stalls import STALL_OF, waits
from loadahead.sim.step_metrics import STALLS
from loadahead.sim.timeline import Timeline

# What is waited for beside the stalls: an operation whose wait is none, and what cannot be told without the plan.
OTHER, NOT_KNOWN = "other", "unknown"
CAUSES = (*STALLS, OTHER, NOT_KNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueWaits:
    """Holds all times in which a compute queue stood still; arrays of shape (waits,). Causes are places in CAUSES."""

    rank: Ints
    start_ns: Ints
    length_ns: Ints
    cause: Ints

    @property
    def total_ns(self) -> int:
        """Return how long the ranks wait, all together."""
        return int(self.length_ns.sum())

    @property
    def longest_ns(self) -> int:
        """Return how long the longest wait is; 0 where there is none."""
        return int(self.length_ns.max(initial=0))


def queue_waits(data: RunData, timeline: Timeline) -> QueueWaits:
    """Return the waits of a step's compute queues; without a plan, the gaps between their operations."""
    if data.plan is None:
        return _gaps(timeline)
    waited = waits(data.plan, timeline.end_ns, launches_of(timeline, data.plan, data.costs))
    at = np.flatnonzero((waited.wait_ns > 0) & (timeline.queue == Queue.COMPUTE))
    stalls = STALL_OF[waited.blamed[at]]
    return QueueWaits(
        rank=timeline.rank[at].astype(np.int64),
        start_ns=waited.ready_ns[at],
        length_ns=waited.wait_ns[at],
        cause=np.where(stalls >= 0, stalls, CAUSES.index(OTHER)),
    )


def _gaps(timeline: Timeline) -> QueueWaits:
    parts = []
    for of in ranks_of({"": timeline}):
        own = compute_queue(timeline, of)
        gap = timeline.start_ns[own][1:] - timeline.end_ns[own][:-1]
        wide = np.flatnonzero(gap > 0)
        parts.append((np.full(len(wide), of, dtype=np.int64), timeline.end_ns[own][:-1][wide], gap[wide]))
    rank, start, length = (np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True))
    return QueueWaits(
        rank=rank, start_ns=start, length_ns=length, cause=np.full(len(rank), CAUSES.index(NOT_KNOWN), dtype=np.int64)
    )
