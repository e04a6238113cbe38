"""A pipeline order is, for each rank, the sequence of stage passes that it runs."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from numba import njit

# Each row is a pass: (backward, stage, microbatch). The planner cuts a pass into one task per unit.
Passes = npt.NDArray[np.int32]


class PipelineOrder(Protocol):
    """Makes the sequence of passes of one rank, shape (passes, 3).

    ``active`` is the cap on microbatches in flight, at most ``microbatches``. Every microbatch must pass forward and
    then backward exactly once, and the ranks' sequences together must not wait for each other in a circle.
    """

    def __call__(self, rank: int, ranks: int, microbatches: int, active: int) -> Passes:
        """Return the passes of one rank, shape (passes, 3)."""
        ...


@njit(cache=True)
def eager_forward(stage, microbatches, in_flight):  # type: ignore[no-untyped-def]
    """Run forwards while fewer than ``in_flight`` microbatches wait for their backward, else a backward; both FIFO."""
    out = np.empty((2 * microbatches, 3), dtype=np.int32)
    forwards = at = 0
    for backwards in range(microbatches):
        while forwards < microbatches and forwards - backwards < in_flight:
            out[at, 0], out[at, 1], out[at, 2] = 0, stage, forwards
            forwards += 1
            at += 1
        out[at, 0], out[at, 1], out[at, 2] = 1, stage, backwards
        at += 1
    return out
