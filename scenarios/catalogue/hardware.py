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
from loadahead.scenarios.roofline import Curve, Kernels

GB, TERA = 10**9, 10**12
MIB, GIB = 2**20, 2**30


def _squares(peak: int, reached: Mapping[int, float]) -> Curve:
    """Return the share of a peak that products of two square matrices reach, from their TFLOP/s by the side."""
    return tuple((2 * side**3, tflops * TERA / peak) for side, tflops in sorted(reached.items()))


# 65,536 numbers times a constant, 8 bytes each: 196.343 GB/s, so 2.67 us, and as much for four times as many.
_START_NS = 2_700
_START = "a short kernel's time in PyTorch on an RTX 4090 (mli/transformers-benchmarks#4, 2023)"
_SIMUMAX = "MooreThreads/SimuMax, configs/system"
# Attention of 4096 tokens with heads of 128, masked pairs not counted.
_AMPERE_FLASH: Curve = (
    (17 * 10**9, 0.26),
    (34 * 10**9, 0.39),
    (69 * 10**9, 0.49),
    (137 * 10**9, 0.56),
    (275 * 10**9, 0.59),
)
_AMPERE_FLASH_BACKWARD: Curve = (
    (17 * 10**9, 0.34),
    (34 * 10**9, 0.38),
    (69 * 10**9, 0.44),
    (137 * 10**9, 0.48),
    (275 * 10**9, 0.5),
)
# Squares of 1024 to 16384 rows; the widths of models in between follow an A100 PCIe's, whose products are 1.07 times as
# slow (best of all shapes: stas00/ml-engineering, compute/accelerator, MAMF, 2026).
_A100_SXM = Kernels(
    products=(
        (2 * 10**9, 0.38),
        (25 * 10**9, 0.62),
        (51 * 10**9, 0.69),
        (98 * 10**9, 0.71),
        (190 * 10**9, 0.755),
        (420 * 10**9, 0.78),
        (1100 * 10**9, 0.81),
        (8800 * 10**9, 0.82),
    ),
    flash=_AMPERE_FLASH,
    flash_backward=_AMPERE_FLASH_BACKWARD,
    memory_share=0.83,
    start_ns=_START_NS,
    step_ns=40_000,
    source=(
        "products and BabelStream's triad on an A100 SXM4 80GB (Azure/AI-benchmarking-guide, ND_A100_v4_results.md, "
        "2024); products of models' widths on an A100 PCIe times 1.07, attention and steps between products there "
        f"({_SIMUMAX}/a100_pcie.json, 2026); {_START}"
    ),
)
# Products of 4096 rows with a Llama's weights: harmonic means over FORWARD and both gradients, that of weights added up
# in float32.
_B200 = Kernels(
    products=((17 * 10**9, 0.32), (34 * 10**9, 0.49), (69 * 10**9, 0.58), (172 * 10**9, 0.57), (240 * 10**9, 0.475)),
    flash=((34 * 10**9, 0.155), (69 * 10**9, 0.289), (137 * 10**9, 0.366), (275 * 10**9, 0.436), (550 * 10**9, 0.498)),
    flash_backward=((34 * 10**9, 0.33), (69 * 10**9, 0.378), (275 * 10**9, 0.38), (550 * 10**9, 0.416)),
    memory_share=0.666,
    start_ns=_START_NS,
    step_ns=30_000,
    source=f"measured on a B200 ({_SIMUMAX}/b200_bf16_ceperm.json, 2026); {_START}",
)
# What is taken where a GPU has no figures of its own.
ANY_GPU = _A100_SXM

_MEASURED = "bfloat16 products of square matrices in PyTorch (zzc0721/torch-performance-test-data"
_FLASH_2 = "FlashAttention-2 on an H100 (Dao-AILab/flash-attention#1051, 2024)"
# The H200 is "the same" in stas00/ml-engineering's table of matrix products (2026): its chip and power are the H100's.
# Squares of 4096 and 8192 reach 789 and 798 TFLOP/s for a moment; training lasts, and power holds it back as it does
# the largest square.
_HOPPER = _squares(989 * TERA, {1024: 176.62, 2048: 676.59, 10240: 719.72})
H100 = Kernels(
    products=_HOPPER,
    flash=((4_398 * 10**9, 0.359),),
    flash_backward=((4_398 * 10**9, 0.341),),
    memory_share=0.887,  # 2.97 TB/s of 3.35
    start_ns=_START_NS,
    source=(
        f"{_MEASURED}#79, 2025); BabelStream's Triad (Azure/AI-benchmarking-guide, ND_H100_v5_results.md, 2024); "
        f"{_FLASH_2}; "
        f"{_START}"
    ),
)
H200 = Kernels(
    products=_HOPPER,
    flash=((4_398 * 10**9, 0.359),),
    flash_backward=((4_398 * 10**9, 0.341),),
    memory_share=0.865,  # 4.15 TB/s of 4.8
    start_ns=_START_NS,
    source=(
        f"an H100's {_MEASURED}#79, 2025): the chip and the power are the same; BabelStream's Triad "
        f"(Azure/AI-benchmarking-guide, ND_H200_v5_results.md, 2024); {_FLASH_2}; {_START}"
    ),
)
V100 = Kernels(
    products=_squares(125 * TERA, {1024: 57.30, 2048: 78.23, 4096: 95.73, 8192: 97.36, 10240: 89.37}),
    flash=_AMPERE_FLASH,
    flash_backward=_AMPERE_FLASH_BACKWARD,
    memory_share=0.851,  # 766 GB/s of 900
    start_ns=_START_NS,
    source=(
        "float16 products of square matrices in PyTorch (zzc0721/torch-performance-test-data#140, 2026); a copy in "
        f"PyTorch (chsasank/device-benchmarks, README.md, 2024); attention as on an A100; {_START}"
    ),
)
_ADA = {1024: 126.84, 2048: 164.81, 4096: 151.50, 8192: 160.17, 10240: 158.54}
RTX_4090 = Kernels(
    products=_squares(165 * TERA, _ADA),
    flash=((137 * 10**9, 0.916),),
    flash_backward=((137 * 10**9, 0.601),),
    memory_share=0.905,  # 912 GB/s of 1,008
    start_ns=_START_NS,
    source=(
        f"{_MEASURED}#78, 2025); a copy in PyTorch (chsasank/device-benchmarks, README.md, 2024); attention of 2048 "
        f"tokens (apache/tvm, tl_doc/flash_perf.md, 2024); {_START}"
    ),
)
# Only the best square of the L40S is published, 269.15 TFLOP/s.
L40S = Kernels(
    products=_squares(362 * TERA, {side: 269.15 * tflops / max(_ADA.values()) for side, tflops in _ADA.items()}),
    flash=((137 * 10**9, 0.681),),
    flash_backward=((137 * 10**9, 0.447),),
    memory_share=0.85,
    start_ns=_START_NS,
    source=(
        f"the best of {_MEASURED}#43, 2025), less for other sizes, and attention, as on an RTX 4090 (#78), of the same "
        "generation; "
        f"memory_share is assumed, no measurement was found; {_START}"
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """Describes one GPU and its links: bandwidths in bytes/s per direction, memory in bytes, latency in ns.

    ``flops`` counts dense bfloat16 operations per second; the V100 has no bfloat16, so its value is for float16.
    ``p2p_link`` is "pcie" where GPUs have no links of their own, so that what they send goes over their links to the
    host. ``generation`` is the GPU's, of those that NCCL tells apart. ``kernels`` says what kernels reach of these
    peaks, with a source of its own. ``sources`` says for each other
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
        kernels=H100,
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
        kernels=H200,
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
        kernels=_B200,
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
        kernels=V100,
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
        kernels=V100,
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
        kernels=L40S,
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
        kernels=RTX_4090,
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
