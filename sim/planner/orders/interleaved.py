"""1F1B runs, after a warm-up, one backward for each forward, so that stage s of p holds min(m, p-s) microbatches.

Narayanan et al., "PipeDream" / "Memory-Efficient Pipeline-Parallel DNN Training" (2021); smp calls it
``interleaved``. Its bubble fraction is GPipe's, (p-1)/(m+p-1).
"""

from __future__ import annotations

from loadahead.sim.planner.orders.base import Passes, eager_forward


def interleaved(ranks: int, microbatches: int, active: int) -> list[Passes]:
    """Return the passes of each rank, which runs the stage of its own number."""
    return [eager_forward(rank, microbatches, min(ranks - rank, active)) for rank in range(ranks)]
