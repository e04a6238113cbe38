"""A roofline says how long work takes on one GPU: matrix products by their FLOPs, all else by the bytes that it moves.

Williams et al., "Roofline: An Insightful Visual Performance Model for Multicore Architectures" (2009). No product
reaches a GPU's peak; the share that it does reach grows with its size (scenarios/catalogue/hardware.py has curves).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from math import ceil, log2

NANOSECONDS = 1_000_000_000
# Points of FLOPs and the share of the peak that a product of so many reaches, by rising FLOPs.
Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Says what a GPU's kernels reach of its peaks.

    Attributes:
        products: the share of the peak that a matrix product of so many FLOPs reaches.
        flash, flash_backward: that of fused attention of so many FLOPs in FORWARD, masked pairs not counted.
        memory_share: the share of the memory's bandwidth that kernels reach which move bytes.
        start_ns: what each such kernel takes beside its bytes.
        step_ns: what each step between a transformer's products takes beside its bytes, with the kernels that
            Megatron-LM has for it; where nobody measured it, the mean of an A100's and a B200's.
        source: where these figures come from.
    """

    products: Curve
    flash: Curve
    flash_backward: Curve
    memory_share: float
    start_ns: int
    step_ns: int = 35_000
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
        flops_of_16_bits: whether the peak is the catalogue's, which is that of products in 16 bits.
    """

    flops: int | None
    efficiency: float | None
    memory_bandwidth: int | None
    kernels: Kernels
    flops_of_16_bits: bool = False

    def products_ns(self, flops: int, each: int) -> int:
        """Return how long matrix products of so many FLOPs together take, in ns, when one product has ``each``.

        The GPU's FLOPs have to be given.
        """
        return self._at(flops, each, self.kernels.products)

    def flash_ns(self, flops: int) -> int:
        """Return how long fused attention of so many FLOPs takes in FORWARD, in ns."""
        return self._at(flops, flops, self.kernels.flash)

    def flash_backward_ns(self, flops: int) -> int:
        """Return how long the BACKWARD takes of fused attention with so many FLOPs in FORWARD, in ns.

        It has five products for two (Dao, "FlashAttention-2", 2023, section 4.1).
        """
        return self._at(5 * flops // 2, flops, self.kernels.flash_backward)

    def _at(self, flops: int, each: int, curve: Curve) -> int:
        if not flops:
            return 0
        assert self.flops is not None, "whoever asks has looked"
        share = self.efficiency if self.efficiency is not None else share_of_peak(curve, each)
        return -(-flops * NANOSECONDS // max(1, int(self.flops * share)))

    def moved_ns(self, nbytes: int, kernels: int = 1) -> int:
        """Return how long kernels take that read and write so many bytes together, in ns.

        They take none beside a written efficiency, which is that of whole layers.
        """
        if self.efficiency is not None or not self.memory_bandwidth or not nbytes:
            return 0
        return self.streamed_ns(nbytes) + kernels * self.kernels.start_ns

    def stepped_ns(self, nbytes: int, steps: int) -> int:
        """Return how long a transformer's steps between products take that read and write so many bytes, in ns."""
        if self.efficiency is not None or not self.memory_bandwidth or not nbytes:
            return 0
        return self.streamed_ns(nbytes) + steps * self.kernels.step_ns

    def streamed_ns(self, nbytes: int) -> int:
        """Return how long it takes to read and write so many bytes in large pieces, in ns, as an optimizer does."""
        if not self.memory_bandwidth:
            return 0
        return ceil(nbytes * NANOSECONDS / (self.memory_bandwidth * self.kernels.memory_share))


def share_of_peak(curve: Curve, flops: int) -> float:
    """Return the share of the peak that a product of so many FLOPs reaches; between points by both's logarithms."""
    at = bisect_right(curve, (flops, 2.0))
    if at == 0:
        return curve[0][1]
    if at == len(curve):
        return curve[-1][1]
    (low, first), (high, last) = curve[at - 1], curve[at]
    part = (log2(flops) - log2(low)) / (log2(high) - log2(low))
    return float(first * (last / first) ** part)
