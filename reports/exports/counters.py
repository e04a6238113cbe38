"""Says which numbers a trace draws over time: memory of each rank, bytes per second of links, and stalls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from loadahead.reports.exports.sides import Side
from loadahead.sim.costs import NANOSECONDS_PER_SECOND, Costs
from loadahead.sim.ir.kinds import Queue, Role, Space
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.links import link_of
from loadahead.sim.memory import row_sums
from loadahead.sim.routes import LinkTable
from loadahead.sim.stalls import STALL_OF, Waits
from loadahead.sim.timeline import Timeline

BYTES, RATE, TIME, COUNT = "bytes", "bytes/s", "ns", "ranks"
DEVICE, BOUNDARIES, HOST, STALLED, STALLING = (
    "device bytes",
    "boundary bytes",
    "host bytes",
    "stalled ns so far",
    "ranks that stall",
)
# A rank's links to the host and to other ranks have their counters under these names.
RATES = {queue: f"{queue.label} bytes/s" for queue in (Queue.D2H, Queue.H2D, Queue.SEND)}
# Viewers are written in JavaScript, whose numbers are exact up to this one.
MOST = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """Holds one number over time; a value holds until the next one.

    Attributes:
        rank: whose it is; None for what ranks share.
        name, unit: what it is called, and one of ``bytes``, ``bytes/s``, ``ns`` and ``ranks``.
        t_ns, value: arrays of shape (samples,), in the order of time.
    """

    rank: int | None
    name: str
    unit: str
    t_ns: Ints
    value: Ints


def counters(side: Side, waited: Waits | None) -> Iterator[Counter]:
    """Yield the counters of a timeline, rank by rank and then what ranks share.

    Without a plan there are those of the timeline's memory samples alone; without costs none of shared links.
    """
    timeline, plan, memory = side.timeline, side.plan, side.timeline.memory
    for rank in range(side.ranks):
        own = memory.rank == rank
        yield Counter(rank=rank, name=DEVICE, unit=BYTES, t_ns=memory.t_ns[own], value=memory.device_bytes[own])
        if plan is not None:
            t_ns, value = _boundaries(plan, timeline, rank)
            yield Counter(rank=rank, name=BOUNDARIES, unit=BYTES, t_ns=t_ns, value=value)
        yield Counter(rank=rank, name=HOST, unit=BYTES, t_ns=memory.t_ns[own], value=memory.host_bytes[own])
        if plan is not None and waited is not None and rank < plan.ranks:
            yield from _of_queues(plan, timeline, waited, rank)
    if plan is not None and waited is not None:
        at = stalls(plan, waited)
        start, end = waited.ready_ns[at], waited.ready_ns[at] + waited.wait_ns[at]
        t_ns, value = level(start, end, np.ones(len(at), dtype=np.int64))
        yield Counter(rank=None, name=STALLING, unit=COUNT, t_ns=t_ns, value=value)
        if side.costs is not None:
            yield from _shared(plan, side.costs, timeline)


def stalls(plan: Plan, waited: Waits) -> Ints:
    """Return the rows of the operations of compute queues whose wait is a stall."""
    return np.flatnonzero((plan.ops.queue == Queue.COMPUTE) & (waited.wait_ns > 0) & (STALL_OF[waited.blamed] >= 0))


def level(start_ns: Ints, end_ns: Ints, amount: Ints) -> tuple[Ints, Ints]:
    """Return (times, values) of the sum of amounts that each hold from a start to an end; one value at each time."""
    t_ns, at = np.unique(np.concatenate([start_ns, end_ns]), return_inverse=True)
    change = np.zeros(len(t_ns), dtype=np.int64)
    np.add.at(change, at, np.concatenate([amount, -amount]))
    value = np.cumsum(change)
    keep = np.append(True, value[1:] != value[:-1])[: len(value)]
    return t_ns[keep], value[keep]


def _boundaries(plan: Plan, timeline: Timeline, rank: int) -> tuple[Ints, Ints]:
    """Return (times, bytes) of the boundaries on a rank's device: taken at a start, freed at an end, as planned."""
    of_role = (plan.buffers.space == Space.DEVICE) & (plan.buffers.role == Role.BOUNDARY)
    nbytes = np.where(of_role, plan.buffers.nbytes, 0)
    own = plan.queue_ops(rank, Queue.COMPUTE) if rank < plan.ranks else np.zeros(0, dtype=np.int64)
    taken, freed = row_sums(plan.ops.allocs, nbytes)[own], row_sums(plan.ops.frees, nbytes)[own]
    t_ns = np.stack([timeline.start_ns[own], timeline.end_ns[own]], axis=1).ravel()
    change = np.stack([taken, -freed], axis=1).ravel()
    order = np.argsort(t_ns, kind="stable")
    keep = order[change[order] != 0]
    first = np.zeros(1, dtype=np.int64)
    return np.concatenate([first, t_ns[keep]]), np.concatenate([first, np.cumsum(change[keep])])


def rates(timeline: Timeline, plan: Plan, rows: Ints) -> Ints:
    """Return the bytes per second of transfers, each over all of its time, latency included; shape as ``rows``."""
    length = (timeline.end_ns - timeline.start_ns)[rows].tolist()
    # A copy of 10 GB has more byte-nanoseconds per second than 64 bits hold.
    return np.asarray(
        [
            min(n * NANOSECONDS_PER_SECOND // ns, MOST) if ns > 0 else 0
            for n, ns in zip(plan.ops.nbytes[rows].tolist(), length, strict=True)
        ],
        dtype=np.int64,
    )


def _of_queues(plan: Plan, timeline: Timeline, waited: Waits, rank: int) -> Iterator[Counter]:
    for queue, name in RATES.items():
        rows = plan.queue_ops(rank, queue)
        t_ns, value = level(timeline.start_ns[rows], timeline.end_ns[rows], rates(timeline, plan, rows))
        yield Counter(rank=rank, name=name, unit=RATE, t_ns=t_ns, value=value)
    at = stalls(plan, waited)
    at = at[plan.ops.rank[at] == rank]
    t_ns = np.append(0, waited.ready_ns[at] + waited.wait_ns[at])
    value = np.append(0, np.cumsum(waited.wait_ns[at]))
    yield Counter(rank=rank, name=STALLED, unit=TIME, t_ns=t_ns, value=value)


def _shared(plan: Plan, costs: Costs, timeline: Timeline) -> Iterator[Counter]:
    """Yield the bytes per second over what ranks share, by its name, each transfer once for each of its routes."""
    table = LinkTable.of_plan(costs, plan)
    link = link_of(plan, table)
    rows = np.flatnonzero(link >= 0)
    rate = rates(timeline, plan, rows)
    for group, name in enumerate(table.names):
        count = np.zeros(len(table.own), dtype=np.int64)
        inside = table.group == group
        count[np.repeat(np.arange(len(table.own)), np.diff(table.starts))[inside]] = table.count[inside]
        uses = count[link[rows]]
        at = rows[uses > 0]
        t_ns, value = level(timeline.start_ns[at], timeline.end_ns[at], (rate * uses)[uses > 0])
        yield Counter(rank=None, name=f"{name} bytes/s", unit=RATE, t_ns=t_ns, value=value)
