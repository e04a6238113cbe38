"""Finds the Pareto front of a sweep: the points that no other one beats in both speed and memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loadahead.sim.choice import gpu_ns_per_microbatch
from loadahead.sim.step_metrics import SweepRow


def pareto_front(rows: Sequence[SweepRow], places: Iterable[int]) -> tuple[int, ...]:
    """Return the places of the rows on the front, the fastest first, out of those of one model.

    A row is on it when no other one that fits takes less time per microbatch and GPU without more device memory, or
    less device memory without more time. Rows that do not fit count only where none fits; of equal ones the first.
    """
    mine = list(places)
    able = [i for i in mine if rows[i].fits] or mine
    order = sorted(able, key=lambda i: (gpu_ns_per_microbatch(rows[i]), rows[i].peak_device_bytes, i))
    front: list[int] = []
    for i in order:
        if not front or rows[i].peak_device_bytes < rows[front[-1]].peak_device_bytes:
            front.append(i)
    return tuple(front)
