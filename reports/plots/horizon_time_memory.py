"""Draws what a horizon costs and saves: step time and peak device memory, a panel per microbatch count."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.horizon_series import (
    Panel,
    draw_lines,
    horizon_axis,
    legend,
    line_labels,
    measured_sentence,
    panels,
    why_no_curve,
)
from loadahead.reports.plots.style import INK, byte_scale, new_figure, styled, time_scale
from loadahead.reports.run_data import RunData
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Step time and peak memory against the horizon"
# Differences below this share of the value are drawn small.
_LEAST_SPAN = 0.08


def _limits(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    span = max((high - low) * 1.25, high * _LEAST_SPAN, 1e-9)
    middle = (low + high) / 2
    return max(middle - span / 2, 0.0), middle + span / 2


def _step_time(row: SweepRow) -> int:
    return row.step_time_ns


def _peak(row: SweepRow) -> int:
    return row.peak_device_bytes


def _largest(shown_panels: list[Panel], value: Callable[[SweepRow], int]) -> int:
    return max((value(row) for panel in shown_panels for row in panel.rows), default=0)


def _fill(
    axes: Axes,
    panel: Panel,
    value: Callable[[SweepRow], int],
    labels: list[str],
    unit: tuple[float, str],
    capacity: int | None = None,
) -> None:
    values, (scale, name) = [value(row) for row in panel.rows], unit
    draw_lines(axes, panel, value, scale, labels)
    low, high = _limits([number / scale for number in values])
    axes.set_ylim(low, high)
    axes.set_ylabel(name)
    if capacity is not None and low <= capacity / scale <= high:
        axes.axhline(capacity / scale, color=INK, linewidth=1, linestyle=(0, (5, 3)))
        axes.annotate(
            f"capacity {format_bytes(capacity)}",
            (0.99, capacity / scale),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
        )


@styled()
def horizon_time_memory(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw predicted lines and measured diamonds; a column per microbatch count, each with axes of its own."""
    shown_panels, notes = panels(data)
    reason = why_no_curve(shown_panels)
    if reason is not None:
        return Missing(title=TITLE, reason=reason)
    figure, grid = new_figure(4.6, 2, len(shown_panels))
    labels = line_labels(shown_panels)
    # A whole row has one unit, so that panels can be compared at a glance.
    times, sizes = (
        time_scale(_largest(shown_panels, _step_time)),
        byte_scale(_largest(shown_panels, _peak)),
    )
    for column, panel in enumerate(shown_panels):
        time, memory = grid[0][column], grid[1][column]
        _fill(time, panel, _step_time, labels, times)
        _fill(memory, panel, _peak, labels, sizes, data.capacity_bytes)
        for axes in (time, memory):
            horizon_axis(axes, panel)
        time.set_title(panel.title)
        time.tick_params(labelbottom=False)
        memory.set_xlabel("horizon")
    grid[0][0].set_ylabel(f"step time ({grid[0][0].get_ylabel()})")
    grid[1][0].set_ylabel(f"peak device memory ({grid[1][0].get_ylabel()})")
    legend(figure, grid)
    sentences = [
        "A longer horizon loads earlier, so it needs more memory; it pays only where the upper line falls.",
        "Where that line is flat, the shortest horizon of the flat part costs nothing and saves most.",
        "Every panel has axes of its own, which do not start at zero.",
    ]
    if any(panel.measured for panel in shown_panels):
        sentences.append(measured_sentence(data))
    return Drawing(figure=figure, title=TITLE, caption=" ".join([*sentences, *notes]))
