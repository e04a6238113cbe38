"""GPipe runs all forwards, then all backwards, with microbatches in the same order both ways.

Huang et al., "GPipe" (2019); smp calls it ``simple``. Its bubble fraction is (p-1)/(m+p-1) and every stage holds
m microbatches. The backward order is first in, first out, as in ``torch.distributed.pipelining.ScheduleGPipe``.
"""

from __future__ import annotations

from loadahead.sim.planner.orders.base import Passes, eager_forward


def simple(ranks: int, microbatches: int, active: int) -> list[Passes]:
    """Return the passes of each rank, which runs the stage of its own number.

    Under a cap on active microbatches it runs as many forwards as the cap allows, then one backward and one forward in
    turn.
    """
    return [eager_forward(rank, microbatches, active) for rank in range(ranks)]
