"""Draws what a value of an axis costs and saves: time and peak device memory, a panel per value of other axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadahead.reports.axis_names import capital
from loadahead.reports.plots.axis_lines import draw, draw_legend, files_of, label_axis, title
from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.sheet import capacity_line, common_scale, in_lines, is_wide, limits, sheet
from loadahead.reports.plots.style import byte_scale, styled, time_scale
from loadahead.reports.plots.ticks import plain_ticks
from loadahead.reports.run_data import RunData
from loadahead.reports.views import axis as view
from loadahead.reports.views.axis import AxisPanel, AxisPoint, AxisView, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_LABEL = 22


def _time(point: AxisPoint) -> float:
    return point.timed_ns


def _memory(point: AxisPoint) -> float:
    return float(point.peak_device_bytes)


@styled()
def axis_time_memory(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw predicted lines and measured diamonds; every panel has scales of its own."""
    found = view.of(data)
    if isinstance(found, Missing):
        return found
    panels = found.panels
    if layout is Layout.WIDE:
        figure, grid = sheet(layout, 4.6, 2, len(panels))
        pairs = [(grid[0][column], grid[1][column]) for column in range(len(panels))]
        beside = len(panels)
    else:
        figure, grid = sheet(layout, 0.7 + 3.6 * len(panels), 2 * len(panels), 1)
        pairs = [(grid[2 * place][0], grid[2 * place + 1][0]) for place in range(len(panels))]
        beside = 1
    times = common_scale([_largest(panel, _time) for panel in panels], time_scale)
    sizes = common_scale([_largest(panel, _memory) for panel in panels], byte_scale)
    lows: list[float] = []
    for place, (panel, (time, memory)) in enumerate(zip(panels, pairs, strict=True)):
        lows.append(_fill(time, panel, _time, found, times[place][0])[0])
        low, high = _fill(memory, panel, _memory, found, sizes[place][0])
        lows.append(low)
        if panel.capacity_bytes is not None:
            capacity_line(memory, panel.capacity_bytes, sizes[place][0], low, high)
        for axes in (time, memory):
            label_axis(axes, panel, layout, beside)
        title(time, panel, layout, beside)
        time.tick_params(labelbottom=False)
        memory.set_xlabel(found.axis_label)
        _label(time, found.time.name, times, place, beside)
        _label(memory, "peak device memory" if layout is Layout.WIDE else "peak memory", sizes, place, beside)
    draw_legend(figure, layout, found)
    return Drawing(
        figure=figure, title=_title(found), caption=" ".join(_sentences(found, all(lows))), files=files_of(found)
    )


def _label(axes: Axes, name: str, units: Sequence[tuple[float, str]], place: int, beside: int) -> None:
    """Name what is drawn and its unit, at the left alone where one unit serves all panels of a row."""
    if beside == 1 or place == 0:
        # An axis is half a figure high, and its label no longer than that.
        axes.set_ylabel("\n".join(in_lines(f"{name} ({units[place][1]})", _LABEL)))
    elif units[place] != units[0]:
        axes.set_ylabel(units[place][1])


def _largest(panel: AxisPanel, value: Value) -> float:
    return max(value(point) or 0.0 for point in panel.points)


def _fill(axes: Axes, panel: AxisPanel, value: Value, found: AxisView, scale: float) -> tuple[float, float]:
    """Draw one value of a panel and return the limits of its axis."""
    draw(axes, panel, value, scale, found.labels)
    values = [(value(point) or 0.0) / scale for point in panel.points]
    low, high = limits(values)
    if is_wide(values):
        low, high = min(values) / 1.3, max(values) * 1.3
        axes.set_yscale("log")
        plain_ticks(axes.yaxis, low, high)
    axes.set_ylim(low, high)
    return low, high


def _title(found: AxisView) -> str:
    return f"{capital(found.time.name)} and peak memory against the {found.axis_label}"


def _sentences(found: AxisView, above_zero: bool) -> list[str]:
    each, several = "Every panel has axes of its own", len(found.panels) > 1
    own = {(True, True): [f"{each}, which do not start at zero."], (True, False): [f"{each}."]}
    alone = ["The axes do not start at zero."] if above_zero else []
    time = [found.time.sentence] if found.time.sentence else []
    axes = own.get((several, above_zero), alone)
    return [*found.sentences, *axes, *time, *found.marks, *found.measured_sentence, *found.notes]
