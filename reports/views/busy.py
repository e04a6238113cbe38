"""Says how much of equal or unequal parts of a step is busy, by what ran in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from loadahead.sim.ir.plan import Ints


def busy_shares(start_ns: Ints, end_ns: Ints, edges_ns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the share of each part between two edges that the spans take, from 0 to 1; shape (edges - 1,).

    The spans do not overlap.
    """
    shares: npt.NDArray[np.float64] = np.diff(_busy_until(start_ns, end_ns, edges_ns)) / np.diff(edges_ns)
    return shares.clip(0, 1)


def _busy_until(start_ns: Ints, end_ns: Ints, times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how much of the spans lies before each of ``times``: it grows in a span, and stands still between two."""
    if not len(start_ns):
        return np.zeros(len(times))
    order = np.argsort(start_ns, kind="stable")
    corners = np.stack([start_ns[order], end_ns[order]], axis=1).ravel()
    level = np.zeros(len(corners), dtype=np.int64)
    level[1::2] = np.cumsum(end_ns[order] - start_ns[order])
    level[2::2] = level[1:-1:2]
    return np.interp(times, corners, level)
