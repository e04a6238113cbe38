"""Draws predicted against measured step times, and by how much each is off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loadahead.reports.plots.base import Drawing, Missing
from loadahead.reports.plots.style import FAINT, INK, QUIET, SERIES, light_grid, new_figure, styled, time_scale
from loadahead.reports.recorded_steps import measured_step, predicted_step
from loadahead.reports.verdicts.base import percent
from loadahead.reports.verdicts.predictions import LARGEST_TIME, MEDIAN_TIME
from loadahead.reports.verdicts.records import measured, time_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

TITLE = "Step times, predicted and measured"
MEDIAN, LARGEST = MEDIAN_TIME.name, LARGEST_TIME.name


@styled()
def predicted_measured(evidence: Mapping[str, Any]) -> Drawing | Missing:
    """Draw one against the other to the left, and the errors, with the claimed bands, to the right."""
    records = measured(evidence)
    if not records:
        return Missing(title=TITLE, reason="nothing was measured")
    figure, ((both, errors),) = new_figure(4.2, 1, 2)
    scale, unit = time_scale(max(measured_step(record).step_time_ns for record in records))
    for place, model in enumerate(dict.fromkeys(record["model"] for record in records)):
        own = [record for record in records if record["model"] == model]
        times = [measured_step(record).step_time_ns / scale for record in own]
        look: Any = {
            "color": SERIES[place % len(SERIES)],
            "s": 22,
            "alpha": 0.75,
            "linewidths": 0,
            "label": model,
            "zorder": 3,
        }
        both.scatter(times, [predicted_step(record).step_time_ns / scale for record in own], **look)
        errors.scatter(times, [100 * time_error(record) for record in own], **look)
    for axes in (both, errors):
        axes.set_xscale("log")
        axes.set_xlabel(f"measured step time ({unit})")
        light_grid(axes, "both")
    _line(both, unit)
    for axis in (both.xaxis, both.yaxis, errors.xaxis):
        _plain_numbers(axis)
    _bands(errors, evidence["claims"])
    both.legend(loc="upper left")
    return Drawing(figure=figure, title=TITLE, caption=_caption(len(records), evidence["claims"]))


def _plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis with 1, 2, 5, 10 and so on."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _caption(count: int, limits: Mapping[str, float]) -> str:
    sentences = [
        f"{count} configurations; every prediction was written down before its run. On the line, and at an error of "
        "zero, both are the same; above it the prediction is too high."
    ]
    if MEDIAN in limits:
        sentences.append(
            f"The darker band is {percent(limits[MEDIAN])} to either side, which the median error may reach."
        )
    if LARGEST in limits:
        sentences.append(f"The lighter band is {percent(limits[LARGEST])} to either side, which no error may leave.")
    return " ".join(sentences)


def _line(axes: Axes, unit: str) -> None:
    """Draw the line on which both are the same."""
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
