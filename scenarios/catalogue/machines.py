"""Machines are known by name, for ``[hardware] machine``. To add one, write a row here, with a source for each figure.

A machine brings its GPUs, a row of :mod:`loadahead.scenarios.catalogue.hardware`, and what they share. A figure that is
None is not known, and limits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from loadahead.scenarios.catalogue.hardware import GB

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Describes one host: bandwidths in bytes/s, each direction apart, memory in bytes, latencies in ns.

    Attributes:
        preset: its GPUs, by their name in the catalogue of accelerators.
        gpus_per_host, gpus_per_switch: how many GPUs it has, and how many of them sit behind one PCIe switch.
        uplink_d2h, uplink_h2d: from a switch to the host and back, for all its GPUs together.
        duplex: one GPU's link, both directions together.
        host_memory, host_memory_bandwidth: what the GPUs' copies share.
        network_bandwidth: between the host and the network, for all its GPUs together.
        gpu_network_bandwidth: what one GPU's sends reach on the network.
        network_latency: time of a send between hosts beside that of its bytes.
        p2p_link: whether its GPUs have links of their own, or send over their links to the host.
        d2h, h2d, p2p_bandwidth, link_latency: figures of this machine that stand for its accelerator's.
        sources: where each figure comes from, by its name.
    """

    preset: str
    gpus_per_host: int
    gpus_per_switch: int | None = None
    uplink_d2h: int | None = None
    uplink_h2d: int | None = None
    duplex: int | None = None
    host_memory: int | None = None
    host_memory_bandwidth: int | None = None
    network_bandwidth: int | None = None
    gpu_network_bandwidth: int | None = None
    network_latency: int | None = None
    p2p_link: Literal["nvlink", "pcie"] = "nvlink"
    d2h: int | None = None
    h2d: int | None = None
    p2p_bandwidth: int | None = None
    link_latency: int | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


MACHINES: dict[str, Machine] = {
    "p4d.24xlarge": Machine(
        preset="a100-sxm-40gb",
        gpus_per_host=8,
        gpus_per_switch=2,
        host_memory=1152 * GIB,
        network_bandwidth=50 * GB,
        sources={"gpus_per_host": "AWS, Amazon EC2 P4 instances (product page)"},
    ),
}
