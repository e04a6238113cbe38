"""The best of a sweep's rows is chosen here, by one rule, which is written in words here too."""

from __future__ import annotations

from collections.abc import Sequence

from loadahead.sim.step_metrics import SweepRow

# Step times closer than this share count as equal; of equal ones the one that needs less memory is better.
AS_FAST = 0.01
# The share in words.
WITHIN = f"{AS_FAST * 100:g} %"
RULE = (
    f"Of the plans that fit the device the fastest per microbatch counts; of those within {WITHIN} of it, the one is "
    "taken that needs the least device memory."
)
# This is said below a table in which the best row is marked.
MARKED = f"Marked: the fastest per microbatch, and within {WITHIN} of it the one that needs least device memory."


def time_per_microbatch(row: SweepRow) -> float:
    """Return the step time in ns divided by the number of microbatches.

    A microbatch is the same work in every step, so steps of different numbers of microbatches compare by it.
    """
    return row.step_time_ns / row.microbatches


def best(rows: Sequence[SweepRow], capacity_bytes: int | None) -> int | None:
    """Return the index of the best row by :data:`RULE`; None when no row fits the capacity, if one is given.

    Of rows that need the same memory, the fastest is chosen, then the one with the shortest horizon, then the first.
    """
    fits = [i for i, row in enumerate(rows) if capacity_bytes is None or row.peak_device_bytes <= capacity_bytes]
    if not fits:
        return None
    fastest = min(time_per_microbatch(rows[i]) for i in fits)
    close = [i for i in fits if time_per_microbatch(rows[i]) <= fastest * (1 + AS_FAST)]
    return min(close, key=lambda i: (rows[i].peak_device_bytes, time_per_microbatch(rows[i]), rows[i].horizon, i))
