"""Says how much work a microbatch is, and so how fast a step is in the words that people compare models by."""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.sim.units import DURATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Says what one microbatch of one replica is; None: it is not known.

    Attributes:
        tokens: its sequences times their length.
        flops: of the model's own forward and backward, nothing computed twice, on all GPUs of the replica together.
        peak_flops_per_s: one GPU's peak, in the precision of the products.
    """

    tokens: int | None = None
    flops: int | None = None
    peak_flops_per_s: int | None = None

    def tokens_per_s(self, step_time_ns: int, microbatches: int, replicas: int) -> float | None:
        """Return how many tokens all GPUs together train on in a second; None where that is not known."""
        if self.tokens is None or not step_time_ns:
            return None
        return self.tokens * microbatches * replicas * DURATIONS["s"] / step_time_ns

    def mfu(self, step_time_ns: int, microbatches: int, gpus: int) -> float | None:
        """Return the model FLOPs utilization; None where that is not known. ``gpus`` are one replica's.

        It is the share of the GPUs' peak that the model's own FLOPs take, those of recomputation not counted
        (Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", 2022, section 4.1 and appendix B).
        """
        if self.flops is None or not self.peak_flops_per_s or not step_time_ns:
            return None
        possible = self.peak_flops_per_s * gpus * step_time_ns / DURATIONS["s"]
        return self.flops * microbatches / possible


NOT_COUNTED = Work()
