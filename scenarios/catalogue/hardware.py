"""Accelerators are known by name, for ``[hardware] preset``. To add one, write a row here, with its figures' sources.

Memory is what the card reports, which is what programs can ask for, and not the round number of its name. Compute and
bandwidths between GPUs (one direction) are the vendor's, from its datasheet. A link to the host never reaches its
datasheet's bandwidth: the value here was measured with pinned memory, in one direction at a time, or else the source
says what share of the datasheet it is. Calibration measures a machine's own values, which are better than any of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from loadahead.scenarios.catalogue.nccl import Generation
from loadahead.scenarios.roofline import Kernels

GB, TERA = 10**9, 10**12
MIB, GIB = 2**20, 2**30


# What is taken where a GPU has no figures of its own.
ANY_GPU = Kernels(
    products=((10**9, 0.3), (16 * 10**9, 0.6), (128 * 10**9, 0.7)),
    memory_share=0.85,
    start_ns=5_000,
    source="an A100's",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """Describes one GPU and its links: bandwidths in bytes/s per direction, memory in bytes, latency in ns.

    ``flops`` counts dense bfloat16 operations per second; the V100 has no bfloat16, so its value is for float16.
    ``p2p_link`` is "pcie" where GPUs have no links of their own, so that what they send goes over their links to the
    host. ``generation`` is the GPU's, of those that NCCL tells apart. ``sources`` says for each
    figure, by its name, where it comes from.
    """

    d2h: int
    h2d: int
    p2p_bandwidth: int
    memory: int
    memory_bandwidth: int
    flops: int
    link_latency: int
    generation: Generation
    p2p_link: Literal["pcie"] | None = None
    kernels: Kernels = ANY_GPU
    sources: Mapping[str, str]


# A copy takes this long from its start to its first byte.
_COPY_LATENCY_NS = 10_000
_ASSUMED_LATENCY = "no document gives it: an assumed order of magnitude, to be calibrated"
_GEN3 = "12 GB/s of PCIe 3.0 x16's 15.75 GB/s, as NCCL counts it (src/graph/topo.h, PCI_BW, 2026)"
_GEN4 = "an A100's copies with pinned memory over PCIe 4.0 x16 (NVIDIA/nvbandwidth#53, 2025)"
_GEN5 = "an H100's copies with pinned memory over PCIe 5.0 x16 (example in NVIDIA's blog post on nvbandwidth, 2025)"


def _sources(datasheet: str, link: str, memory: str, **other: str) -> dict[str, str]:
    """Return the sources of a row's figures: its datasheet's, but for the link to the host and the memory."""
    own = {"d2h": link, "h2d": link, "memory": memory, "link_latency": _ASSUMED_LATENCY}
    return dict.fromkeys(("p2p_bandwidth", "memory_bandwidth", "flops"), datasheet) | own | other


ACCELERATORS: dict[str, Accelerator] = {
    "h100-sxm": Accelerator(
        d2h=55_600_000_000,
        h2d=55_600_000_000,
        p2p_bandwidth=450 * GB,
        memory=81_559 * MIB,
        memory_bandwidth=3_350 * GB,
        flops=989 * TERA,
        link_latency=_COPY_LATENCY_NS,
        generation="hopper",
        sources=_sources(
            "NVIDIA H100 datasheet (2023)",
            _GEN5,
            "nvidia-smi says 81559 MiB of an H100 80GB HBM3 (huggingface/text-generation-inference#2572, 2024)",
        ),
    ),
    "h200-sxm": Accelerator(
        d2h=55_600_000_000,
        h2d=55_600_000_000,
        p2p_bandwidth=450 * GB,
        memory=round(139.81 * GIB),
        memory_bandwidth=4_800 * GB,
        flops=989 * TERA,
        link_latency=_COPY_LATENCY_NS,
        generation="hopper",
        sources=_sources(
            "NVIDIA H200 datasheet (2024)",
            f"taken from {_GEN5}",
            "PyTorch says 139.81 GiB (vllm-project/vllm#34553, 2026)",
        ),
    ),
    "b200-sxm": Accelerator(
        d2h=55_600_000_000,
        h2d=55_600_000_000,
        p2p_bandwidth=900 * GB,
        memory=round(178.35 * GIB),
        memory_bandwidth=8_000 * GB,
        flops=2_250 * TERA,
        link_latency=_COPY_LATENCY_NS,
        generation="blackwell",
        sources=_sources(
            "NVIDIA DGX B200 datasheet (2024), an eighth of the system's figures",
            f"taken from {_GEN5}",
            "CUDA says 178.35 GiB (pytorch/ao#4002, 2026)",
        ),
    ),
    "a100-sxm-80gb": Accelerator(
        d2h=24_800_000_000,
        h2d=24_800_000_000,
        p2p_bandwidth=300 * GB,
        memory=round(79.25 * GIB),
        memory_bandwidth=2_039 * GB,
        flops=312 * TERA,
        link_latency=_COPY_LATENCY_NS,
        generation="ampere",
        sources=_sources(
            "NVIDIA A100 datasheet (2021)",
            _GEN4,
            "PyTorch says 79.25 GiB (levihsu/OOTDiffusion#235, 2025)",
        ),
    ),
    "a100-sxm-40gb": Accelerator(
        d2h=24_800_000_000,
        h2d=24_800_000_000,
        p2p_bandwidth=300 * GB,
        memory=round(39.50 * GIB),
        memory_bandwidth=1_555 * GB,
        flops=312 * TERA,
        link_latency=_COPY_LATENCY_NS,
        generation="ampere",
        sources=_sources(
            "NVIDIA A100 datasheet (2021)",
            _GEN4,
            "PyTorch says 39.50 GiB (TianheWu/CoSeR#10, 2025)",
        ),
    ),
    "v100-sxm2-32gb": Accelerator(
        d2h=12 * GB,
        h2d=12 * GB,
        p2p_bandwidth=150 * GB,
        memory=round(31.74 * GIB),
        memory_bandwidth=900 * GB,
        flops=125 * TERA,
        link_latency=_COPY_LATENCY_NS,
        generation="volta",
        sources=_sources(
            "NVIDIA V100 datasheet (2020)",
            _GEN3,
            "PyTorch says 31.74 GiB (liucongg/ChatGLM-Finetuning#73, 2023)",
        ),
    ),
    "v100-sxm2-16gb": Accelerator(
        d2h=12 * GB,
        h2d=12 * GB,
        p2p_bandwidth=150 * GB,
        memory=round(15.78 * GIB),
        memory_bandwidth=900 * GB,
        flops=125 * TERA,
        link_latency=_COPY_LATENCY_NS,
        generation="volta",
        sources=_sources(
            "NVIDIA V100 datasheet (2020)",
            _GEN3,
            "PyTorch says 15.78 GiB (kchengiva/Shift-GCN#34, 2021)",
        ),
    ),
    "l40s": Accelerator(
        d2h=24_800_000_000,
        h2d=24_800_000_000,
        p2p_bandwidth=24 * GB,
        memory=round(44.42 * GIB),
        memory_bandwidth=864 * GB,
        flops=362 * TERA,
        link_latency=_COPY_LATENCY_NS,
        generation="ampere",
        p2p_link="pcie",
        sources=_sources(
            "NVIDIA L40S datasheet (2023)",
            f"taken from {_GEN4}",
            "PyTorch says 44.42 GiB (stepfun-ai/Step-Video-T2V#8, 2025)",
            p2p_bandwidth="24 GB/s of PCIe 4.0 x16's 31.5 GB/s, as NCCL counts it (src/graph/topo.cc, 2026)",
            p2p_link="NVIDIA L40S datasheet (2023): PCIe 4.0 x16, no NVLink",
        ),
    ),
    "rtx-4090": Accelerator(
        d2h=24_660_000_000,
        h2d=24_660_000_000,
        p2p_bandwidth=22_200_000_000,
        memory=round(23.64 * GIB),
        memory_bandwidth=1_008 * GB,
        flops=165 * TERA,
        link_latency=_COPY_LATENCY_NS,
        generation="ampere",
        p2p_link="pcie",
        sources=_sources(
            "NVIDIA Ada GPU architecture, white paper (2023)",
            "pinned memory copied to an RTX 4090 (efeslab/fiddler#7, 2024); the way back is taken to be as fast",
            "PyTorch says 23.64 GiB (ali-vilab/VGen#104, 2024)",
            p2p_bandwidth=(
                "p2pBandwidthLatencyTest without peer access, which the driver does not give: 20.1 to 22.4 GB/s, most "
                "often 22.2 (NVIDIA/nccl#814, 2023)"
            ),
            p2p_link="NVIDIA Ada GPU architecture, white paper (2023): no NVLink",
        ),
    ),
}
