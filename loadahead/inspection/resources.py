"""What the GPUs of a host have and share: links, uplinks, memory, the ways between GPUs and to the network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from loadahead.sim.costs import Costs, SharedLinks
from loadahead.sim.placement import Placement, RankMap, Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Says what a resource has, and how many of a host's GPUs share it at the most.

    Attributes:
        bandwidth: in bytes/s; None: no limit is known.
        latency_ns: None where it has none of its own.
        capacity_bytes: of memory.
    """

    name: str
    gpus: int
    bandwidth: int | None = None
    latency_ns: int | None = None
    capacity_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the resource as plain data."""
        return asdict(self)


def resources_of(costs: Costs, places: RankMap) -> tuple[Resource, ...]:
    """Return what the costs say of the hosts on which these processes stand."""
    shared = costs.shared or SharedLinks()
    on_host, on_switch = _most(places.host), _most(places.host * (int(places.switch.max()) + 1) + places.switch)
    out = [
        Resource(name="a GPU's link, out", gpus=1, bandwidth=costs.d2h_bandwidth, latency_ns=costs.d2h_latency_ns),
        Resource(name="a GPU's link, back", gpus=1, bandwidth=costs.h2d_bandwidth, latency_ns=costs.h2d_latency_ns),
    ]
    if shared.duplex is not None:
        out.append(Resource(name="a GPU's link, both ways together", gpus=1, bandwidth=shared.duplex))
    for name, uplink in (("out", shared.uplink_d2h), ("back", shared.uplink_h2d)):
        if uplink is not None:
            out.append(Resource(name=f"a PCIe switch's uplink, {name}", gpus=on_switch, bandwidth=uplink))
    out.append(
        Resource(
            name="a host's memory",
            gpus=on_host,
            bandwidth=shared.host_memory_bandwidth,
            capacity_bytes=costs.host_memory_bytes,
        )
    )
    out += _between_gpus(costs, shared, places, on_host)
    return tuple(out)


def _between_gpus(costs: Costs, shared: SharedLinks, places: RankMap, on_host: int) -> list[Resource]:
    names = {
        "nvlink": "between GPUs of a host, NVLink",
        "pcie": "between GPUs of a host, over their links to it",
        None: "between GPUs of a host",
    }
    latency, bandwidth = costs.send_link(Reach.HOST)
    out = [Resource(name=names[costs.p2p_link], gpus=1, bandwidth=bandwidth, latency_ns=latency)]
    if places.hosts > 1:
        latency, bandwidth = costs.send_link(Reach.NETWORK)
        out.append(Resource(name="a GPU's sends to another host", gpus=1, bandwidth=bandwidth, latency_ns=latency))
        if costs.gpu_network_bandwidth is not None:
            on_card = min(shared.gpus_per_nic or 1, on_host)
            out.append(Resource(name="a network card, each way", gpus=on_card, bandwidth=costs.gpu_network_bandwidth))
        out.append(Resource(name="a host's network, each way", gpus=on_host, bandwidth=shared.network_bandwidth))
    return out


def _most(groups: Any) -> int:
    """Return how many processes the largest of the groups has."""
    return int(np.unique(groups, return_counts=True)[1].max())


def crossing_sends(placement: Placement, ranks: int, *kinds: Reach) -> tuple[int, ...]:
    """Return the ranks of the pipeline whose sends to the next one have one of these reaches."""
    sender = np.arange(ranks - 1, dtype=np.int64)
    reach = placement.reach(ranks, sender, sender + 1)
    return tuple(np.flatnonzero(np.isin(reach, kinds)).tolist())
