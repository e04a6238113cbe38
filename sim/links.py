"""Copies share bandwidth; weighted max-min fairness, in integers, decides who gets how much of it.

Which links there are, and which of them meet where, :mod:`loadahead.sim.routes` says; as queues are FIFO, at most one
transfer is on a link at a time. It first takes its latency, in which it needs no bandwidth, then it is a *flow* of
``bytes * 10**9`` units of work. Between changes of the set of flows each runs at a whole number of bytes per second,
which depends on that set alone, so that two engines can agree to the nanosecond.

Progressive filling (Bertsekas and Gallager, Data Networks, section 6.5.2): the flows' level, bandwidth per weight,
rises for all alike until a flow has its own link's bandwidth or a group of links is full; those flows are settled, and
the others go on with what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from loadahead.sim.costs import NANOSECONDS_PER_SECOND, Costs, require_total
from loadahead.sim.ir.kinds import COPY_KINDS, Kind
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.routes import LinkTable


def max_min(table: LinkTable, flowing: Sequence[int]) -> dict[int, int]:
    """Return the bytes per second of each link in ``flowing``, rounded down, but never to 0."""
    open_ = list(flowing)
    own, weight, room = table.own.tolist(), table.weight.tolist(), table.capacity.tolist()
    groups = {link: table.groups_of(link) for link in open_}
    rates: dict[int, int] = {}
    while open_:
        total = [sum(weight[link] * groups[link].get(g, 0) for link in open_) for g in range(len(room))]
        # Find the lowest level at which a link or a group is full; a link comes before a group, the first among equals.
        level, link = min((Fraction(own[link], weight[link]), link) for link in open_)
        full = min(((Fraction(room[g], total[g]), g) for g in range(len(room)) if total[g]), default=None)
        if full is None or level <= full[0]:
            settled = {link: own[link]}
        else:
            members = [other for other in open_ if full[1] in groups[other]]
            settled = {other: max(1, weight[other] * room[full[1]] // total[full[1]]) for other in members}
        for settled_link, rate in settled.items():
            for g, count in groups[settled_link].items():
                room[g] = max(0, room[g] - count * rate)
        rates |= settled
        open_ = [other for other in open_ if other not in rates]
    return rates


def link_of(plan: Plan, table: LinkTable) -> Ints:
    """Return the link of each transfer that has bytes to move and may meet others, else -1; shape (operations,)."""
    kind, rank, receiver = plan.ops.kind, plan.ops.rank.astype(np.int64), plan.receivers
    out = np.where(np.isin(kind, sorted(COPY_KINDS)), 2 * rank + (kind == Kind.PREFETCH), -1)
    sends = receiver >= 0
    out[sends] = table.send(rank[sends], receiver[sends])
    return np.where(plan.ops.nbytes > 0, out, -1)


def before_flow(plan: Plan, costs: Costs, link: Ints, durations: Ints) -> Ints:
    """Return how long each operation needs no shared bandwidth, in ns; shape (operations,).

    For a flow that is its latency, for any other operation its whole duration. ``link`` comes from :func:`link_of`,
    ``durations`` from the costs.
    """
    return np.where(link >= 0, costs.latencies(plan), durations)


def contended(table: LinkTable, link: Ints, start_ns: Ints, end_ns: Ints) -> list[str]:
    """Return the names of the groups that are asked for more bandwidth than they have.

    Each flow asks for its own link's bandwidth from its start to its end, once for each of its peers that is in the
    group. The arrays have shape (operations,); rows whose ``link`` is -1 are left out.
    """
    flows = np.flatnonzero((link >= 0) & (end_ns > start_ns))
    of_flow = link[flows]
    many = np.diff(table.starts)[of_flow]
    # Each flow once for each of its groups: where these stand, and which flow it is.
    at = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many) + np.repeat(table.starts[of_flow], many)
    members, group = np.repeat(flows, many), table.group[at]
    own, count, capacity = table.own[link[members]], table.count[at], table.capacity[group]
    # More than there is counts as that: products then stay within 64 bits.
    asks = np.where(own > capacity // count, capacity + 1, own * count)
    times = np.concatenate([end_ns[members], start_ns[members]])
    change, groups = np.concatenate([-asks, asks]), np.tile(group, 2)
    # A flow that ends at an instant makes room for one that starts at it. Every group's changes add up to 0.
    order = np.lexsort((change, times, groups))
    asked = np.cumsum(change[order])
    over = asked > table.capacity[groups[order]]
    return [table.names[g] for g in np.unique(groups[order][over]).tolist()]


def require_fits(plan: Plan, table: LinkTable, durations: Ints) -> None:
    """Raise InputError unless the step fits int64 even if every copy gets the least that its link can get."""
    link = link_of(plan, table)
    slowest = np.asarray(table.slowest(), dtype=np.float64)
    moving = plan.ops.nbytes[link >= 0] / slowest[link[link >= 0]] * NANOSECONDS_PER_SECOND
    require_total(durations, "durations on shared links", "ns", more=int(moving.sum()))
