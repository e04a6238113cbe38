"""Draws device and host memory over time, a step plot per rank, predicted and measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.style import (
    INK,
    MEASURED,
    PREDICTED,
    QUIET,
    byte_scale,
    light_grid,
    new_figure,
    styled,
    time_scale,
)
from loadahead.reports.run_data import RunData
from loadahead.sim.timeline import MemorySamples, Timeline
from loadahead.sim.units import format_bytes, format_duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Memory over time"
MOST_RANKS = 6
# The prediction is wide and pale, the measurement above it thin and strong, so both stay visible where they agree.
_LINES: dict[str, dict[str, Any]] = {
    "predicted": {"color": PREDICTED, "linewidth": 2.8, "alpha": 0.45, "solid_joinstyle": "miter"},
    "measured": {"color": MEASURED, "linewidth": 1.1, "solid_joinstyle": "miter"},
}
# The capacity is drawn when it takes at most this many times the peak's height.
_CAPACITY_IN_SIGHT = 1.4
# Above this share of memory that never leaves, the axis starts above zero.
_RESIDENT = 0.6


def _line(memory: MemorySamples, rank: int, column: str, end_ns: int) -> tuple[list[int], list[int]]:
    """Return times and values of one rank's step plot, held until the step's end."""
    mine = memory.rank == rank
    times, values = memory.t_ns[mine].tolist(), getattr(memory, column)[mine].tolist()
    if times and times[0] > 0:
        times, values = [0, *times], [values[0], *values]
    if times and end_ns > times[-1]:
        times, values = [*times, end_ns], [*values, values[-1]]
    return times, values


def _limits(values: list[int], capacity: int | None) -> tuple[float, float, bool]:
    """Return (low, high, whether the capacity is in sight) of a byte axis, headroom for a line of text included."""
    low, high = min(values, default=0), max(values, default=0)
    shown = capacity is not None and high > 0 and capacity <= high * _CAPACITY_IN_SIGHT
    if shown and capacity is not None:
        high = max(high, capacity)
    base = 0.0 if low < _RESIDENT * high else max(low - 0.25 * (high - low), 0.0)
    if high == low or (shown and capacity is not None and capacity < base):
        base = 0.0
    return base, (base + (high - base) * 1.3) if high else 1.0, shown


def _capacity(axes: Axes, capacity: int, peak: int, scale: float, shown: bool) -> None:
    if shown:
        axes.axhline(capacity / scale, color=INK, linewidth=1, linestyle=(0, (5, 3)))
        axes.annotate(
            f"capacity {format_bytes(capacity)}",
            (0.995, capacity / scale),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
        )
    elif peak:
        axes.text(
            0.995,
            0.985,
            f"capacity {format_bytes(capacity)} is above this picture: {peak / capacity:.0%} of it used",
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=8,
            color=QUIET,
        )


def _title(what: str, peaks: dict[str, int]) -> str:
    if len(peaks) > 1 and len(set(peaks.values())) == 1:
        return f"{what}: {format_bytes(peaks['measured'])}, exactly as predicted"
    return f"{what}: " + ", ".join(f"{format_bytes(peak)} {source}" for source, peak in peaks.items())


def _panel(
    axes: Axes, sources: dict[str, Timeline], rank: int, column: str, time: float, what: str, capacity: int | None
) -> dict[str, int]:
    """Draw one rank's device or host bytes, and return the peaks by source."""
    lines = {
        name: _line(timeline.memory, rank, column, int(timeline.end_ns.max(initial=0)))
        for name, timeline in sources.items()
    }
    every = [value for _, values in lines.values() for value in values]
    low, high, shown = _limits(every, capacity)
    scale, unit = byte_scale(high)
    for name, (times, values) in lines.items():
        axes.step([t / time for t in times], [v / scale for v in values], where="post", label=name, **_LINES[name])
    peaks = {name: max(values, default=0) for name, (_, values) in lines.items()}
    if capacity is not None:
        _capacity(axes, capacity, max(peaks.values()), scale, shown)
    axes.set_ylim(low / scale, high / scale)
    axes.set_ylabel(unit if low == 0 else f"{unit} (not from 0)")
    axes.set_title(_title(what, peaks), fontsize=8.5, fontweight="normal")
    if not any(every):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not used", transform=axes.transAxes, ha="center", va="center", color=QUIET)
    axes.margins(x=0.005)
    light_grid(axes)
    return peaks


def _caption(data: RunData, sources: dict[str, Timeline], ranks: list[int], hidden: int) -> str:
    parts = ["A value holds until the next operation of the compute queue takes or frees memory."]
    if len(sources) > 1:
        parts.append(
            "The prediction is the wide pale line, the measurement the thin one: where the plan alone decides memory "
            "they lie on each other, shifted in time at most."
        )
    parts.append("Host slots count from first use to last; the pool, in the tables, is all of them together.")
    if data.capacity_bytes is not None:
        parts.append(f"Each device has {format_bytes(data.capacity_bytes)}.")
    if hidden:
        parts.append(f"{hidden} further ranks are not drawn.")
    longest = max(timeline.step_time_ns for timeline in sources.values())
    return " ".join([*parts, f"The step takes {format_duration(longest)}."] if len(ranks) > 1 else parts)


@styled()
def memory(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw each rank's device bytes to the left, host bytes to the right; the capacity where there is room for it."""
    timelines = {"predicted": data.predicted, "measured": data.measured}
    sources = {name: t for name, t in timelines.items() if t is not None and len(t.memory)}
    if not sources:
        return Missing(title=TITLE, reason="there is no timeline with memory samples")
    every = sorted({int(rank) for timeline in sources.values() for rank in np.unique(timeline.memory.rank)})
    ranks = every[:MOST_RANKS]
    figure, grid = new_figure(
        1.75 * len(ranks) + 0.75, len(ranks), 2, sharex=True, gridspec_kw={"width_ratios": [1.7, 1]}
    )
    time, unit = time_scale(max(int(t.memory.t_ns.max()) for t in sources.values()))
    for (left, right), rank in zip(grid, ranks, strict=True):
        _panel(left, sources, rank, "device_bytes", time, f"Rank {rank}, device peak", data.capacity_bytes)
        _panel(right, sources, rank, "host_bytes", time, "Host slots in use", None)
    for axes in grid[-1]:
        axes.set_xlabel(f"time since the step began ({unit})")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2)
    return Drawing(figure=figure, title=TITLE, caption=_caption(data, sources, ranks, len(every) - len(ranks)))
