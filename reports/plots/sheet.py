"""Lays figures of panels out for a page or a phone, and draws what several of them have: limits, lines, legends."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from loadahead.reports.plots.base import Layout
from loadahead.reports.plots.style import INK, QUIET, new_figure
from loadahead.reports.plots.ticks import plain_ticks
from loadahead.sim.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A value's differences below this share of it are drawn small.
LEAST_SPAN = 0.08
# Values this many times apart are drawn by their ratios.
_WIDE_SPAN = 12
# The characters that stand beside each other across a figure, and those that a legend's mark takes.
_ACROSS = {Layout.WIDE: 130, Layout.NARROW: 46}
_LEGEND_MARK = 8
# The characters of all titles that stand beside each other.
_TITLES = {Layout.WIDE: 88, Layout.NARROW: 34}
_DASHES = (0, (5, 3))
_BEHIND_COMMAS = re.compile(r"(?<=[,;]) ")
# Inches around axes for what labels turn out longer than they were laid out for.
_SLACK = 0.12


def sheet(layout: Layout, height: float, rows: int, columns: int, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure as wide as the layout says, so many inches high, with a grid of axes."""
    figure, grid = new_figure(height, rows, columns, **options)
    figure.set_size_inches(layout.width_inches, height)
    # Ticks are chosen once more after axes have found their places, and their labels may then be longer.
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(w_pad=_SLACK)  # type: ignore[call-arg]
    return figure, grid


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Return where an axis of these values begins and ends."""
    low, high = min(values), max(values)
    span = max((high - low) * 1.25, high * LEAST_SPAN, 1e-9)
    middle = (low + high) / 2
    return max(middle - span / 2, 0.0), middle + span / 2


def is_wide(values: Sequence[float]) -> bool:
    """Return whether values are so far apart that the small ones would lie on each other."""
    return min(values) > 0 and max(values) > _WIDE_SPAN * min(values)


def scales(axes: Axes, across: Sequence[float], up: Sequence[float]) -> None:
    """Set both axes' limits for points at these places; values far apart stand by their ratios."""
    for values, axis, set_scale, set_limits in (
        (across, axes.xaxis, axes.set_xscale, axes.set_xlim),
        (up, axes.yaxis, axes.set_yscale, axes.set_ylim),
    ):
        if is_wide(values):
            set_scale("log")
            set_limits(min(values) / 1.3, max(values) * 1.3)
            plain_ticks(axis, min(values), max(values))
        else:
            set_limits(*limits(values))


def common_scale(largest: Sequence[float], scale_of: Callable[[float], tuple[float, str]]) -> list[tuple[float, str]]:
    """Return each panel's unit: one for all where each can be read in it, else its own."""
    common = scale_of(max(largest))
    return [common if value * 50 >= common[0] else scale_of(value) for value in largest]


def capacity_line(axes: Axes, capacity: int, scale: float, low: float, high: float) -> None:
    """Draw a device's capacity across, where it lies within these limits."""
    if not low <= capacity / scale <= high:
        return
    axes.axhline(capacity / scale, color=INK, linewidth=1, linestyle=_DASHES)
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


def in_the_middle(axes: Axes, text: str) -> None:
    """Write into axes that have nothing to show."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=QUIET)


def legend(figure: Figure, layout: Layout, handles: dict[str, Any], title: str | None = None) -> None:
    """Draw one legend above everything."""
    if not handles:
        return
    across = max(1, _ACROSS[layout] // (max(map(len, handles)) + _LEGEND_MARK))
    columns = min(len(handles), 6 if title and layout is Layout.WIDE else 4, across)
    figure.legend(
        list(handles.values()),
        list(handles),
        title=title,
        loc="outside upper left",
        alignment="left",
        ncols=columns,
    )


def shortened(text: str, most: int) -> str:
    """Return a label without its middle where it is longer than there is room for."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def slanted(axes: Axes) -> None:
    """Let labels below the axes stand on their ends, where they are too long to stand beside each other."""
    axes.tick_params(axis="x", labelrotation=35)
    for text in axes.get_xticklabels():
        text.set_horizontalalignment("right")
        text.set_rotation_mode("anchor")


def wrapped(text: str, layout: Layout, panels: int) -> str:
    """Return a panel's title in as many lines as it needs to stay within its panel."""
    return "\n".join(in_lines(text, _TITLES[layout] // panels))


def in_lines(text: str, width: int) -> list[str]:
    """Return a text in lines of so many characters; what stands between commas stays together where it has room."""
    out: list[str] = []
    for part in _BEHIND_COMMAS.split(text):
        if out and len(out[-1]) + 1 + len(part) <= width:
            out[-1] += f" {part}"
        else:
            out += textwrap.wrap(part, width)
    return out
