"""What the GPUs of a host have and share: links, uplinks, memory, the ways between GPUs and to the network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from loadahead.sim.costs import Costs, SharedLinks
from loadahead.sim.placement import RankMap


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
    name = {
        "nvlink": "between GPUs of a host, NVLink",
        "pcie": "between GPUs of a host, over their links to the host",
        None: "between GPUs",
    }[costs.p2p_link]
    out = [Resource(name=name, gpus=1, bandwidth=costs.p2p_bandwidth, latency_ns=costs.p2p_latency_ns)]
    network = (shared.network_bandwidth, costs.gpu_network_bandwidth, costs.network_latency_ns)
    if places.hosts == 1 or all(figure is None for figure in network):
        return out
    if costs.gpu_network_bandwidth is not None:
        out.append(Resource(name="one GPU's sends on the network", gpus=1, bandwidth=costs.gpu_network_bandwidth))
    latency = costs.p2p_latency_ns if costs.network_latency_ns is None else costs.network_latency_ns
    out.append(
        Resource(
            name="a host's network, each way", gpus=on_host, bandwidth=shared.network_bandwidth, latency_ns=latency
        )
    )
    return out


def _most(groups: Any) -> int:
    """Return how many processes the largest of the groups has."""
    return int(np.unique(groups, return_counts=True)[1].max())


def crossing_sends(places: RankMap) -> tuple[int, ...]:
    """Return the ranks of the pipeline that send to the next one on another host, in any replica or tensor part."""
    lanes = np.lexsort((places.p, places.lane))
    ranks = int(places.p.max()) + 1
    host = places.host[lanes].reshape(-1, ranks)
    return tuple(np.flatnonzero((host[:, 1:] != host[:, :-1]).any(axis=0)).tolist())
