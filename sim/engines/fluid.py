"""Shared links are simulated in numba: copies are flows whose rates change whenever one begins or ends.

The rates are those of :func:`loadahead.sim.links.max_min` and of the reference engine's processes, computed on arrays.
Between two events only flows are open: an operation that does not wait for a flow is placed at once, as in the compiled
engine's pass.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from loadahead.sim.clock import finish, later
from loadahead.sim.compiled import compiled
from loadahead.sim.costs import MOST_TOTAL, NANOSECONDS_PER_SECOND
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.routes import LinkTable

_NEVER = np.iinfo(np.int64).max
# A flow has at most this much work, in bytes * ns/s, which leaves room for what rounding up adds to it.
MOST_WORK = _NEVER - 2**54


def too_large(work: float, table: LinkTable) -> str | None:
    """Return why int64 cannot hold these flows, the largest of which is so much work; None if it can."""
    if work > MOST_WORK:
        return f"a copy has more than {MOST_WORK // NANOSECONDS_PER_SECOND} bytes"
    weights = int(np.repeat(table.weight, np.diff(table.starts)) @ table.count) + int(table.weight.max())
    if weights * max(int(table.own.max()), int(table.capacity.max())) > MOST_TOTAL:
        return "bandwidths times weights leave 64 bits"
    return None


@compiled
def _share(flowing, own, weight, starts, group, count, capacity, room, total, rate):  # type: ignore[no-untyped-def]
    """Fill ``rate`` of the flowing links by progressive filling; ``room`` and ``total`` are the groups' work space."""
    room[:] = capacity
    rate[:] = 0
    still_open = flowing.sum()
    while still_open:
        total[:] = 0
        most, per, full = 0, 0, -1  # the lowest level, most / per, and the group that is full at it
        for link in range(len(own)):
            if flowing[link] and not rate[link]:
                if per == 0 or own[link] * per < most * weight[link]:
                    most, per = own[link], weight[link]
                for at in range(starts[link], starts[link + 1]):
                    total[group[at]] += weight[link] * count[at]
        for g in range(len(capacity)):
            if total[g] and room[g] * per < most * total[g]:
                most, per, full = room[g], total[g], g
        for link in range(len(own)):
            if not flowing[link] or rate[link]:
                continue
            settled = full < 0 and own[link] * per == most * weight[link]
            rate[link] = own[link] if settled else 0
            if full >= 0:
                for at in range(starts[link], starts[link + 1]):
                    settled |= group[at] == full
                rate[link] = max(1, weight[link] * most // per) if settled else 0
            if settled:
                still_open -= 1
                for at in range(starts[link], starts[link + 1]):
                    room[group[at]] = max(0, room[group[at]] - count[at] * rate[link])


@compiled
def _flow(  # type: ignore[no-untyped-def]
    before,
    work,
    link,
    ready_at,
    issued,
    waits,
    waiters,
    values,
    own,
    weight,
    starts,
    group,
    count,
    capacity,
    start,
    end,
):
    """Fill ``start`` and ``end``.

    ``ready_at`` and ``issued`` hold the earliest start and end that the host allows; a flow starts only when issued.
    ``ready_at`` and ``waits`` are overwritten. Row i of ``values``, from ``waiters[i]`` on, holds the operations that
    wait for operation i.
    ``when`` holds each link's next event: the end of its flow, or the begin of one that is still in its latency.
    """
    links = len(own)
    on, when, flowing = np.full(links, -1), np.full(links, _NEVER), np.zeros(links, dtype=np.bool_)
    left, rate = np.zeros(links, dtype=np.int64), np.zeros(links, dtype=np.int64)
    room, total = np.zeros_like(capacity), np.zeros_like(capacity)
    ready = np.empty(len(before), dtype=np.int64)
    top = 0
    for i in range(len(before)):
        if waits[i] == 0:
            ready[top] = i
            top += 1
    now = 0
    while True:
        while top:
            top -= 1
            i = ready[top]
            if link[i] >= 0 and on[link[i]] != i:
                start[i] = ready_at[i]
                on[link[i]], when[link[i]] = i, start[i] + before[i]
                continue
            if link[i] < 0:
                start[i] = ready_at[i]
                end[i] = finish(start[i], before[i], issued[i])
            for e in range(waiters[i], waiters[i + 1]):
                j = values[e]
                ready_at[j] = later(ready_at[j], end[i])
                waits[j] -= 1
                if waits[j] == 0:
                    ready[top] = j
                    top += 1
        begins = False
        for k in range(links):
            begins |= when[k] == now and not flowing[k]
        if not begins:
            _share(flowing, own, weight, starts, group, count, capacity, room, total, rate)
            for k in range(links):
                if flowing[k]:
                    when[k] = now + (left[k] + rate[k] - 1) // rate[k]
        after = when.min()
        if after == _NEVER:
            return
        for k in range(links):
            if flowing[k]:
                left[k] -= rate[k] * (after - now)
        now = after
        for k in range(links):
            if when[k] != now:
                continue
            if flowing[k]:
                flowing[k], when[k], rate[k] = False, _NEVER, 0
                end[on[k]] = now
                ready[top] = on[k]
                top += 1
            else:
                flowing[k], left[k] = True, work[on[k]]
                when[k] = _NEVER


def waiting(plan: Plan) -> tuple[Ints, Ints, Ints]:
    """Return how many operations each one waits for, and the rows (starts, values) of those that wait for it."""
    after, previous = plan.ops.after, plan.previous_in_queue
    follows = np.flatnonzero(previous >= 0)
    sources = np.concatenate([after.values, previous[follows]])
    rows = np.concatenate([after.rows(), follows])
    starts = np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=len(plan)))])
    return np.bincount(rows, minlength=len(plan)), starts.astype(np.int64), rows[np.argsort(sources, kind="stable")]


def run_flows(
    plan: Plan,
    table: LinkTable,
    link: Ints,
    before: Ints,
    work: Ints,
    allowed: tuple[Ints, Ints],
    graph: tuple[Ints, Ints, Ints],
) -> tuple[Ints, Ints]:
    """Return (start, end) of every operation in ns; arguments and result have shape (operations,).

    Args:
        link: what :func:`loadahead.sim.links.link_of` returns.
        before: time in ns before a flow begins, or the whole duration of an operation that is no flow.
        work: the flows' work in bytes * ns/s.
        allowed: what :func:`loadahead.sim.clock.host_times` returns.
        graph: what :func:`waiting` returns.
    """
    start, end = np.empty(len(plan), dtype=np.int64), np.empty(len(plan), dtype=np.int64)
    (earliest_start, issued), (waits, starts, values) = allowed, graph
    _flow(
        before,
        work,
        link,
        earliest_start.copy(),
        issued,
        waits.copy(),
        starts,
        values,
        table.own,
        table.weight,
        table.starts,
        table.group,
        table.count,
        table.capacity,
        start,
        end,
    )
    return start, end


@compiled
def _carried(  # type: ignore[no-untyped-def]
    when, what, begins, own, weight, starts, group, count, capacity, carried
):
    """Fill ``carried[edge]`` with the bytes * 10**9 that each link has carried by an edge.

    Events stand in order of ``when``; ``what`` is a flow's link, or the edges in their order as -1 - edge.
    """
    flowing, rate = np.zeros(len(own), dtype=np.bool_), np.zeros(len(own), dtype=np.int64)
    room, total = np.zeros_like(capacity), np.zeros_like(capacity)
    so_far = np.zeros(len(own), dtype=np.float64)
    now, changed = when[0], False
    for event in range(len(when)):
        if when[event] > now:
            if changed:
                _share(flowing, own, weight, starts, group, count, capacity, room, total, rate)
                changed = False
            for link in range(len(own)):
                if flowing[link]:
                    so_far[link] += float(rate[link]) * (when[event] - now)
            now = when[event]
        if what[event] < 0:
            carried[-1 - what[event]] = so_far
        else:
            flowing[what[event]] = begins[event]
            changed = True


def carried_by(table: LinkTable, link: Ints, begin_ns: Ints, end_ns: Ints, times_ns: Ints) -> npt.NDArray[np.float64]:
    """Return how many bytes each link has carried by each of ``times_ns``; shape (times, links).

    Flow i is on ``link[i]`` from ``begin_ns[i]``, when its latency is over, to its end, as a simulation had it; a link
    has one at a time.
    """
    edges = -1 - np.arange(len(times_ns), dtype=np.int64)
    when = np.concatenate([end_ns, begin_ns, times_ns])
    what = np.concatenate([link, link, edges])
    begins = np.repeat([False, True, False], [len(link), len(link), len(times_ns)])
    # A flow that ends at an instant makes room for one that begins at it.
    order = np.argsort(when, kind="stable")
    carried = np.zeros((len(times_ns), len(table.own)))
    shared = (table.own, table.weight, table.starts, table.group, table.count, table.capacity)
    _carried(when[order], what[order], begins[order], *shared, carried)
    return carried / NANOSECONDS_PER_SECOND
