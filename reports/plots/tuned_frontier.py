"""Draws what each budget costs in time: tuned plans as a line over their bound, and horizons as dots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadahead.reports import run_directory
from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.free_place import Label, corners, place_label
from loadahead.reports.plots.sheet import in_lines, legend, scales, sheet
from loadahead.reports.plots.style import (
    CHOSEN,
    INK,
    LIGHT,
    PREDICTED,
    QUIET,
    byte_scale,
    light_grid,
    styled,
    time_scale,
)
from loadahead.reports.run_data import RunData
from loadahead.reports.views import tuned_frontier as view
from loadahead.reports.views.tuned_frontier import TunedFrontier
from loadahead.sim.units import format_bytes, format_duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT = {Layout.WIDE: 4.2, Layout.NARROW: 4.0}
_NAME = {Layout.WIDE: 34, Layout.NARROW: 24}
_TUNED: dict[str, Any] = {"color": PREDICTED, "linewidth": 1.8}
_BOUND: dict[str, Any] = {"color": QUIET, "linewidth": 1.2, "linestyle": (0, (4, 2))}
_HORIZON: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 3.8,
    "markerfacecolor": "none",
    "markeredgewidth": 0.9,
    "color": LIGHT["series-2"],
}
_KEPT: dict[str, Any] = {"linestyle": "none", "marker": "s", "markersize": 6, "color": LIGHT["keep-all"]}
_BUDGET: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": (0, (1, 2))}


@styled()
def tuned_frontier(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw one panel: to the left is less memory, below is less time."""
    found = view.tuned_frontier(data)
    if isinstance(found, Missing):
        return found
    figure, ((axes,),) = sheet(layout, _HEIGHT[layout], 1, 1)
    every = [found.keep_all, *found.horizons, *found.front]
    time, time_unit = time_scale(max(one.step_ns for one in every))
    size, size_unit = byte_scale(max(one.nbytes for one in every))
    budget = [] if found.budget_bytes is None else [found.budget_bytes / size]
    scales(
        axes,
        [*budget, *(one.nbytes / size for one in every)],
        [
            ns / time
            for ns in (*(one.step_ns for one in every), *(step.bound_ns for step in found.steps if step.bound_ns))
        ],
    )
    _lines(axes, found, time, size)
    _dots(axes, found, time, size)
    axes.set_xlabel(f"{found.what} ({size_unit})")
    axes.set_ylabel(f"step time ({time_unit})")
    light_grid(axes, "both")
    legend(figure, layout, _handles(found))
    # The label looks for a free place, which is known once all else stands in its own.
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    _name_chosen(axes, found, time, size, layout)
    from_zero = [] if min(axes.get_xlim()[0], axes.get_ylim()[0]) <= 0 else ["The axes do not start at zero."]
    return Drawing(
        figure=figure,
        title=found.title,
        caption=" ".join([*found.sentences, *from_zero]),
        numbers=found.numbers,
        files=(run_directory.TUNING,),
    )


def _lines(axes: Axes, found: TunedFrontier, time: float, size: float) -> None:
    """Draw the plans until the right end, as more memory costs no time, and the bounds until the largest budget.

    The bound of a budget holds for all smaller ones, down to the next.
    """
    front = _along(axes, found, time, size)
    axes.step([x for x, _ in front], [y for _, y in front], where="post", zorder=3, **_TUNED)
    bounds = _bounds(found, time, size)
    if bounds:
        axes.step([x for x, _ in bounds], [y for _, y in bounds], where="pre", zorder=4, **_BOUND)
    if found.budget_bytes is not None:
        at, (low, high) = found.budget_bytes / size, axes.get_xlim()
        axes.axvline(at, zorder=2, **_BUDGET)
        left = at > (low + high) / 2
        axes.annotate(
            f"budget {format_bytes(found.budget_bytes)}",
            (at, 0.99),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if left else 4, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="top",
            fontsize=8,
        )


def _along(axes: Axes, found: TunedFrontier, time: float, size: float) -> list[tuple[float, float]]:
    """Return the places of the line, the last at the right end."""
    front = [(one.nbytes / size, one.step_ns / time) for one in found.front]
    return [*front, (max(axes.get_xlim()[1], front[-1][0]), front[-1][1])]


def _bounds(found: TunedFrontier, time: float, size: float) -> list[tuple[float, float]]:
    return [(step.budget_bytes / size, step.bound_ns / time) for step in found.steps if step.bound_ns]


def _dots(axes: Axes, found: TunedFrontier, time: float, size: float) -> None:
    for places, look, order in (
        (found.horizons, _HORIZON, 5),
        ((found.keep_all,), _KEPT, 6),
        ((found.chosen,), CHOSEN, 7),
    ):
        if places:
            xs, ys = [one.nbytes / size for one in places], [one.step_ns / time for one in places]
            axes.plot(xs, ys, zorder=order, **look)


def _handles(found: TunedFrontier) -> dict[str, Any]:
    """Return what the legend explains."""
    from matplotlib.lines import Line2D

    looks: dict[str, Any] = {"tuned": _TUNED}
    if any(step.bound_ns for step in found.steps):
        looks["no plan is faster"] = _BOUND
    if found.horizons:
        looks["horizons"] = _HORIZON
    looks["every boundary kept"] = _KEPT
    looks["chosen" if found.fits else "nearest to the budget"] = CHOSEN
    return {name: Line2D([], [], **look) for name, look in looks.items()}


def _name_chosen(axes: Axes, found: TunedFrontier, time: float, size: float, layout: Layout) -> None:
    """Name the ringed plan where there is room: neither on dots nor on a line."""
    chosen = found.chosen
    what = "chosen" if found.fits else "nearest"
    text = in_lines(f"{what}: {format_duration(chosen.step_ns)}, {format_bytes(chosen.nbytes)}", _NAME[layout])
    lines = [corners(_along(axes, found, time, size)), corners(_bounds(found, time, size)[::-1])]
    if found.budget_bytes is not None:
        lines.append([(found.budget_bytes / size, level) for level in axes.get_ylim()])
    place_label(
        axes,
        Label(at=(chosen.nbytes / size, chosen.step_ns / time), lines=tuple(text)),
        points=[(one.nbytes / size, one.step_ns / time) for one in (*found.horizons, found.keep_all, chosen)],
        lines=lines,
    )
