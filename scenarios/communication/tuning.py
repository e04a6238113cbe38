"""NCCL reckons how long each of its algorithms takes and uses the quickest: this is that reckoning.

It is src/graph/tuning.cc of NVIDIA/nccl (2026), ncclTopoTuneModel and ncclTopoGetAlgoTime: a latency of steps, and the
bytes over a bandwidth. Left out is what needs a switch that adds up between hosts (CollNet).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import ceil, inf
from typing import Literal, NamedTuple

from loadahead.scenarios.catalogue.nccl import (
    BASE_PAT_NS,
    BASE_RING,
    BASE_TREE,
    CALLED_EACH_NS,
    CALLED_NS,
    LL128_OF_RING,
    LL128_OF_TREE,
    LL_BETWEEN,
    LL_OF_RING,
    LL_OF_TREE,
    NETWORK,
    NVLINK,
    OF_PAT,
    OF_TREE,
    PAT_EACH_NS,
    PAT_OF_STEP,
    PCIE,
    PLATEAU_BYTES,
    POST_NS,
    POSTS,
    SEND_BETWEEN_HOSTS_NS,
    SENDS_OF_NVLINK,
    TREE_CORRECTION,
    Protocols,
    Steps,
)
from loadahead.scenarios.communication.groups import Group
from loadahead.scenarios.communication.links import Channels, Links, channels_of, heads

Collective = Literal["all_reduce", "reduce_scatter", "all_gather"]


class Way(NamedTuple):
    """Says how one algorithm takes its time with one protocol.

    Attributes:
        latency: in ns.
        bandwidth: bytes of the whole tensor per ns.
        plateau: what the latency is multiplied by once each of ``pieces`` has enough bytes.
        correction: what the bandwidth is multiplied by for 64 B, 128 B, ...; empty: by 1.
    """

    algorithm: str
    protocol: str
    latency: float
    bandwidth: float
    plateau: float = 1.0
    pieces: int = 1
    correction: tuple[float, ...] = ()

    def ns(self, nbytes: int) -> float:
        """Return how long so many bytes take."""
        latency, bandwidth, at = self.latency, self.bandwidth, (nbytes >> 6).bit_length() - 1
        if 0 <= at < len(self.correction):
            bandwidth *= self.correction[at]
        if nbytes // self.pieces >= PLATEAU_BYTES:
            latency *= self.plateau
        return latency + nbytes / bandwidth


def quickest(links: Links, group: Group, collective: Collective, nbytes: int) -> Way:
    """Return the way that takes the least time, which is the one that NCCL uses."""
    return min(ways(links, group, collective), key=lambda way: way.ns(nbytes))


@lru_cache(maxsize=4096)
def ways(links: Links, group: Group, collective: Collective) -> tuple[Way, ...]:
    """Return all ways of a group of two GPUs or more."""
    if group.hosts > 1 and not links.has_network:
        group = Group(gpus=group.gpus)
    channels = channels_of(links, group)
    found = [*_rings(links, group, channels, collective)]
    if collective == "all_reduce":
        found += [*_trees(links, group, channels), *_in_switches(links, group)]
    elif group.hosts == group.gpus and group.hosts > 1:
        found.append(_pat(links, group, channels))
    return tuple(found)


@lru_cache(maxsize=1 << 16)
def collective_ns(links: Links, group: Group, collective: Collective, nbytes: int) -> int:
    """Return how long a collective takes that PyTorch calls, rounded up to whole ns."""
    if group.gpus == 1 or nbytes == 0:
        return 0
    on_host = group.on_host if links.has_network else group.gpus
    called = CALLED_NS + CALLED_EACH_NS * (on_host - 1)
    return ceil(min(way.ns(nbytes) for way in ways(links, group, collective)) + called)


@lru_cache(maxsize=1 << 16)
def all_to_all_ns(links: Links, group: Group, nbytes: int) -> int:
    """Return how long it takes until each GPU has sent each other its part of its own tensor, in ns.

    All sends go at once. Those inside a host share a GPU's links, those to other hosts its part of the network.
    """
    if group.gpus == 1 or nbytes == 0:
        return 0
    if group.hosts > 1 and not links.has_network:
        group = Group(gpus=group.gpus)
    inside = links.inside() * (SENDS_OF_NVLINK if links.has_nvlink else 1.0)
    near = nbytes * (group.on_host - 1) / group.gpus / inside
    latency: float = _steps(links).ring.simple
    if group.hosts == 1:
        return ceil(BASE_RING.simple + latency + near)
    far = nbytes * (group.gpus - group.on_host) / group.gpus / (links.between(group) / group.on_host)
    return ceil(BASE_RING.simple + max(latency, _network(links, NETWORK.ring).simple) + max(near, far))


def _steps(links: Links) -> Steps:
    """Return what steps inside a host take."""
    return NVLINK if links.has_nvlink else PCIE


def _network(links: Links, steps: Protocols) -> Protocols:
    """Return what steps between hosts take: NCCL's figures, and what this network takes more than its send."""
    more = links.network_ns - SEND_BETWEEN_HOSTS_NS
    return Protocols(*(max(0, each + more) for each in steps))


def _protocols(links: Links, group: Group) -> list[str]:
    """Return the protocols that NCCL allows: LL128 needs NVLink, and between hosts a card near each GPU.

    Machines of before Ampere have their cards behind the processors (src/graph/tuning.cc, typeInter).
    """
    ll128 = links.has_nvlink and (group.hosts == 1 or links.generation != "volta")
    return ["ll", "ll128", "simple"] if ll128 else ["ll", "simple"]


def _ll_most(links: Links, group: Group) -> float:
    return links.gpu.ll if group.hosts == 1 else LL_BETWEEN.of(group.hosts)


def _rings(links: Links, group: Group, channels: Channels, collective: Collective) -> Iterator[Way]:
    n, hosts, both = group.gpus, group.hosts, 2 if collective == "all_reduce" else 1
    # With a GPU on each host nothing hides the network: it is as slow as a tree's.
    of_network = _network(links, NETWORK.tree if n == hosts else NETWORK.ring)
    reached = {
        "ll": min(_ll_most(links, group), channels.total * LL_OF_RING),
        "ll128": min(channels.total * LL128_OF_RING, channels.count * links.gpu.ring_ll128.of(hosts)),
        "simple": channels.total,
    }
    for protocol in _protocols(links, group):
        step = getattr(_steps(links).ring, protocol)
        if hosts > 1:
            step = max(step, POST_NS * getattr(POSTS, protocol))
        outside = both * (hosts - 1)
        latency = getattr(BASE_RING, protocol) + (both * (n - 1) - outside) * step
        yield Way(
            algorithm="ring",
            protocol=protocol,
            latency=latency + outside * getattr(of_network, protocol),
            bandwidth=reached[protocol] * n / (both * (n - 1)),
            plateau=links.gpu.plateau if both == 2 and hosts > 1 and protocol == "simple" else 1.0,
            pieces=channels.count * n,
        )


def _trees(links: Links, group: Group, channels: Channels) -> Iterator[Way]:
    gpu, hosts, count = links.gpu, group.hosts, channels.count
    total = min(channels.total * OF_TREE, count * gpu.tree.of(hosts))
    reached = {
        "ll": min(total * LL_OF_TREE, _ll_most(links, group)),
        "ll128": min(total * LL128_OF_TREE.of(hosts), count * gpu.tree_ll128.of(hosts)),
        "simple": total,
    }
    of_network = _network(links, NETWORK.tree)
    for protocol in _protocols(links, group):
        inside = (group.gpus // hosts - 1) * getattr(_steps(links).tree, protocol)
        between = (hosts.bit_length() - 1) * getattr(of_network, protocol)
        yield Way(
            algorithm="tree",
            protocol=protocol,
            latency=getattr(BASE_TREE, protocol) + 2 * (inside + between),
            bandwidth=reached[protocol] / 2,
            correction=TREE_CORRECTION[protocol],
        )


def _in_switches(links: Links, group: Group) -> Iterator[Way]:
    """Yield the sum in a host's switches (NVLS), and that in those of several hosts, which a tree then adds up."""
    gpu, inside, n = links.gpu, links.inside(), group.on_host
    if not gpu.nvls or not links.has_nvlink or n < 2 or inside == inf:
        return
    in_one = group.hosts == 1
    network = inf if in_one else links.between(group) / n
    limit = min(inside, network * (n + 1))
    # A sum and a broadcast are under way at once.
    each = heads(limit, n, gpu.inside if in_one else gpu.between) * gpu.nvls * (n - 1) / n * 2
    ratio = group.gpus / (2 * (group.gpus - 1))
    if in_one:
        yield Way("nvls", "simple", NVLINK.nvls_ns, n * each * ratio)
        return
    each = min(each, network * (2 if group.hosts == 2 else 1), gpu.nvls_tree.of(group.hosts))
    step = NETWORK.nvls_tree_ns + max(0, links.network_ns - SEND_BETWEEN_HOSTS_NS)
    latency = NVLINK.nvls_tree_ns + 2 * (group.hosts.bit_length() - 1) * step
    correction = TREE_CORRECTION["simple"] if links.generation == "blackwell" else ()
    yield Way("nvls tree", "simple", latency, n * each * ratio, correction=correction)


def _pat(links: Links, group: Group, channels: Channels) -> Way:
    """Return the parallel aggregated tree, which gathers and scatters where each host has one GPU."""
    step = _network(links, NETWORK.tree).simple * PAT_OF_STEP
    latency = BASE_PAT_NS + (group.hosts.bit_length() - 1) * step + group.gpus * PAT_EACH_NS
    return Way("pat", "simple", latency, channels.total * OF_PAT)
