"""Draws step time and peak memory against the horizon, predicted and measured, a column for each model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loadahead.reports.plots.base import Drawing, Missing
from loadahead.reports.plots.style import INK, QUIET, SERIES, byte_scale, light_grid, new_figure, styled, time_scale
from loadahead.reports.recorded_steps import RecordedStep, measured_step, predicted_step
from loadahead.reports.verdicts.records import Case, Record, case_of, horizon_series, plain_beside, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Step time and peak memory against the horizon"
# Differences below this share of the value are drawn small.
_LEAST_SPAN = 0.08
_DASHES = (0, (4, 3))

Series = list[Record]


@styled()
def horizons(evidence: Mapping[str, Any]) -> Drawing | Missing:
    """Draw predictions as lines and measurements as diamonds; slowed links and memory have rows of their own."""
    models = _by_model(evidence)
    if not models:
        return Missing(title=TITLE, reason="no two horizons of one series were measured")
    rows = [row for row in _ROWS if any(row.shows(record) for own in models.values() for record in own)]
    figure, grid = new_figure(0.7 + 2.5 * len(rows), len(rows), len(models))
    for column, series in enumerate(models.values()):
        plain = plain_beside(evidence, case_of(series[0][0]))
        for axes, row in zip((line[column] for line in grid), rows, strict=True):
            own = [(record, SERIES[place % len(SERIES)]) for place, record in enumerate(series) if row.shows(record)]
            unit = _panel(axes, row, own, plain if row.plain else [])
            axes.set_ylabel(unit if column else f"{row.name} ({unit})")
        grid[0][column].set_title(short_name(case_of(series[0][0])))
        grid[-1][column].set_xlabel("horizon (tasks)")
    _legend(figure, max(map(len, models.values())))
    caption = (
        "Lines are predictions, diamonds in their colour measurements. Copying each boundary more than once, as often "
        "as stands at the line, slows the link by as much. A dark line stands for all of them where they are predicted "
        "alike, as in memory. Axes do not start at zero."
    )
    return Drawing(figure=figure, title=TITLE, caption=caption)


@dataclass(frozen=True, slots=True)
class _Row:
    """Says what a row of panels shows, of which series, and whether beside our plan without offload."""

    name: str
    value: Callable[[RecordedStep], int]
    scale: Callable[[float], tuple[float, str]]
    shows: Callable[[Series], bool]
    plain: bool = True


def _step_time(step: RecordedStep) -> int:
    return step.step_time_ns


def _peak(step: RecordedStep) -> int:
    return step.peak_device_bytes


_ROWS = (
    _Row("step time", _step_time, time_scale, lambda series: bool(series[0]["copies"] == 1)),
    # Slowed links have a row of their own: beside them, nothing could be told apart in the first.
    _Row("step time, slowed link", _step_time, time_scale, lambda series: bool(series[0]["copies"] > 1), False),
    _Row("peak memory", _peak, byte_scale, lambda series: True),
)


def _by_model(evidence: Mapping[str, Any]) -> dict[str, list[Series]]:
    """Return each model's series, fewest copies first, of the case that has most of them.

    These are series of horizons in tasks with a release window of 1.
    """
    cases: dict[str, dict[Case, list[Series]]] = {}
    for series in horizon_series(evidence):
        first = series[0]
        if first["horizon_unit"] == "tasks" and first["release_window"] == 1:
            cases.setdefault(first["model"], {}).setdefault(case_of(first), []).append(series)
    chosen = {
        model: max(own.values(), key=lambda series_list: sum(map(len, series_list))) for model, own in cases.items()
    }
    return {model: sorted(own, key=lambda series: int(series[0]["copies"])) for model, own in chosen.items()}


def _panel(axes: Axes, row: _Row, series: Sequence[tuple[Series, str]], plain: Series) -> str:
    """Draw one panel, and return its unit."""
    records = [record for own, _ in series for record in own] + plain
    values = [row.value(step) for record in records for step in (predicted_step(record), measured_step(record))]
    if not values:
        axes.set_axis_off()
        return ""
    scale, unit = row.scale(max(values))
    for at, predicted, colour, label in _lines(series, row.value):
        axes.plot(at, [value / scale for value in predicted], color=colour, linewidth=1.6, zorder=3)
        axes.annotate(
            label,
            (at[-1], predicted[-1] / scale),
            xytext=(0, 6),
            textcoords="offset points",
            ha="right",
            fontsize=7.5,
            color=INK,
        )
    for own, colour in series:
        axes.plot(
            [record["horizon"] for record in own],
            [row.value(measured_step(record)) / scale for record in own],
            linestyle="none",
            marker="D",
            markersize=4.5,
            markerfacecolor="white",
            markeredgecolor=colour,
            markeredgewidth=1.2,
            zorder=4,
        )
    for record in plain:
        axes.axhline(row.value(measured_step(record)) / scale, color=QUIET, linewidth=1, linestyle=_DASHES, zorder=1)
    low, high = min(values) / scale, max(values) / scale
    span = max((high - low) * 1.25, high * _LEAST_SPAN)
    axes.set_ylim((low + high - span) / 2, (low + high + span) / 2)
    axes.set_xticks(sorted({record["horizon"] for own, _ in series for record in own}))
    light_grid(axes)
    return unit


def _lines(
    series: Sequence[tuple[Series, str]], value: Callable[[RecordedStep], int]
) -> Iterator[tuple[list[int], list[int], str, str]]:
    """Yield horizons, predictions, colour and label of each line; one for all series that are predicted alike."""
    points = [{record["horizon"]: value(predicted_step(record)) for record in own} for own, _ in series]
    together = {horizon: number for own in points for horizon, number in own.items()}
    if len(series) > 1 and all(own.items() <= together.items() for own in points):
        yield sorted(together), [together[horizon] for horizon in sorted(together)], INK, ""
        return
    for own, (rows, colour) in zip(points, series, strict=True):
        copies = rows[0]["copies"]
        yield list(own), list(own.values()), colour, "" if copies == 1 else f"{copies} times"


def _legend(figure: Figure, series: int) -> None:
    """Draw one legend for all panels, above them."""
    from matplotlib.lines import Line2D

    names = ["copied once", "link slowed", "link slowed more", "link slowed still more"]
    handles = [
        Line2D([], [], color=colour, linewidth=1.6, label=name)
        for name, colour in zip(names[:series], SERIES, strict=False)
    ]
    handles += [
        Line2D([], [], color=INK, linewidth=1.6, label="predicted"),
        Line2D(
            [], [], color=INK, linestyle="none", marker="D", markersize=4.5, markerfacecolor="white", label="measured"
        ),
        Line2D([], [], color=QUIET, linewidth=1, linestyle=_DASHES, label="measured without offload"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
