"""What tuning found, in words: what leaves and what that is worth, what stays, and how far from a bound it is."""

from __future__ import annotations

from loadahead.sim.tuning.answer import Frontier, Tuning
from loadahead.sim.units import format_bytes, format_duration


def explanation(tuning: Tuning, frontier: Frontier | None = None) -> str:
    """Return the answer in sentences; those about other budgets where a frontier was made."""
    row, bound = tuning.chosen.row, tuning.bound
    took = f"The step takes {format_duration(row.step_time_ns)} in {format_bytes(row.peak_device_bytes)}"
    return f"{took}; no plan of this order takes less than {format_duration(bound.step_time_ns)}."
