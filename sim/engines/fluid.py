"""Shared links in numba: copies as flows whose rates change whenever one begins or ends.

The same figures as :func:`loadahead.sim.links.max_min` and the reference engine's processes, written anew for arrays.
Between two events only flows are open: whatever does not wait for a flow is placed at once, as in the compiled engine's
pass.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from loadahead.sim.costs import MOST_TOTAL, NANOSECONDS_PER_SECOND
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.links import LinkTable

_NEVER = np.iinfo(np.int64).max
# Work of one flow, in bytes * ns/s, with room for what rounding up adds to it.
MOST_WORK = _NEVER - 2**54


def too_large(work: float, table: LinkTable) -> str | None:
    """Why int64 cannot hold these flows, the largest of which is so much work; None if it can."""
    if work > MOST_WORK:
        return f"a copy has more than {MOST_WORK // NANOSECONDS_PER_SECOND} bytes"
    if int(table.weight.sum()) * max(table.own.max(), table.capacity.max()) > MOST_TOTAL:
        return "bandwidths times weights leave 64 bits"
    return None


@njit(cache=True)
def _share(flowing, own, weight, member, capacity, room, total, rate):  # type: ignore[no-untyped-def]
    """Fill ``rate`` of the flowing links: progressive filling. ``room`` and ``total`` are work space of the groups."""
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
                for role in range(member.shape[1]):
                    if member[link, role] >= 0:
                        total[member[link, role]] += weight[link]
        for group in range(len(capacity)):
            if total[group] and room[group] * per < most * total[group]:
                most, per, full = room[group], total[group], group
        for link in range(len(own)):
            if not flowing[link] or rate[link]:
                continue
            if full < 0:
                settled = own[link] * per == most * weight[link]
                rate[link] = own[link] if settled else 0
            else:
                settled = (member[link] == full).any()
                rate[link] = max(1, weight[link] * most // per) if settled else 0
            if settled:
                still_open -= 1
                for role in range(member.shape[1]):
                    if member[link, role] >= 0:
                        room[member[link, role]] = max(0, room[member[link, role]] - rate[link])


@njit(cache=True)
def _flow(before, work, link, ready_at, issued, waits, starts, values, own, weight, member, capacity, start, end):  # type: ignore[no-untyped-def]
    """Fill ``start`` and ``end``.

    ``ready_at`` and ``issued`` are what the host allows: earliest start and end; a flow starts only when issued.
    ``ready_at`` and ``waits`` are used up; operation i is waited for by its row of values.
    ``when`` holds what comes next on each link: the end of its flow, or the begin of one that is still in its latency.
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
                end[i] = max(start[i] + before[i], issued[i])
            for e in range(starts[i], starts[i + 1]):
                j = values[e]
                ready_at[j] = max(ready_at[j], end[i])
                waits[j] -= 1
                if waits[j] == 0:
                    ready[top] = j
                    top += 1
        begins = False
        for k in range(links):
            begins |= when[k] == now and not flowing[k]
        if not begins:
            _share(flowing, own, weight, member, capacity, room, total, rate)
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
    """(how many operations each waits for, starts and values of the rows of those that wait for it)."""
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
    """(start, end) of every operation in ns; arguments and result of shape (operations,).

    Args:
        link: as of :func:`loadahead.sim.links.link_of`.
        before: time before a flow, or all of an operation that is none.
        work: of the flows, bytes * ns/s.
        allowed: as of :func:`loadahead.sim.launch.earliest`.
        graph: as of :func:`waiting`.
    """
    start, end = np.empty(len(plan), dtype=np.int64), np.empty(len(plan), dtype=np.int64)
    (from_, issued), (waits, starts, values) = allowed, graph
    _flow(
        before,
        work,
        link,
        from_.copy(),
        issued,
        waits.copy(),
        starts,
        values,
        table.own,
        table.weight,
        table.member,
        table.capacity,
        start,
        end,
    )
    return start, end
