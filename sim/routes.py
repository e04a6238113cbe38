"""Copies and sends take routes, and routes that meet in something share its bandwidth.

A *link* is where at most one transfer at a time is under way: a rank's way to its host, its way back, and its way to
each rank that it sends to. A transfer over a link is one of that rank and, at the same time, one of each of its peers,
which run in step. What they go through are *resources* of hosts: a GPU's link to the host, the uplink of a PCIe switch,
the host's memory, an NVLink port, a network card, the host's network. A link uses a resource once for each of the
peers' routes that goes through it.

Routes: a copy goes over the GPU's link, its switch's uplink and the host's memory. A send inside a host has a link of
its own, goes through both GPUs' NVLink ports, or over both GPUs' links; over these it stays below a common switch, and
else goes through both switches' uplinks and is written to the host's memory and read from it. A send between hosts
goes over both GPUs' links, network cards and hosts' network; where nothing is known of a network, its route is that of
a send inside a host, between two switches.

Where peers differ, as some send to another host and some do not, each goes its own route, and all go at one pace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from loadahead.sim.costs import Costs, P2PLink, SharedLinks
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.placement import Placement, Reach

# (number of the resource, link): a route of a link goes through it once.
_Uses = tuple[Ints, Ints]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Holds what links and their resources follow from: the part of the costs that is about hosts."""

    ranks: int
    # The rank of each stage: neighbours send to each other.
    stage_rank: tuple[int, ...]
    placement: Placement
    shared: SharedLinks
    p2p_link: P2PLink | None
    d2h: int
    h2d: int
    # What a send reaches alone, by its reach; None: it takes no time for its bytes.
    sends: tuple[int | None, ...]
    p2p_bandwidth: int | None
    gpu_network_bandwidth: int | None
    has_network: bool

    @classmethod
    def of(cls, costs: Costs, ranks: int, stage_rank: tuple[int, ...]) -> Hosts:
        """Return those of the costs."""
        return cls(
            ranks=ranks,
            stage_rank=stage_rank,
            placement=costs.placement,
            shared=costs.shared or SharedLinks(),
            p2p_link=costs.p2p_link,
            d2h=costs.d2h_bandwidth,
            h2d=costs.h2d_bandwidth,
            sends=tuple(costs.send_link(reach)[1] for reach in Reach),
            p2p_bandwidth=costs.p2p_bandwidth,
            gpu_network_bandwidth=costs.gpu_network_bandwidth,
            has_network=costs.has_network,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkTable:
    """Holds the links of all ranks, and the groups of links that share a bandwidth which they can exceed together.

    Attributes:
        own, weight: bandwidth and weight of each link; shape (links,). Links ``2 * rank`` and ``2 * rank + 1`` are a
            rank's way to its host and back.
        starts, group, count: which groups link i belongs to, ``group[starts[i]:starts[i + 1]]``, and how often a
            transfer over it is in each.
        capacity: bandwidth of each group; shape (groups,).
        names: the groups' names for people.
        sends: the pairs of ranks whose sends have links, as ``sender * ranks + receiver``, in ascending order; the
            first of them has link ``2 * ranks`` and each the next.
    """

    own: Ints
    weight: Ints
    starts: Ints
    group: Ints
    count: Ints
    capacity: Ints
    names: tuple[str, ...]
    sends: Ints
    ranks: int

    @classmethod
    def of(cls, costs: Costs, ranks: int, stage_rank: Iterable[int] | None = None) -> LinkTable:
        """Return the table of the costs' links; ``stage_rank`` is the rank of each stage, None: one on each.

        It holds only groups whose links together have more bandwidth than the group: no other can ever matter.
        """
        return _table(Hosts.of(costs, ranks, tuple(range(ranks) if stage_rank is None else stage_rank)))

    @classmethod
    def of_plan(cls, costs: Costs, plan: Plan) -> LinkTable:
        """Return the table for a plan's stages."""
        return cls.of(costs, plan.ranks, plan.stage_rank.tolist())

    def send(self, sender: Ints, receiver: Ints) -> Ints:
        """Return the link from each sender to its receiver, or -1 where sends share nothing; shape as ``sender``."""
        pair = sender.astype(np.int64) * self.ranks + receiver
        at = np.searchsorted(self.sends, pair)
        found = np.append(self.sends, -1)[at] == pair
        return np.where(found, 2 * self.ranks + at, -1)

    def groups_of(self, link: int) -> dict[int, int]:
        """Return how often a transfer over a link is in each of its groups."""
        of_link = slice(int(self.starts[link]), int(self.starts[link + 1]))
        return dict(zip(self.group[of_link].tolist(), self.count[of_link].tolist(), strict=True))

    def slowest(self) -> list[int]:
        """Return the bytes per second that each link gets at the least, whatever the others do."""
        out: list[int] = self.own.tolist()
        link = np.repeat(np.arange(len(out)), np.diff(self.starts))
        weights = np.zeros(len(self.capacity), dtype=np.int64)
        np.add.at(weights, self.group, self.weight[link] * self.count)
        for of_link, group in zip(link.tolist(), self.group.tolist(), strict=True):
            share = int(self.weight[of_link]) * int(self.capacity[group]) // int(weights[group])
            out[of_link] = min(out[of_link], max(1, share))
        return out


def are_private(costs: Costs, ranks: int, stage_rank: Iterable[int] | None = None) -> bool:
    """Return whether no transfer can slow another down, as nothing that they share can have too little for all."""
    nothing_stated = costs.shared is None and costs.p2p_link is None and costs.gpu_network_bandwidth is None
    return nothing_stated or not LinkTable.of(costs, ranks, stage_rank).names


class _Group(NamedTuple):
    """Holds the resources that the same links share alike, by name, and how often a transfer over each takes part."""

    names: list[str]
    link: Ints
    times: Ints


# Sweeps over hardware make a table for each point, which are few.
@lru_cache(maxsize=64)
def _table(hosts: Hosts) -> LinkTable:
    ranks, shared = hosts.ranks, hosts.shared
    own, weight = [hosts.d2h, hosts.h2d] * ranks, [shared.d2h_weight, shared.h2d_weight] * ranks
    pairs = np.asarray(_sending(hosts), dtype=np.int64).reshape(-1, 2)
    limits = [hosts.sends[reach] for reach in hosts.placement.reach(ranks, pairs[:, 0], pairs[:, 1]).tolist()]
    limited = [limit for limit in limits if limit is not None]
    own, weight = own + limited, weight + [shared.d2h_weight] * len(limited)
    sends = pairs[[limit is not None for limit in limits]]
    groups: dict[tuple[int, bytes], _Group] = {}
    for capacity, name, link, count in _resources(hosts, sends):
        # Peers have resources alike. So do hosts: what limits one of them limits all in the same way.
        if sum(own[of_link] * times for of_link, times in zip(link.tolist(), count.tolist(), strict=True)) > capacity:
            alike = groups.setdefault((capacity, link.tobytes() + count.tobytes()), _Group([], link, count))
            if name not in alike.names:
                alike.names.append(name)
    number = np.repeat(np.arange(len(groups)), [len(group.link) for group in groups.values()])
    link, count = _joined([each.link for each in groups.values()]), _joined([each.times for each in groups.values()])
    order = np.argsort(link, kind="stable")
    return LinkTable(
        own=np.asarray(own, dtype=np.int64),
        weight=np.asarray(weight, dtype=np.int64),
        starts=np.concatenate([[0], np.cumsum(np.bincount(link, minlength=len(own)))]).astype(np.int64),
        group=number[order].astype(np.int64),
        count=count[order],
        capacity=np.asarray([capacity for capacity, _ in groups], dtype=np.int64),
        names=tuple(_name(group.names) for group in groups.values()),
        sends=sends[:, 0] * ranks + sends[:, 1],
        ranks=ranks,
    )


def _name(alike: list[str]) -> str:
    """Return the name of a group for people: its first resource's, and how many more there are like it."""
    return alike[0] if len(alike) == 1 else f"{alike[0]} ({len(alike) - 1} more alike)"


def _joined(parts: list[Ints]) -> Ints:
    return np.concatenate([np.empty(0, dtype=np.int64), *parts]).astype(np.int64)


def _sending(hosts: Hosts) -> list[tuple[int, int]]:
    """Return the (sender, receiver) whose sends may meet others."""
    if hosts.p2p_link is None and not hosts.has_network:
        return []
    pairs = {(a, b) for a, b in pairwise(hosts.stage_rank) if a != b and min(a, b) >= 0}
    return sorted(pairs | {(b, a) for a, b in pairs})


def _resources(hosts: Hosts, sends: Ints) -> Iterator[tuple[int, str, Ints, Ints]]:
    """Yield (bandwidth, name, links, how often each uses it) of every resource whose bandwidth is known.

    ``sends`` holds the (sender, receiver) of each link between ranks, in their order; shape (sends, 2).
    """
    shared, ranks = hosts.shared, hosts.ranks
    at = hosts.placement.table(ranks, shared.gpus_per_switch)
    switches = int(at.switch.max()) + 1
    several = at.hosts > 1
    gpu, host, switch = at.rank, at.host, at.host * switches + at.switch
    cards = -(-(int(at.gpu.max()) + 1) // (shared.gpus_per_nic or 1))
    card = at.host * cards + at.gpu // (shared.gpus_per_nic or 1)

    def name(kind: str, of: str, number: int) -> str:
        if of == "gpu":
            return f"{kind} of rank {int(at.p[number])}"
        if of in ("switch", "card"):
            number, of_host = number % in_host[of], number // in_host[of]
            return f"{kind} of {of} {number}" + (f" of host {of_host}" if several else "")
        return f"{kind} of host {number}" if several else kind

    kinds: dict[str, tuple[int | None, str]] = {
        "uplink_d2h": (shared.uplink_d2h, "switch"),
        "uplink_h2d": (shared.uplink_h2d, "switch"),
        "duplex": (shared.duplex, "gpu"),
        "host_memory_bandwidth": (shared.host_memory_bandwidth, "host"),
        "link to the host": (hosts.d2h, "gpu"),
        "link from the host": (hosts.h2d, "gpu"),
        "NVLink out": (hosts.p2p_bandwidth, "gpu"),
        "NVLink in": (hosts.p2p_bandwidth, "gpu"),
        "network card out": (hosts.gpu_network_bandwidth, "card"),
        "network card in": (hosts.gpu_network_bandwidth, "card"),
        "network out": (shared.network_bandwidth, "host"),
        "network in": (shared.network_bandwidth, "host"),
    }
    number_of = {"gpu": gpu, "switch": switch, "card": card, "host": host}
    in_host = {"switch": switches, "card": cards}
    uses: dict[str, list[_Uses]] = {kind: [] for kind in kinds}

    def use(processes: Ints, link: Ints, *names: str) -> None:
        for kind in names:
            uses[kind].append((number_of[kinds[kind][1]][processes], link))

    use(gpu, 2 * at.p, "link to the host", "duplex", "uplink_d2h", "host_memory_bandwidth")
    use(gpu, 2 * at.p + 1, "link from the host", "duplex", "uplink_h2d", "host_memory_bandwidth")
    lanes = hosts.placement.lanes(ranks)
    for number, (sender, receiver) in enumerate(sends.tolist()):
        here, there = lanes[:, sender], lanes[:, receiver]
        link = np.full(len(lanes), 2 * ranks + number)
        outside, apart = host[here] != host[there], switch[here] != switch[there]
        networked = outside & hosts.has_network
        over_links = networked | (hosts.p2p_link == "pcie")
        ways = (
            (over_links, ("link to the host", "duplex"), ("link from the host", "duplex")),
            (networked, ("network out", "network card out"), ("network in", "network card in")),
            (
                ~networked & over_links & apart,
                ("uplink_d2h", "host_memory_bandwidth"),
                ("uplink_h2d", "host_memory_bandwidth"),
            ),
            (~networked & (hosts.p2p_link == "nvlink"), ("NVLink out",), ("NVLink in",)),
        )
        for goes, leaving, arriving in ways:
            use(here[goes], link[goes], *leaving)
            use(there[goes], link[goes], *arriving)
    for kind, (capacity, of) in kinds.items():
        if capacity is None:
            continue
        for number, links, count in _counted(uses[kind], 2 * ranks + len(sends)):
            yield capacity, name(kind, of, number), links, count


def _counted(uses: list[_Uses], links: int) -> Iterator[tuple[int, Ints, Ints]]:
    """Yield each resource that is used with its links, and how many of their routes go through it."""
    number, link = (_joined([use[at] for use in uses]) for at in (0, 1))
    keys, count = np.unique(number * links + link, return_counts=True)
    number, link = np.divmod(keys, links)
    firsts = np.flatnonzero(np.diff(number, prepend=-1))
    for first, end in pairwise([*firsts.tolist(), len(number)]):
        yield int(number[first]), link[first:end], count[first:end].astype(np.int64)
