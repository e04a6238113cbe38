"""A roofline says how long work takes on one GPU: matrix products by their FLOPs, all else by the bytes that it moves.

Williams et al., "Roofline: An Insightful Visual Performance Model for Multicore Architectures" (2009). No product
reaches a GPU's peak; the share that it does reach grows with its size (scenarios/catalogue/hardware.py has curves).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from math import ceil, log2

from loadahead.sim.errors import InputError

NANOSECONDS = 1_000_000_000
# Points of FLOPs and the share of the peak that a product of so many reaches, by rising FLOPs.
Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Says what a GPU's kernels reach of its peaks.

    Attributes:
        products: the share of the peak that a matrix product of so many FLOPs reaches.
        memory_share: the share of the memory's bandwidth that kernels reach which move bytes.
        start_ns: what each such kernel takes beside its bytes.
        source: where these figures come from.
    """

    products: Curve
    memory_share: float
    start_ns: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Says how fast one GPU computes: the part of ``[hardware]`` that a model's times follow from.

    Attributes:
        flops: the GPU's peak; None: not given.
        efficiency: one share of the peak that whole layers reach; nothing beside FLOPs takes time then. None: times
            follow from what kernels reach.
        memory_bandwidth: the GPU's own memory's; None: not given, so that bytes take no time.
        kernels: what this GPU's kernels reach.
    """

    flops: int | None
    efficiency: float | None
    memory_bandwidth: int | None
    kernels: Kernels

    def products_ns(self, flops: int, each: int) -> int:
        """Return how long matrix products of so many FLOPs together take, in ns, when one product has ``each``.

        Raise InputError where neither a GPU's FLOPs nor a preset are given.
        """
        if self.flops is None:
            raise InputError(
                'hardware.flops is missing; write flops = "989 TFLOP/s", or preset = one of the catalogue\'s GPUs, or '
                "machine, e.g. p4d.24xlarge"
            )
        share = self.efficiency if self.efficiency is not None else share_of_peak(self.kernels.products, each)
        return -(-flops * NANOSECONDS // max(1, int(self.flops * share)))

    def moved_ns(self, nbytes: int, kernels: int = 1) -> int:
        """Return how long kernels take that read and write so many bytes together, in ns.

        They take none beside a written efficiency, which is that of whole layers.
        """
        if self.efficiency is not None or not self.memory_bandwidth or not nbytes:
            return 0
        return (
            ceil(nbytes * NANOSECONDS / (self.memory_bandwidth * self.kernels.memory_share))
            + kernels * self.kernels.start_ns
        )

    def streamed_ns(self, nbytes: int) -> int:
        """Return how long it takes to read and write so many bytes in large pieces, in ns, as an optimizer does."""
        if not self.memory_bandwidth:
            return 0
        return -(-nbytes * NANOSECONDS // self.memory_bandwidth)


def share_of_peak(curve: Curve, flops: int) -> float:
    """Return the share of the peak that a product of so many FLOPs reaches; between points by the logarithm."""
    at = bisect_right(curve, (flops, 2.0))
    if at == 0:
        return curve[0][1]
    if at == len(curve):
        return curve[-1][1]
    (low, first), (high, last) = curve[at - 1], curve[at]
    return first + (last - first) * (log2(flops) - log2(low)) / (log2(high) - log2(low))
