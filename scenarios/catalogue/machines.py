"""Machines are known by name, for ``[hardware] machine``. To add one, write a row here, with a source for each figure.

A machine brings its GPUs, a row of :mod:`loadahead.scenarios.catalogue.hardware`, and what they share. A figure that is
None is not known, as no document that was found gives it, and limits nothing.

Networks are told in bits and counted in bytes here: 400 Gbit/s are 50 GB/s. Memory that a vendor calls "2 TB" is made
of modules of 64 GiB, so that it is counted as 2048 GiB. Bandwidths of host memory are what the processors' channels
carry at most; copies reach less.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from loadahead.scenarios.catalogue.hardware import GB, GIB
from loadahead.scenarios.catalogue.nccl import SEND_BETWEEN_HOSTS_NS

US = 1_000


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
        gpus_per_nic: GPUs that send over one network card, which has ``gpu_network_bandwidth``.
        p2p_link: "pcie" where its GPUs send to each other over their links to the host; None: they have NVLink, on
            which a send is taken to be alone. Sends there are so quick that two which meet hardly matter.
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
    gpus_per_nic: int | None = None
    network_latency: int | None = None
    p2p_link: Literal["nvlink", "pcie"] | None = None
    d2h: int | None = None
    h2d: int | None = None
    p2p_bandwidth: int | None = None
    link_latency: int | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


_P3 = _P4 = "Amazon EC2 User Guide, accelerated computing instances (2020)"
_P4DE = "Amazon EC2 P4 instances, product page (2022)"
_P5 = "Amazon EC2 P5 instances, product page (2024)"
_DGX_A100 = "NVIDIA DGX A100 datasheet (2021), 640 GB"
_DGX_A100_UPLINK = (
    "NCCL's topology of a DGX A100: PCIe 4.0 x16 from a switch up (NVIDIA/nccl#1505, 2024), of which one GPU's copies "
    "reach 24.8 GB/s (NVIDIA/nvbandwidth#53, 2025)"
)
_DGX_H100 = "NVIDIA DGX H100/H200 User Guide, component descriptions (2024)"
_DGX_B200 = "NVIDIA DGX B200 User Guide, component descriptions (2025)"
_EFA = "latency that AWS's plugin tells NCCL (aws/aws-ofi-nccl, src/platform-aws.cpp, 2026)"
_NCCL = (
    "NCCL's constants for a send of one step over the network (NVIDIA/nccl, src/graph/tuning.cc, baseLatencies and "
    "hwLatencies, 2026)"
)
_CASCADE_LAKE = (
    "two Xeon 8275CL (AWS blog, Amazon EC2 P4d instances deep dive, 2020), six channels of DDR4-2933 each (Intel, "
    "second generation Xeon Scalable, 2019): 2 x 6 x 2933 MT/s x 8 B"
)
_MILAN = (
    "two EPYC of the third generation (Amazon EC2 P5 instances, product page, 2024), eight channels of DDR4-3200 each "
    "(AMD EPYC 7003 datasheet, 2021): 2 x 8 x 3200 MT/s x 8 B"
)
_ROME = "two EPYC 7742, eight channels of DDR4-3200 each (AMD EPYC 7002 datasheet, 2019): 2 x 8 x 3200 MT/s x 8 B"
_SAPPHIRE_RAPIDS = (
    "two Xeon of the fourth generation (Amazon EC2 P5 instances, product page, 2024), eight channels of DDR5-4800 each "
    "(Intel, fourth generation Xeon Scalable, 2023): 2 x 8 x 4800 MT/s x 8 B"
)
_8480C = (
    "two Xeon 8480C, eight channels each with two modules, at DDR5-4400 (Intel, specifications of the Xeon 8480C, "
    "2023): 2 x 8 x 4400 MT/s x 8 B"
)
_8570 = (
    "two Xeon 8570, eight channels each with two modules, at DDR5-4400 (Intel, specifications of the Xeon 8570, 2023): "
    "2 x 8 x 4400 MT/s x 8 B"
)


def _p4_link(instance: str) -> str:
    return (
        f"PCIe 3.0 x16 (aws/aws-ofi-nccl, topology/{instance}-24xl-topo.xml, 2023: 8 GT/s), of whose 15.75 GB/s NCCL "
        "counts 12 (src/graph/topo.cc, 2026)"
    )


def _p4_topology(instance: str) -> str:
    return (
        "two GPUs and one card of 100 Gbit/s behind each switch "
        f"(aws/aws-ofi-nccl, topology/{instance}-24xl-topo.xml, 2023)"
    )


_P5_LINK = (
    "EPYC processors of the third generation have PCIe 4.0 (AMD EPYC 7003 datasheet, 2021): an A100's copies over "
    "PCIe 4.0 x16 (NVIDIA/nvbandwidth#53, 2025)"
)
_P5_TOPOLOGY = "one GPU and four cards behind each switch (aws/aws-ofi-nccl, topology/p5.48xl-topo.xml, 2023)"
_P5_NETWORK = "four cards of 100 Gbit/s for each GPU (aws/aws-ofi-nccl, topology/p5.48xl-topo.xml, 2023)"


MACHINES: dict[str, Machine] = {
    "p3.16xlarge": Machine(
        preset="v100-sxm2-16gb",
        gpus_per_host=8,
        host_memory=488 * GIB,
        network_bandwidth=3_125_000_000,
        sources={
            "preset": _P3,
            "gpus_per_host": _P3,
            "host_memory": _P3,
            "network_bandwidth": f"{_P3}: 25 Gbit/s",
        },
    ),
    "p3dn.24xlarge": Machine(
        preset="v100-sxm2-32gb",
        gpus_per_host=8,
        host_memory=768 * GIB,
        network_bandwidth=12_500_000_000,
        network_latency=150 * US,
        sources={
            "preset": _P3,
            "gpus_per_host": _P3,
            "host_memory": _P3,
            "network_bandwidth": f"{_P3}: 100 Gbit/s",
            "network_latency": _EFA,
        },
    ),
    "p4d.24xlarge": Machine(
        preset="a100-sxm-40gb",
        gpus_per_host=8,
        gpus_per_switch=2,
        uplink_d2h=12 * GB,
        uplink_h2d=12 * GB,
        host_memory=1152 * GIB,
        host_memory_bandwidth=281_568_000_000,
        network_bandwidth=50 * GB,
        gpu_network_bandwidth=12_500_000_000,
        gpus_per_nic=2,
        network_latency=75 * US,
        d2h=12 * GB,
        h2d=12 * GB,
        sources={
            "preset": _P4,
            "gpus_per_host": _P4,
            "gpus_per_switch": _p4_topology("p4d"),
            "uplink_d2h": _p4_link("p4d"),
            "uplink_h2d": _p4_link("p4d"),
            "host_memory": _P4,
            "host_memory_bandwidth": _CASCADE_LAKE,
            "network_bandwidth": f"{_P4}: 4 x 100 Gbit/s",
            "gpu_network_bandwidth": _p4_topology("p4d"),
            "gpus_per_nic": _p4_topology("p4d"),
            "network_latency": _EFA,
            "d2h": _p4_link("p4d"),
            "h2d": _p4_link("p4d"),
        },
    ),
    "p4de.24xlarge": Machine(
        preset="a100-sxm-80gb",
        gpus_per_host=8,
        gpus_per_switch=2,
        uplink_d2h=12 * GB,
        uplink_h2d=12 * GB,
        host_memory=1152 * GIB,
        host_memory_bandwidth=281_568_000_000,
        network_bandwidth=50 * GB,
        gpu_network_bandwidth=12_500_000_000,
        gpus_per_nic=2,
        network_latency=75 * US,
        d2h=12 * GB,
        h2d=12 * GB,
        sources={
            "preset": _P4DE,
            "gpus_per_host": _P4DE,
            "gpus_per_switch": _p4_topology("p4de"),
            "uplink_d2h": _p4_link("p4de"),
            "uplink_h2d": _p4_link("p4de"),
            "host_memory": _P4DE,
            "host_memory_bandwidth": f"processors as a p4d.24xlarge's: {_CASCADE_LAKE}",
            "network_bandwidth": f"{_P4DE}: 400 Gbit/s",
            "gpu_network_bandwidth": _p4_topology("p4de"),
            "gpus_per_nic": _p4_topology("p4de"),
            "network_latency": _EFA,
            "d2h": _p4_link("p4de"),
            "h2d": _p4_link("p4de"),
        },
    ),
    "p5.48xlarge": Machine(
        preset="h100-sxm",
        gpus_per_host=8,
        gpus_per_switch=1,
        host_memory=2048 * GIB,
        host_memory_bandwidth=409_600_000_000,
        network_bandwidth=400 * GB,
        gpu_network_bandwidth=50 * GB,
        network_latency=75 * US,
        d2h=24_800_000_000,
        h2d=24_800_000_000,
        sources={
            "preset": _P5,
            "gpus_per_host": _P5,
            "gpus_per_switch": _P5_TOPOLOGY,
            "host_memory": _P5,
            "host_memory_bandwidth": _MILAN,
            "network_bandwidth": f"{_P5}: 3200 Gbit/s",
            "gpu_network_bandwidth": _P5_NETWORK,
            "network_latency": _EFA,
            "d2h": _P5_LINK,
            "h2d": _P5_LINK,
        },
    ),
    "p5e.48xlarge": Machine(
        preset="h200-sxm",
        gpus_per_host=8,
        gpus_per_switch=1,
        host_memory=2048 * GIB,
        host_memory_bandwidth=409_600_000_000,
        network_bandwidth=400 * GB,
        gpu_network_bandwidth=50 * GB,
        network_latency=75 * US,
        d2h=24_800_000_000,
        h2d=24_800_000_000,
        sources={
            "preset": _P5,
            "gpus_per_host": _P5,
            "gpus_per_switch": f"taken to be a p5.48xlarge's: {_P5_TOPOLOGY}",
            "host_memory": _P5,
            "host_memory_bandwidth": _MILAN,
            "network_bandwidth": f"{_P5}: 3200 Gbit/s",
            "gpu_network_bandwidth": f"taken to be a p5.48xlarge's: {_P5_NETWORK}",
            "network_latency": _EFA,
            "d2h": _P5_LINK,
            "h2d": _P5_LINK,
        },
    ),
    "p5en.48xlarge": Machine(
        preset="h200-sxm",
        gpus_per_host=8,
        gpus_per_switch=2,
        host_memory=2048 * GIB,
        host_memory_bandwidth=614_400_000_000,
        network_bandwidth=400 * GB,
        gpu_network_bandwidth=50 * GB,
        network_latency=35 * US,
        sources={
            "preset": _P5,
            "gpus_per_host": _P5,
            "gpus_per_switch": "two GPUs and two cards behind a switch (aws/aws-ofi-nccl, src/platform-aws.cpp, 2026)",
            "host_memory": _P5,
            "host_memory_bandwidth": _SAPPHIRE_RAPIDS,
            "network_bandwidth": f"{_P5}: 3200 Gbit/s",
            "gpu_network_bandwidth": (
                "two cards of 200 Gbit/s for each GPU (aws/aws-ofi-nccl, src/nccl_ofi_net.cpp and "
                "gin/nccl_ofi_gin_gdaki_dev.h, 2026)"
            ),
            "network_latency": _EFA,
        },
    ),
    "dgx-a100": Machine(
        preset="a100-sxm-80gb",
        gpus_per_host=8,
        gpus_per_switch=2,
        uplink_d2h=24_800_000_000,
        uplink_h2d=24_800_000_000,
        host_memory=2048 * GIB,
        host_memory_bandwidth=409_600_000_000,
        network_bandwidth=200 * GB,
        gpu_network_bandwidth=25 * GB,
        network_latency=SEND_BETWEEN_HOSTS_NS,
        sources={
            "preset": _DGX_A100,
            "gpus_per_host": _DGX_A100,
            "gpus_per_switch": "nvidia-smi topo of a DGX A100: pairs of GPUs behind a switch (NVIDIA/nccl#1505, 2024)",
            "uplink_d2h": _DGX_A100_UPLINK,
            "uplink_h2d": _DGX_A100_UPLINK,
            "host_memory": f"{_DGX_A100}: 2 TB",
            "host_memory_bandwidth": _ROME,
            "network_bandwidth": f"{_DGX_A100}: 8 x 200 Gbit/s",
            "gpu_network_bandwidth": "one card of 200 Gbit/s for each GPU (NVIDIA/nccl#1505, 2024)",
            "network_latency": _NCCL,
        },
    ),
    "dgx-h100": Machine(
        preset="h100-sxm",
        gpus_per_host=8,
        gpus_per_switch=1,
        host_memory=2048 * GIB,
        host_memory_bandwidth=563_200_000_000,
        network_bandwidth=400 * GB,
        gpu_network_bandwidth=50 * GB,
        network_latency=SEND_BETWEEN_HOSTS_NS,
        sources={
            "preset": _DGX_H100,
            "gpus_per_host": _DGX_H100,
            "gpus_per_switch": (
                "nvidia-smi topo of eight H100 SXM beside two 56-core Xeon: no two GPUs behind one switch "
                "(NVIDIA/nccl#1264, 2024)"
            ),
            "host_memory": f"{_DGX_H100}: 2 TB, 32 modules",
            "host_memory_bandwidth": _8480C,
            "network_bandwidth": f"{_DGX_H100}: 8 x 400 Gbit/s",
            "gpu_network_bandwidth": f"{_DGX_H100}: one ConnectX-7 of 400 Gbit/s for each GPU",
            "network_latency": _NCCL,
        },
    ),
    "dgx-h200": Machine(
        preset="h200-sxm",
        gpus_per_host=8,
        gpus_per_switch=1,
        host_memory=2048 * GIB,
        host_memory_bandwidth=563_200_000_000,
        network_bandwidth=400 * GB,
        gpu_network_bandwidth=50 * GB,
        network_latency=SEND_BETWEEN_HOSTS_NS,
        sources={
            "preset": _DGX_H100,
            "gpus_per_host": _DGX_H100,
            "gpus_per_switch": (
                "nvidia-smi topo of eight H100 SXM beside two 56-core Xeon: no two GPUs behind one switch "
                "(NVIDIA/nccl#1264, 2024)"
            ),
            "host_memory": f"{_DGX_H100}: 2 TB, 32 modules",
            "host_memory_bandwidth": _8480C,
            "network_bandwidth": f"{_DGX_H100}: 8 x 400 Gbit/s",
            "gpu_network_bandwidth": f"{_DGX_H100}: one ConnectX-7 of 400 Gbit/s for each GPU",
            "network_latency": _NCCL,
        },
    ),
    "dgx-b200": Machine(
        preset="b200-sxm",
        gpus_per_host=8,
        gpus_per_switch=1,
        host_memory=2048 * GIB,
        host_memory_bandwidth=563_200_000_000,
        network_bandwidth=400 * GB,
        gpu_network_bandwidth=50 * GB,
        network_latency=SEND_BETWEEN_HOSTS_NS,
        sources={
            "preset": _DGX_B200,
            "gpus_per_host": _DGX_B200,
            "gpus_per_switch": (
                "nvidia-smi topo of eight B200 beside two 56-core Xeon: no two GPUs behind one switch "
                "(vllm-project/vllm#20337, 2025)"
            ),
            "host_memory": f"{_DGX_B200}: 2 TB, 32 modules",
            "host_memory_bandwidth": _8570,
            "network_bandwidth": f"{_DGX_B200}: 8 x 400 Gbit/s",
            "gpu_network_bandwidth": f"{_DGX_B200}: one ConnectX-7 of 400 Gbit/s for each GPU",
            "network_latency": _NCCL,
        },
    ),
    # Servers with these cards are of many makes: what is not the cards' own has to be written.
    "8x-l40s": Machine(
        preset="l40s",
        gpus_per_host=8,
        gpus_per_switch=4,
        p2p_link="pcie",
        sources={
            "preset": "NVIDIA L40S datasheet (2023)",
            "gpus_per_host": "ServeTheHome, a review of Supermicro's SYS-521GE-TNRT with eight L40S (2023)",
            "gpus_per_switch": "ServeTheHome, a review of Supermicro's SYS-521GE-TNRT (2023): two PCIe switches",
            "p2p_link": "NVIDIA L40S datasheet (2023): no NVLink",
        },
    ),
    "2x-rtx-4090": Machine(
        preset="rtx-4090",
        gpus_per_host=2,
        p2p_link="pcie",
        sources={
            "preset": "NVIDIA Ada GPU architecture, white paper (2023)",
            "gpus_per_host": "by its name, a workstation with two cards; NVIDIA/nccl#814 (2023) has six",
            "p2p_link": "NVIDIA Ada GPU architecture, white paper (2023): no NVLink",
        },
    ),
}


def find_machine(name: str) -> str | None:
    """Return the catalogue's name of a machine; None where it has none of this name.

    SageMaker's prefix ``ml.``, capital letters and other signs between the parts make no difference, and an instance's
    size may be left out: "ml.p4d.24xlarge", "P4D" and "dgx_h100" are understood.
    """
    return _spellings().get(_letters(name))


def allowed_machines(name: object) -> str:
    """Return what to write in place of a name that is no machine's: the nearest spelling, and all that there are."""
    near = nearest_machine(name) if isinstance(name, str) else None
    meant = f"did you mean {near}? It" if near is not None else "it"
    return f"{meant} must be one of {', '.join(MACHINES)}"


def nearest_machine(name: str) -> str | None:
    """Return the machine of the catalogue whose name is spelled most like this one; None where none is."""
    known = _spellings()
    close = difflib.get_close_matches(_letters(name), known, n=1)
    return known[close[0]] if close else None


def _spellings() -> dict[str, str]:
    """Return each machine by the letters of its name, whole and without its size."""
    families = {_letters(each.partition(".")[0]): each for each in MACHINES if "." in each}
    return families | {_letters(each): each for each in MACHINES}


def _letters(name: str) -> str:
    """Return the letters and digits that tell machines apart."""
    return "".join(sign for sign in name.strip().casefold().removeprefix("ml.") if sign.isalnum())
