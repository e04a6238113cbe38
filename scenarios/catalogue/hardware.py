"""Accelerators are known by name, for ``[hardware] preset``. To add one, write a row here, with its source.

Memory, compute and GPU-to-GPU bandwidth (one direction) are the vendor's, from its datasheet. A link to the host never
reaches its datasheet's bandwidth: the value here was measured with pinned memory, in one direction at a time.
Calibration measures a machine's own values, which are better than any of these.
"""

from __future__ import annotations

from dataclasses import dataclass

GB, TERA = 10**9, 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """Describes one GPU and its links: bandwidths in bytes/s per direction, memory in bytes, latency in ns.

    ``flops`` counts dense bfloat16 operations per second; the V100 has no bfloat16, so its value is for float16.
    """

    d2h: int
    h2d: int
    p2p_bandwidth: int
    memory: int
    memory_bandwidth: int
    flops: int
    link_latency: int
    source: str


# A copy takes this long from its start to its first byte. No source gives it: it is an assumed order of magnitude, to
# be calibrated.
_COPY_LATENCY_NS = 10_000
_MEASURED_GEN5 = "host link 55.6 GB/s as in NVIDIA's nvbandwidth example of an H100"
_MEASURED_GEN4 = "host link 24.8 GB/s as measured on an A100 (PCIe 4.0 x16 has 31.5 GB/s)"

ACCELERATORS: dict[str, Accelerator] = {
    "h100-sxm": Accelerator(
        d2h=55_600_000_000,
        h2d=55_600_000_000,
        p2p_bandwidth=450 * GB,
        memory=80 * GB,
        memory_bandwidth=3_350 * GB,
        flops=989 * TERA,
        link_latency=_COPY_LATENCY_NS,
        source=f"NVIDIA H100 datasheet (2023); {_MEASURED_GEN5}",
    ),
    "h200-sxm": Accelerator(
        d2h=55_600_000_000,
        h2d=55_600_000_000,
        p2p_bandwidth=450 * GB,
        memory=141 * GB,
        memory_bandwidth=4_800 * GB,
        flops=989 * TERA,
        link_latency=_COPY_LATENCY_NS,
        source=f"NVIDIA H200 datasheet (2024); {_MEASURED_GEN5}",
    ),
    "a100-sxm-80gb": Accelerator(
        d2h=24_800_000_000,
        h2d=24_800_000_000,
        p2p_bandwidth=300 * GB,
        memory=80 * GB,
        memory_bandwidth=2_039 * GB,
        flops=312 * TERA,
        link_latency=_COPY_LATENCY_NS,
        source=f"NVIDIA A100 datasheet (2021); {_MEASURED_GEN4}",
    ),
    "a100-sxm-40gb": Accelerator(
        d2h=24_800_000_000,
        h2d=24_800_000_000,
        p2p_bandwidth=300 * GB,
        memory=40 * GB,
        memory_bandwidth=1_555 * GB,
        flops=312 * TERA,
        link_latency=_COPY_LATENCY_NS,
        source=f"NVIDIA A100 datasheet (2021); {_MEASURED_GEN4}",
    ),
    "v100-sxm2-32gb": Accelerator(
        d2h=12 * GB,
        h2d=12 * GB,
        p2p_bandwidth=150 * GB,
        memory=32 * GB,
        memory_bandwidth=900 * GB,
        flops=125 * TERA,
        link_latency=_COPY_LATENCY_NS,
        source="NVIDIA V100 datasheet (2020); host link about three quarters of PCIe 3.0 x16's 15.8 GB/s",
    ),
}
