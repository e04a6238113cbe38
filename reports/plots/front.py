"""Draws a sweep's points by peak memory and time: the front as a staircase, the capacity, the chosen point by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loadahead.reports import run_directory
from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.free_place import Label, corners, place_label
from loadahead.reports.plots.model_panels import label_panel, model_panels
from loadahead.reports.plots.sheet import in_lines, legend, scales
from loadahead.reports.plots.style import CHOSEN, INK, PREDICTED, QUIET, byte_scale, styled, time_scale
from loadahead.reports.run_data import RunData
from loadahead.reports.views import front as view
from loadahead.reports.views.front import FrontPanel, FrontPoint, FrontView
from loadahead.sim.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = (0, (5, 3))
_FITS, _KEPT, _MISFIT = "fits", "keeps all on the device", "does not fit"


@styled()
def front(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw a panel for each model: to the left is less memory, below is less time."""
    found = view.of(data)
    if isinstance(found, Missing):
        return found
    figure, every, columns = model_panels(layout, len(found.panels))
    panels = list(zip(every, found.panels, strict=True))
    scale = [_panel(axes, panel, found, layout, columns) for axes, panel in panels]
    legend(figure, layout, _handles(found))
    # Labels look for a free place, which is known once all else stands in its own.
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    for (axes, panel), (time, size) in zip(panels, scale, strict=True):
        _name_chosen(axes, panel, time, size, layout)
    return Drawing(
        figure=figure, title=found.title, caption=" ".join(found.sentences), files=(run_directory.SWEEP_CSV,)
    )


def _panel(axes: Axes, panel: FrontPanel, found: FrontView, layout: Layout, columns: int) -> tuple[float, float]:
    """Draw a panel and return what ns and bytes are divided by."""
    shown = panel.shown
    times, sizes = [p.timed_ns for p in shown], [float(p.peak_device_bytes) for p in shown]
    time, time_unit = time_scale(max(times))
    size, size_unit = byte_scale(max(sizes))
    on_front = {panel.points[place].index for place in panel.on_front}
    for label, points in _kinds(shown).items():
        for is_on in (False, True):
            drawn = [p for p in points if (p.index in on_front) is is_on]
            _points(axes, drawn, label, is_on, time, size)
    stairs = panel.staircase
    axes.step(
        [nbytes / size for nbytes, _ in stairs],
        [ns / time for _, ns in stairs],
        where="post",
        color=PREDICTED if panel.fitting else QUIET,
        linewidth=1.4,
        zorder=3,
    )
    scales(axes, [nbytes / size for nbytes in sizes], [ns / time for ns in times])
    _capacity(axes, panel, size)
    axes.plot(*_place(panel.points[panel.chosen], time, size), zorder=6, **CHOSEN)
    names = f"peak device memory ({size_unit})", f"{found.time.name} ({time_unit})"
    label_panel(axes, panel.title, *names, layout, columns)
    return time, size


def _place(point: FrontPoint, time: float, size: float) -> tuple[float, float]:
    return point.peak_device_bytes / size, point.timed_ns / time


def _kinds(points: Sequence[FrontPoint]) -> dict[str, list[FrontPoint]]:
    return {
        _MISFIT: [p for p in points if not p.fits],
        _KEPT: [p for p in points if p.fits and p.keeps_all],
        _FITS: [p for p in points if p.fits and not p.keeps_all],
    }


def _points(axes: Axes, points: list[FrontPoint], label: str, on_front: bool, time: float, size: float) -> None:
    if points:
        axes.plot(
            [point.peak_device_bytes / size for point in points],
            [point.timed_ns / time for point in points],
            linestyle="none",
            zorder=4 + on_front,
            **_look(label, on_front),
        )


def _look(label: str, on_front: bool) -> dict[str, Any]:
    look = {"color": QUIET if label == _MISFIT else PREDICTED, "markersize": 5.0 if label == _KEPT else 4.5}
    look["marker"] = {_MISFIT: "x", _KEPT: "s", _FITS: "o"}[label]
    return look if on_front or label == _MISFIT else look | {"markerfacecolor": "none", "markeredgewidth": 0.8}


def _handles(found: FrontView) -> dict[str, Any]:
    """Return what the legend explains: the front, and each kind of point that there is beside it."""
    from matplotlib.lines import Line2D

    fitting = any(panel.fitting for panel in found.panels)
    line = {"color": PREDICTED if fitting else QUIET, "marker": "o" if fitting else "x", "markersize": 4.5}
    handles: dict[str, Any] = {"front": Line2D([], [], **line)}  # type: ignore[arg-type]
    on_front = {panel.points[place].index for panel in found.panels for place in panel.on_front}
    every = [point for panel in found.panels for point in panel.shown]
    # A point on the front needs no words of its own but where it keeps all.
    shown = _kinds([point for point in every if point.keeps_all or point.index not in on_front or not point.fits])
    for label in (_FITS, _KEPT, _MISFIT):
        if shown[label]:
            handles[label] = Line2D([], [], linestyle="none", **_look(label, on_front=False))
    handles["chosen" if fitting else "nearest to fit"] = Line2D([], [], **CHOSEN)
    return handles


def _capacity(axes: Axes, panel: FrontPanel, size: float) -> None:
    """Draw the capacity where it lies in the picture; say where it is if it lies to the right of it."""
    if panel.capacity_bytes is None:
        return
    at, (low, high) = panel.capacity_bytes / size, axes.get_xlim()
    text = f"capacity {format_bytes(panel.capacity_bytes)}"
    if low <= at <= high:
        axes.axvline(at, color=INK, linewidth=1, linestyle=_DASHES)
        left = at > (low + high) / 2
        axes.annotate(
            text,
            (at, 0.99),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if left else 4, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="top",
            fontsize=8,
        )
    else:
        side = "right" if at > high else "left"
        axes.set_title(f"{text} is to the {side}", loc="right", fontsize=8, fontweight="normal", color=QUIET)


def _name_chosen(axes: Axes, panel: FrontPanel, time: float, size: float, layout: Layout) -> None:
    """Name the ringed point where there is room: neither on other points nor on the front."""
    what = "chosen" if panel.fitting else "nearest to fit"
    text = in_lines(f"{what}: {panel.points[panel.chosen].label}", 26 if layout is Layout.NARROW else 34)
    lines = [corners([(nbytes / size, ns / time) for nbytes, ns in panel.staircase])]
    if panel.capacity_bytes is not None:
        lines.append([(panel.capacity_bytes / size, level) for level in axes.get_ylim()])
    place_label(
        axes,
        Label(at=_place(panel.points[panel.chosen], time, size), lines=tuple(text)),
        points=[_place(point, time, size) for point in panel.shown],
        lines=lines,
    )
