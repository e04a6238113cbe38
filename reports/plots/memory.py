"""Draws memory over time: what a device holds, stacked, and the host's slots beside it, of the fullest ranks."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.style import (
    INK,
    LIGHT,
    MEASURED,
    PREDICTED,
    QUIET,
    SMALL,
    byte_scale,
    legend_above,
    light_grid,
    new_figure,
    styled,
)
from loadahead.reports.plots.time_axis import TimeAxis
from loadahead.reports.run_data import RunData
from loadahead.reports.views import memory as view
from loadahead.reports.views.timelines import MEASURED as MEASURED_STEP
from loadahead.reports.views.timelines import percent
from loadahead.sim.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_RANKS = {Layout.WIDE: 3, Layout.NARROW: 2}
_MOST_POINTS = {Layout.WIDE: 300, Layout.NARROW: 140}
_LETTERS = {Layout.WIDE: (90, 48), Layout.NARROW: (42, 42)}
# From below: what stays first, what comes and goes with every operation last.
ROLES = (
    ("weights_and_optimizer", "weights, optimizer", LIGHT["weights"]),
    ("boundaries", "boundaries", LIGHT["boundaries"]),
    ("transport", "transport", LIGHT["transport"]),
    ("inside_units", "inside units", LIGHT["inside-units"]),
)
# The prediction is wide, the measurement above it thin, so both stay visible where they agree.
_LINES: dict[str, dict[str, Any]] = {
    "predicted": {"color": PREDICTED, "linewidth": 2.8, "solid_joinstyle": "miter"},
    "measured": {"color": MEASURED, "linewidth": 1.1, "solid_joinstyle": "miter"},
}
# Over its own stack a measurement is the one line, in ink.
_OVER_STACK: dict[str, Any] = {"color": INK, "linewidth": 0.9, "solid_joinstyle": "miter"}
_KEEP_ALL: dict[str, Any] = {"color": LIGHT["keep-all"], "linewidth": 1.4, "linestyle": (0, (1, 1)), "zorder": 1}
# The capacity is drawn when it takes at most this many times the peak's height.
_CAPACITY_IN_SIGHT = 1.4
# Above this share of memory that never leaves, the axis starts above zero.
_RESIDENT = 0.6


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
            fontsize=SMALL,
        )
    elif peak:
        axes.text(
            0.995,
            0.985,
            f"capacity {format_bytes(capacity)} is above this: {percent(peak, capacity)} used",
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=SMALL,
            color=QUIET,
        )


def _title(what: str, curves: Mapping[str, view.Curve]) -> str:
    peaks = {name: curve.peak for name, curve in curves.items()}
    if len(peaks) > 1 and len(set(peaks.values())) == 1:
        return f"{what}: {format_bytes(next(iter(peaks.values())))}, exactly as predicted"
    return f"{what}: " + ", ".join(f"{format_bytes(peak)} {source}" for source, peak in peaks.items())


def _step(axes: Axes, axis: TimeAxis, step: str, curve: view.Curve, scale: float, **look: Any) -> None:
    times = axis.x(step, [*curve.t_ns, curve.end_ns])
    levels = [nbytes / scale for nbytes in (*curve.nbytes, curve.nbytes[-1])]
    axes.step(times, levels, where="post", **look)


def _stack(axes: Axes, axis: TimeAxis, step: str, roles: view.RoleCurves, scale: float) -> None:
    times = axis.x(step, [*roles.t_ns, roles.end_ns])
    below = np.zeros(len(roles.t_ns) + 1)
    for name, _, colour in ROLES:
        level = np.asarray(getattr(roles, name), dtype=np.float64)
        above = below + np.append(level, level[-1]) / scale
        axes.fill_between(times, below, above, step="post", facecolor=colour, linewidth=0, zorder=2)
        below = above


def _look(rank: view.RankMemory, step: str) -> dict[str, Any]:
    """Return the look of a step's line: a measurement's is one colour in both panels, and none of the stack's."""
    return _OVER_STACK if rank.roles is not None and step == MEASURED_STEP else _LINES[step]


def _device(axes: Axes, axis: TimeAxis, rank: view.RankMemory, found: view.MemoryOverTime, letters: int) -> None:
    values = [nbytes for curve in rank.device.values() for nbytes in curve.nbytes] + [rank.peak]
    kept = rank.keep_all
    low, high, shown = _limits(values + ([] if kept is None else [kept.peak]), found.capacity_bytes)
    scale, unit = byte_scale(high)
    for step, curve in rank.device.items():
        if step == "predicted" and rank.roles is not None:
            _stack(axes, axis, step, rank.roles, scale)
        else:
            _step(axes, axis, step, curve, scale, zorder=3, **_look(rank, step))
    if kept is not None:
        _step(axes, axis, next(iter(rank.device)), kept, scale, **_KEEP_ALL)
    if found.capacity_bytes is not None:
        _capacity(axes, found.capacity_bytes, rank.peak, scale, shown)
    axes.set_ylim(low / scale, high / scale)
    axes.set_ylabel(unit if low == 0 else f"{unit} (not from 0)")
    axes.set_title(
        fill(_title(f"Rank {rank.rank}, device peak", rank.device), letters), fontsize=8.5, fontweight="normal"
    )
    light_grid(axes)


def _host(axes: Axes, axis: TimeAxis, rank: view.RankMemory, letters: int) -> None:
    values = [nbytes for curve in rank.host.values() for nbytes in curve.nbytes]
    low, high, _ = _limits(values, None)
    scale, unit = byte_scale(high)
    for step, curve in rank.host.items():
        _step(axes, axis, step, curve, scale, **_look(rank, step))
    axes.set_ylim(low / scale, high / scale)
    axes.set_ylabel(unit if low == 0 else f"{unit} (not from 0)")
    in_use = f" in use: {rank.host_in_words}" if rank.host_in_words else ""
    axes.set_title(fill(f"Rank {rank.rank}, host slots{in_use}", letters), fontsize=8.5, fontweight="normal")
    if not any(values):
        axes.set_yticks([])
        axes.set_ylabel("")
        axes.text(0.5, 0.5, "not used", transform=axes.transAxes, ha="center", va="center", color=QUIET)
    light_grid(axes)


def _legend(found: view.MemoryOverTime) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: dict[str, Any] = {}
    stacked = any(rank.roles is not None for rank in found.ranks)
    if stacked:
        for name, label, colour in ROLES:
            if any(rank.roles is not None and any(getattr(rank.roles, name)) for rank in found.ranks):
                handles[label] = Patch(facecolor=colour)
    for step in found.ends_ns:
        if stacked and step == MEASURED_STEP:
            handles[step] = Line2D([], [], **_OVER_STACK)
        else:
            handles[f"{step}, host" if stacked else step] = Line2D([], [], **_LINES[step])
    if any(rank.keep_all is not None for rank in found.ranks):
        handles[view.KEPT] = Line2D([], [], **_KEEP_ALL)
    return list(handles.values()), list(handles)


@styled()
def memory(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw each rank's device bytes by what holds them, and its host slots to the right, or below."""
    found = view.memory_over_time(data, _MOST_RANKS[layout], _MOST_POINTS[layout])
    if isinstance(found, Missing):
        return found
    wide = layout is Layout.WIDE
    count = len(found.ranks)
    rows, columns = (count, 2) if wide else (2 * count, 1)
    ratios = {"width_ratios": [1.7, 1]} if wide else {"height_ratios": [1.5, 1] * count}
    height = (2.0 if wide else 3.4) * count + (0.9 if wide else 1.5)
    figure, grid = new_figure(height, rows, columns, width=layout.width_inches, sharex=True, gridspec_kw=ratios)
    end = max([*found.ends_ns.values(), *(rank.keep_all.end_ns for rank in found.ranks if rank.keep_all is not None)])
    ends = found.ends_ns if found.own_axes else dict.fromkeys(found.ends_ns, end)
    axis = TimeAxis(spans={step: (0, ns) for step, ns in ends.items()})
    panels = [axes for row in grid for axes in row]
    for number, rank in enumerate(found.ranks):
        _device(panels[2 * number], axis, rank, found, _LETTERS[layout][0])
        _host(panels[2 * number + 1], axis, rank, _LETTERS[layout][1])
    for column in range(columns):
        axis.put(grid[0][column], grid[-1][column], not wide)
    legend_above(figure, *_legend(found))
    return Drawing(figure=figure, title=view.TITLE, caption=" ".join(found.sentences), files=found.files)
