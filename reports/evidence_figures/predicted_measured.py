"""Predicted against measured step times, and by how much each is off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loadahead.reports.plots.base import Drawing, Missing
from loadahead.reports.plots.style import FAINT, INK, QUIET, SERIES, light_grid, new_figure, styled, time_scale
from loadahead.reports.verdicts.base import percent
from loadahead.reports.verdicts.records import measured, time_error
from loadahead.reports.verdicts.step_time import LARGEST_TIME, MEDIAN_TIME

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

TITLE = "Step times, predicted and measured"
MEDIAN, LARGEST = MEDIAN_TIME.name, LARGEST_TIME.name


@styled()
def predicted_measured(evidence: Mapping[str, Any]) -> Drawing | Missing:
    """Left: one against the other; right: the errors, with the bands that the grid claims."""
    found = measured(evidence)
    if not found:
        return Missing(title=TITLE, reason="nothing was measured")
    figure, ((both, errors),) = new_figure(4.2, 1, 2)
    scale, unit = time_scale(max(one["measured"]["step_time_ns"] for one in found))
    for place, model in enumerate(dict.fromkeys(one["model"] for one in found)):
        own = [one for one in found if one["model"] == model]
        times = [one["measured"]["step_time_ns"] / scale for one in own]
        look: Any = {
            "color": SERIES[place % len(SERIES)],
            "s": 22,
            "alpha": 0.75,
            "linewidths": 0,
            "label": model,
            "zorder": 3,
        }
        both.scatter(times, [one["predicted"]["step_time_ns"] / scale for one in own], **look)
        errors.scatter(times, [100 * time_error(one) for one in own], **look)
    for axes in (both, errors):
        axes.set_xscale("log")
        axes.set_xlabel(f"measured step time ({unit})")
        light_grid(axes, "both")
    _line(both, unit)
    for axis in (both.xaxis, both.yaxis, errors.xaxis):
        _plain_numbers(axis)
    _bands(errors, evidence["claims"])
    both.legend(loc="upper left")
    return Drawing(figure=figure, title=TITLE, caption=_caption(len(found), evidence["claims"]))


def _plain_numbers(axis: Axis) -> None:
    """1, 2, 5, 10 ... on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _caption(count: int, limits: Mapping[str, float]) -> str:
    says = [
        f"{count} configurations; every prediction was written down before its run. On the line, and at an error of "
        "zero, both are the same; above it the prediction is too high."
    ]
    if MEDIAN in limits:
        says.append(f"The darker band is {percent(limits[MEDIAN])} to either side, which the median error may reach.")
    if LARGEST in limits:
        says.append(f"The lighter band is {percent(limits[LARGEST])} to either side, which no error may leave.")
    return " ".join(says)


def _line(axes: Axes, unit: str) -> None:
    """Where both are the same."""
    axes.set_yscale("log")
    low, high = min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([low, high], [low, high], color=INK, linewidth=0.8, zorder=1)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_ylabel(f"predicted step time ({unit})")


def _bands(axes: Axes, limits: Mapping[str, float]) -> None:
    for name, alpha in ((LARGEST, 0.45), (MEDIAN, 0.9)):
        if name in limits:
            axes.axhspan(-100 * limits[name], 100 * limits[name], color=FAINT, alpha=alpha, linewidth=0, zorder=0)
    axes.axhline(0, color=QUIET, linewidth=0.8, zorder=1)
    widest = max((limits[name] for name in (LARGEST, MEDIAN) if name in limits), default=0.0)
    reach = max(max(map(abs, axes.get_ylim())), 115 * widest)
    axes.set_ylim(-reach, reach)
    axes.set_ylabel("error of the prediction (%)")
