"""Copies share bandwidth; weighted max-min fairness, in integers, decides who gets how much of it.

Every rank has one link in each direction, numbered ``2 * rank`` (D2H) and ``2 * rank + 1`` (H2D); as queues are FIFO,
at most one copy is on a link at a time. A copy first takes its latency, in which it needs no bandwidth, then it is a
*flow* of ``bytes * 10**9`` units of work. Between changes of the set of flows each runs at a whole number of bytes per
second, which depends on that set alone, so that two engines can agree to the nanosecond.

Progressive filling (Bertsekas and Gallager, Data Networks, section 6.5.2): the flows' level, bandwidth per weight,
rises for all alike until a flow has its own link's bandwidth or a group of links is full; those flows are settled, and
the others go on with what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from loadahead.sim.costs import NANOSECONDS_PER_SECOND, Costs, SharedLinks, require_total
from loadahead.sim.ir.kinds import COPY_KINDS, Kind
from loadahead.sim.ir.plan import Ints, Plan

_ROLES = ("uplink_d2h", "uplink_h2d", "duplex", "host_memory_bandwidth")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTable:
    """Holds the links of all ranks, and the groups of links that share a bandwidth which they can exceed together.

    Attributes:
        own, weight: bandwidth and weight of each link; shape (links,).
        member: the group that a link belongs to in each role, or -1; shape (links, roles).
        capacity: bandwidth of each group; shape (groups,).
        names: the groups' names for people.
    """

    own: Ints
    weight: Ints
    member: Ints
    capacity: Ints
    names: tuple[str, ...]

    @classmethod
    def of(cls, costs: Costs, ranks: int) -> LinkTable:
        """Return the table of the costs' links.

        It holds only groups whose links together have more bandwidth than the group: no other can ever matter.
        """
        shared = costs.shared or SharedLinks()
        inward = np.tile([False, True], ranks)
        own = np.where(inward, costs.h2d_bandwidth, costs.d2h_bandwidth).astype(np.int64)
        member = np.full((2 * ranks, len(_ROLES)), -1, dtype=np.int64)
        capacity: list[int] = []
        names: list[str] = []
        for role, (cap, group_of, name) in enumerate(_roles(shared, ranks)):
            for group in np.unique(group_of[group_of >= 0]).tolist() if cap is not None else ():
                links = np.flatnonzero(group_of == group)
                if cap is not None and sum(own[links].tolist()) > cap:
                    member[links, role] = len(capacity)
                    capacity.append(cap)
                    names.append(name.format(group))
        return cls(
            own=own,
            weight=np.where(inward, shared.h2d_weight, shared.d2h_weight).astype(np.int64),
            member=member,
            capacity=np.asarray(capacity, dtype=np.int64),
            names=tuple(names),
        )

    def slowest(self) -> list[int]:
        """Return the bytes per second that each link gets at the least, whatever the others do."""
        out: list[int] = self.own.tolist()
        for group, cap in enumerate(self.capacity.tolist()):
            links = np.flatnonzero((self.member == group).any(axis=1)).tolist()
            weights = int(self.weight[links].sum())
            for link in links:
                out[link] = min(out[link], max(1, int(self.weight[link]) * cap // weights))
        return out


def _roles(shared: SharedLinks, ranks: int) -> list[tuple[int | None, Ints, str]]:
    """Return (bandwidth, group of each link or -1, name of a group) of each role."""
    rank = np.repeat(np.arange(ranks, dtype=np.int64), 2)
    inward = np.tile([False, True], ranks)
    switch = rank // (shared.gpus_per_switch or 1)
    return [
        (shared.uplink_d2h, np.where(inward, -1, switch), "uplink_d2h of switch {}"),
        (shared.uplink_h2d, np.where(inward, switch, -1), "uplink_h2d of switch {}"),
        (shared.duplex, rank, "duplex of rank {}"),
        (shared.host_memory_bandwidth, np.zeros_like(rank), "host_memory_bandwidth"),
    ]


def max_min(table: LinkTable, flowing: Sequence[int]) -> dict[int, int]:
    """Return the bytes per second of each link in ``flowing``, rounded down, but never to 0."""
    open_ = list(flowing)
    own, weight, room = table.own.tolist(), table.weight.tolist(), table.capacity.tolist()
    groups = {link: [g for g in table.member[link].tolist() if g >= 0] for link in open_}
    rates: dict[int, int] = {}
    while open_:
        total = [sum(weight[link] for link in open_ if g in groups[link]) for g in range(len(room))]
        # Find the lowest level at which a link or a group is full; a link comes before a group, the first among equals.
        level, link = min((Fraction(own[link], weight[link]), link) for link in open_)
        full = min(((Fraction(room[g], total[g]), g) for g in range(len(room)) if total[g]), default=None)
        if full is None or level <= full[0]:
            settled = {link: own[link]}
        else:
            members = [other for other in open_ if full[1] in groups[other]]
            settled = {other: max(1, weight[other] * room[full[1]] // total[full[1]]) for other in members}
        for settled_link, rate in settled.items():
            for g in groups[settled_link]:
                room[g] = max(0, room[g] - rate)
        rates |= settled
        open_ = [other for other in open_ if other not in rates]
    return rates


def link_of(plan: Plan) -> Ints:
    """Return the link of each copy that has bytes to move, and -1 for other operations; shape (operations,)."""
    kind = plan.ops.kind
    moves = np.isin(kind, sorted(COPY_KINDS)) & (plan.ops.nbytes > 0)
    return np.where(moves, 2 * plan.ops.rank.astype(np.int64) + (kind == Kind.PREFETCH), -1)


def before_flow(plan: Plan, costs: Costs, link: Ints) -> Ints:
    """Return how long each operation needs no shared bandwidth, in ns; shape (operations,).

    For a copy that is its latency, for any other operation its whole duration. ``link`` comes from :func:`link_of`.
    """
    latency = np.where(plan.ops.kind == Kind.PREFETCH, costs.h2d_latency_ns, costs.d2h_latency_ns)
    return np.where(link >= 0, latency, costs.durations(plan))


def contended(table: LinkTable, link: Ints, start_ns: Ints, end_ns: Ints) -> list[str]:
    """Return the names of the groups that are asked for more bandwidth than they have.

    Each flow asks for its own link's bandwidth from its start to its end. The arrays have shape (operations,); rows
    whose ``link`` is -1 are left out.
    """
    flows = np.flatnonzero((link >= 0) & (end_ns > start_ns))
    out = []
    for role in range(table.member.shape[1]):
        group = table.member[link[flows], role]
        members, group = flows[group >= 0], group[group >= 0]
        asks = table.own[link[members]]
        times = np.concatenate([end_ns[members], start_ns[members]])
        change, groups = np.concatenate([-asks, asks]), np.tile(group, 2)
        # A flow that ends at an instant makes room for one that starts at it. Every group's changes add up to 0.
        order = np.lexsort((change, times, groups))
        asked = np.cumsum(change[order])
        over = asked > table.capacity[groups[order]]
        out += [table.names[g] for g in np.unique(groups[order][over]).tolist()]
    return out


def require_fits(plan: Plan, costs: Costs, table: LinkTable) -> None:
    """Raise InputError unless the step fits int64 even if every copy gets the least that its link can get."""
    link = link_of(plan)
    slowest = np.asarray(table.slowest(), dtype=np.float64)
    moving = plan.ops.nbytes[link >= 0] / slowest[link[link >= 0]] * NANOSECONDS_PER_SECOND
    require_total(costs.durations(plan), "durations on shared links", "ns", more=int(moving.sum()))
