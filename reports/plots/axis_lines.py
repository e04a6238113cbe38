"""Draws lines of a sweep against an axis, with measured diamonds, rings and crosses, and labels the axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadahead.reports import run_directory
from loadahead.reports.plots.base import Layout
from loadahead.reports.plots.sheet import legend, shortened, slanted, wrapped
from loadahead.reports.plots.style import CHOSEN, MEASURED, QUIET, SERIES, light_grid
from loadahead.reports.views.axis import PREDICTED, AxisLine, AxisPanel, AxisPoint, AxisView, Scale, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Ticks that a panel has room for, by how many panels stand beside each other.
_TICKS = {Layout.WIDE: 16, Layout.NARROW: 8}
# The characters of all its ticks' labels together.
_LONGEST = 16
_TICK_TEXT = {Layout.WIDE: 90, Layout.NARROW: 34}
_MISFIT: dict[str, Any] = {"linestyle": "none", "marker": "x", "markersize": 7, "color": QUIET}


def draw(axes: Axes, panel: AxisPanel, value: Value, scale: float, labels: list[str]) -> None:
    """Draw a value of the panel's points: lines with dots predicted, diamonds measured; the chosen one has a ring."""
    # Lines that lie on each other stay visible when the later ones are thinner.
    for line in panel.lines:
        place = labels.index(line.label)
        axes.plot(
            *_points(line.points, value, scale),
            color=SERIES[place],
            label=line.label,
            marker="o",
            linestyle="none" if panel.scale is Scale.CATEGORIES else "-",
            markersize=(6 if panel.scale is Scale.CATEGORIES else 3.4) - 0.3 * place,
            linewidth=max(2.2 - 0.4 * place, 0.8),
            zorder=2 + place,
        )
        _marks(axes, line, value, scale)
    places, values = _points(panel.measured, value, scale)
    if places:
        axes.plot(
            places,
            values,
            linestyle="none",
            marker="D",
            markersize=5,
            markerfacecolor="none",
            markeredgecolor=MEASURED,
            markeredgewidth=1.3,
            label="measured",
            zorder=9,
            clip_on=False,
        )
    light_grid(axes)


def _marks(axes: Axes, line: AxisLine, value: Value, scale: float) -> None:
    looks: tuple[tuple[list[AxisPoint], dict[str, Any]], ...] = (
        ([point for point in line.points if not point.fits], _MISFIT),
        ([point for point in line.points if point.chosen], CHOSEN),
    )
    for points, look in looks:
        places, values = _points(points, value, scale)
        if places:
            axes.plot(places, values, zorder=8, label="_", **look)


def _points(points: tuple[AxisPoint, ...] | list[AxisPoint], value: Value, scale: float) -> Any:
    """Return places and scaled values of the points that have one."""
    known = [(point.place, number) for point in points if (number := value(point)) is not None]
    return [place for place, _ in known], [number / scale for _, number in known]


def label_axis(axes: Axes, panel: AxisPanel, layout: Layout, beside: int) -> None:
    """Label values of the axis, as many as there is room for beside so many panels, and leave a margin."""
    places = sorted(panel.ticks)
    longest = min(max(len(text) for text in panel.ticks.values()), _LONGEST) + 2
    room = min(_TICKS[layout] // beside, _TICK_TEXT[layout] // beside // longest)
    shown = places if panel.scale is Scale.CATEGORIES else places[:: -(-len(places) // max(2, min(8, room)))]
    low, high = places[0], places[-1]
    if panel.scale is Scale.RATIOS:
        axes.set_xscale("log", base=2)
        axes.minorticks_off()
        axes.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.05)
    else:
        margin = max((high - low) * 0.05, 0.5 if low == high or panel.scale is Scale.CATEGORIES else 0.0)
        axes.set_xlim(low - margin, high + margin)
    axes.set_xticks(shown, [shortened(panel.ticks[place], _LONGEST) for place in shown])
    if panel.scale is Scale.CATEGORIES and len(shown) * longest > _TICK_TEXT[layout] // beside:
        slanted(axes)


def draw_legend(figure: Figure, layout: Layout, found: AxisView) -> None:
    """Draw one legend above everything, each line's label once."""
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    for axes in figure.axes:
        artists, labels = axes.get_legend_handles_labels()
        for artist, label in zip(artists, map(str, labels), strict=True):
            handles.setdefault(label if label in (PREDICTED, "measured") else f"predicted: {label}", artist)
    every = [point for panel in found.panels for point in panel.points]
    if "measured" in handles:
        handles["measured"] = handles.pop("measured")
    if any(point.chosen for point in every):
        handles["chosen"] = Line2D([], [], **CHOSEN)
    if not all(point.fits for point in every):
        handles["does not fit"] = Line2D([], [], **_MISFIT)
    legend(figure, layout, handles)


def files_of(found: AxisView) -> tuple[str, ...]:
    """Return the files of a run directory that the points are from."""
    swept = (run_directory.SWEEP_CSV,) if found.swept else ()
    return (*swept, *((run_directory.HORIZONS,) if not found.swept or found.measured_sentence else ()))


def title(axes: Axes, panel: AxisPanel, layout: Layout, beside: int) -> None:
    """Write the panel's title over it."""
    axes.set_title(wrapped(panel.title, layout, beside))
