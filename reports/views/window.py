"""Chooses the part of a long step that is shown in full: a stretch of its steady state."""

from __future__ import annotations

import numpy as np

from loadahead.sim.ir.plan import Ints
from loadahead.sim.timeline import Timeline


def steady_window(timeline: Timeline, most: int) -> tuple[int, int]:
    """Return (start, end) in ns of the longest stretch around the step's middle that meets at most ``most`` operations.

    The whole step comes back where it has no more than that.
    """
    start, end = int(timeline.start_ns.min(initial=0)), int(timeline.end_ns.max(initial=0))
    room = half_window(timeline.start_ns, timeline.end_ns, (start + end) // 2, most)
    return (start, end) if room is None else around((start, end), room)


def half_window(start_ns: Ints, end_ns: Ints, middle: int, most: int) -> int | None:
    """Return how far a stretch may reach to both sides of ``middle`` to meet at most ``most`` spans; None: any far.

    Both arrays have shape (spans,). Where more than that lie at the middle itself, 1 comes back.
    """
    if len(start_ns) <= most:
        return None
    away = np.maximum(np.maximum(start_ns - middle, middle - end_ns), 0)
    return max(1, int(np.partition(away, most)[most]))


def around(whole: tuple[int, int], half: int) -> tuple[int, int]:
    """Return the stretch around the middle of ``whole`` that reaches ``half`` to both sides, and no further."""
    middle = (whole[0] + whole[1]) // 2
    return max(whole[0], middle - half), min(whole[1], middle + half)
