"""Costs where links are emulated: bandwidths are given, and the host has issued a step before its clock starts."""

from __future__ import annotations

from collections.abc import Sequence

from loadahead.executor.backends import Measured
from loadahead.executor.calibration.measurements import Direction, Found, latency
from loadahead.executor.calibration.samples import ready_to_end
from loadahead.executor.links import CONFIGURED, Hardware
from loadahead.sim.ir.kinds import SEND_KINDS, Kind
from loadahead.sim.ir.plan import Plan


def find_emulated(plan: Plan, runs: Sequence[Measured], hardware: Hardware) -> Found:
    """Every operation from the end of what it waits for to its own, and what transfers take beyond their bytes."""
    times = ready_to_end(plan, runs)
    d2h, d2h_evidence = latency(plan, times, (Kind.OFFLOAD,), hardware.d2h_bandwidth, hardware.d2h_latency_ns)
    h2d, h2d_evidence = latency(plan, times, (Kind.PREFETCH,), hardware.h2d_bandwidth, hardware.h2d_latency_ns)
    p2p, p2p_evidence = latency(plan, times, tuple(SEND_KINDS), hardware.p2p_bandwidth, hardware.p2p_latency_ns)
    return Found(
        times=times,
        d2h=Direction(bandwidth=hardware.d2h_bandwidth, latency_ns=d2h),
        h2d=Direction(bandwidth=hardware.h2d_bandwidth, latency_ns=h2d),
        p2p_latency_ns=p2p,
        p2p_bandwidth=hardware.p2p_bandwidth,
        memory_bytes=hardware.memory_bytes,
        evidence={
            CONFIGURED: hardware.to_dict(),
            "latencies": {"d2h": d2h_evidence, "h2d": h2d_evidence, "p2p": p2p_evidence},
        },
    )
