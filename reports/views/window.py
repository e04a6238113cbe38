"""Chooses the part of a long step that is shown in full: a stretch of its steady state."""

from __future__ import annotations

import numpy as np

from loadahead.sim.timeline import Timeline


def steady_window(timeline: Timeline, most: int) -> tuple[int, int]:
    """Return (start, end) in ns of the stretch around the step's middle that holds at most ``most`` operations.

    The whole step comes back where it has no more than that.
    """
    if len(timeline) <= most:
        return int(timeline.start_ns.min(initial=0)), int(timeline.end_ns.max(initial=0))
    order = np.sort(timeline.start_ns)
    first = (len(order) - most) // 2
    return int(order[first]), int(order[first + most - 1])
