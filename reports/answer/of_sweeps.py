"""Says what a sweep decides: the chosen point beside the best that keeps all, and its neighbours on the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from loadahead.reports.pareto import front_of
from loadahead.reports.run_data import RunData
from loadahead.sim.choice import Choice, axes_text, choices, gpu_ns_per_microbatch, varying_axes
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import SweepRow, bytes_missing
from loadahead.sim.units import counted, format_bytes, format_change, parse_bytes

# Of more models than this the first are told.
MOST_MODELS = 8


def sweep_answer(data: RunData) -> list[str]:
    """Return which point is chosen and what is beside it; of several models, which are not compared, each one's."""
    chosen = choices(data.sweep, model_axes=data.model_axes)
    if len(chosen) > 1:
        more = len(chosen) - MOST_MODELS
        told = [choice.sentence for choice in chosen[:MOST_MODELS]]
        return [*told, *([f"... and {counted(more, 'more model')}."] if more > 0 else [])]
    (choice,) = chosen
    if not choice.fits:
        return [choice.sentence]
    tables = {} if data.facts is None else data.facts.tables
    return [choice.sentence, *beside(data.sweep, choice, tables.get("offload", {}))]


def beside(rows: Sequence[SweepRow], choice: Choice, offload: Mapping[str, Any]) -> list[str]:
    """Return sentences on the fastest point that keeps all, the next leaner one, and the next faster one.

    ``offload`` has the budgets of points that were tuned, where they are no axes. A point that misses its own is no
    answer to anybody, and is left out.
    """
    axes, own = varying_axes(rows), choice.row
    rows = [row for row in rows if keeps_budget(row, offload)]
    keeping = [row for row in rows if not row.offloaded and row.fits]
    lines = []
    if own.offloaded and keeping:
        best = min(keeping, key=lambda row: (gpu_ns_per_microbatch(row), row.peak_device_bytes))
        lines.append(f"The best that keeps all ({axes_text(best, axes)}): {_beside(best, own)}.")
    on_front = [rows[place] for place in reversed(front_of(rows))]
    leaner = [row for row in on_front if row.peak_device_bytes < own.peak_device_bytes]
    faster = [row for row in on_front if gpu_ns_per_microbatch(row) < gpu_ns_per_microbatch(own)]
    if leaner:
        lines.append(f"The next leaner ({axes_text(leaner[-1], axes)}): {_beside(leaner[-1], own)}.")
    if faster:
        lines.append(f"The next faster ({axes_text(faster[0], axes)}): {_beside(faster[0], own)}.")
    return lines


def keeps_budget(row: SweepRow, offload: Mapping[str, Any]) -> bool:
    """Return whether a point keeps its budgets: those of its axes, or else of ``offload``; only tuned ones have any."""
    if not row.is_tuned:
        return True
    for key, taken in (
        ("memory", row.peak_device_bytes),
        ("boundary_memory", row.peak_boundary_bytes),
        ("host_memory", row.host_bytes),
    ):
        budget = row.axes.get(f"offload.{key}", offload.get(key))
        # Whatever else a table that somebody edited has there is no budget.
        with suppress(InputError):
            if budget is not None and bytes_missing(taken, parse_bytes(budget)):
                return False
    return True


def _beside(row: SweepRow, own: SweepRow) -> str:
    """Return a row's memory and how much longer its GPUs take for a microbatch than the chosen row's."""
    time = gpu_ns_per_microbatch(own)
    slower = format_change(gpu_ns_per_microbatch(row) / time - 1) if time else "as much"
    return f"{format_bytes(row.peak_device_bytes)} of device memory, GPU time per microbatch {slower}"
