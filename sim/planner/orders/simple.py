"""GPipe: all forwards, then all backwards, microbatches in the same order both ways.

Huang et al., "GPipe" (2019); smp calls it ``simple``. Its bubble fraction is (p-1)/(m+p-1) and every stage holds
m microbatches. The backward order is first in, first out, as in ``torch.distributed.pipelining.ScheduleGPipe``.
"""

from __future__ import annotations

from loadahead.sim.planner.orders.base import Passes, eager_forward


def simple(rank: int, ranks: int, microbatches: int, active: int) -> Passes:
    """One stage per rank. A cap on active microbatches turns into as many forwards as it allows, then one of each."""
    del ranks
    return eager_forward(rank, microbatches, active)  # type: ignore[no-any-return]
