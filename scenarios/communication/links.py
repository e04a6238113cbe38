"""GPUs are connected by links, over which NCCL lays channels: rings and trees that each carry a part of the data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf

from loadahead.scenarios.catalogue.nccl import (
    ANY_GENERATION,
    DOUBLED_FROM,
    FEW,
    GPUS,
    LARGE,
    MOST_CHANNELS,
    OF_NETWORK,
    SEND_BETWEEN_HOSTS_NS,
    SMALLEST_OF_BEST,
    Generation,
    Gpu,
)
from loadahead.scenarios.communication.groups import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Says by what GPUs are connected; bandwidths are in bytes/s, of each direction, None: it is not known.

    Attributes:
        generation: of the GPUs.
        has_nvlink: whether they have links of their own; else they send over PCI Express.
        bandwidth: of one GPU's links to others of its host, as the datasheet has it; None: bytes take no time.
        network, card: of a host, and of one of its network cards.
        gpus_per_card: GPUs that send over one card.
        gpus_per_host: GPUs of a host, which have all its cards.
        network_ns: what a send between hosts takes beside its bytes.
    """

    generation: Generation = ANY_GENERATION
    has_nvlink: bool = True
    bandwidth: int | None = None
    network: int | None = None
    card: int | None = None
    gpus_per_card: int = 1
    gpus_per_host: int | None = None
    network_ns: int = SEND_BETWEEN_HOSTS_NS

    @property
    def gpu(self) -> Gpu:
        """Return what NCCL knows of the GPUs."""
        return GPUS[self.generation]

    @property
    def has_network(self) -> bool:
        """Return whether it is known what hosts send to each other; else that is taken to be as quick as inside one."""
        return self.network is not None or self.card is not None

    def inside(self) -> float:
        """Return what NCCL counts of a GPU's links to others of its host, in GB/s."""
        if self.bandwidth is None:
            return inf
        return self.bandwidth / 1e9 * (self.gpu.of_nvlink if self.has_nvlink else 1.0)

    def between(self, group: Group) -> float:
        """Return what a group has of a host's network, in GB/s: groups that run in step have a part each."""
        limits = [] if self.network is None else [self.network]
        if self.card is not None:
            limits.append(self.card * self._cards(group.on_host * group.lanes))
        return min(limits) / 1e9 * OF_NETWORK / group.lanes if limits else inf

    def cards(self, group: Group) -> int:
        """Return how many network cards a group's GPUs of one host have."""
        return max(1, self._cards(group.on_host * group.lanes) // group.lanes)

    def _cards(self, gpus: int) -> int:
        """Return how many cards so many GPUs of a host send over; groups that run in step have neighbouring GPUs."""
        return -(-min(gpus, self.gpus_per_host or gpus) // self.gpus_per_card)


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """Says how many channels a ring or a tree has, and each one's bandwidth in GB/s."""

    count: int
    each: float

    @property
    def total(self) -> float:
        """Return what all of them carry together, in GB/s."""
        return self.count * self.each


@lru_cache(maxsize=4096)
def channels_of(links: Links, group: Group) -> Channels:
    """Return the channels of a ring over a group, of which each has one of NCCL's bandwidths.

    A ring that leaves a host does so over a card for each channel and comes back over the same one, so that it is as
    fast as the cards, or as the links inside: of these it does not need the one from its last GPU on to its first.
    """
    gpu, inside = links.gpu, links.inside()
    if group.hosts == 1:
        return _doubled(_largest(inside, gpu.inside), gpu)
    each = links.between(group) / links.cards(group)
    if group.on_host > 1:
        each = min(each, inside * group.on_host / (group.on_host - 1) / links.cards(group))
    return _doubled(Channels(count=links.cards(group), each=each), gpu)


def heads(total: float, gpus: int, speeds: tuple[float, ...]) -> float:
    """Return each channel's bandwidth where a switch adds up and each of a host's GPUs is the head of one, in GB/s.

    Every GPU sends to every head once, and a head, of its own channel, once more (src/graph/search.cc,
    ncclTopoSearchTryNvls).
    """
    return _at_most(total / (gpus + 1), speeds)


def _largest(total: float, speeds: tuple[float, ...]) -> Channels:
    """Return the channels that carry the most together, as NCCL's search finds them (src/graph/search.cc)."""
    best = Channels(count=1, each=total) if total < speeds[-1] or total == inf else Channels(count=0, each=0.0)
    for each in speeds:
        found = Channels(count=int(min(total // each, MOST_CHANNELS)) if total != inf else 0, each=each)
        if best.total and (each / best.each <= SMALLEST_OF_BEST or best.total >= total):
            break
        if found.total > best.total:
            best = found
    return best


def _doubled(found: Channels, gpu: Gpu) -> Channels:
    """Return the channels after NCCL has made two of each large one (src/graph/search.cc, ncclTopoDupChannels)."""
    if found.each < DOUBLED_FROM or found.each == inf or (not gpu.doubles and found.each < LARGE and found.count > FEW):
        return found
    count = min(2 * found.count, MOST_CHANNELS)
    return Channels(count=count, each=found.each / -(-count // found.count))


def _at_most(limit: float, speeds: tuple[float, ...]) -> float:
    """Return the largest bandwidth that a channel may have within a limit; the limit where all are larger."""
    return next((each for each in speeds if each <= limit), limit)
