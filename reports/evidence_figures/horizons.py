"""Step time and peak memory against the horizon, predicted and measured, a column for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.plots.base import Drawing, Missing
from reports.plots.style import MEASURED, QUIET, SERIES, byte_scale, light_grid, new_figure, styled, time_scale
from reports.verdicts.records import case_of, horizon_series, measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from reports.verdicts.records import Record

TITLE = "Step time and peak memory against the horizon"
# Smaller differences than this share of the value look small.
_LEAST_SPAN = 0.08


@styled()
def horizons(evidence: Mapping[str, Any]) -> Drawing | Missing:
    """Lines predicted, diamonds measured; a colour for each number of copies, a dashed line without offload."""
    models = _by_model(evidence)
    if not models:
        return Missing(title=TITLE, reason="no two horizons of one series were measured")
    figure, grid = new_figure(5.2, 2, len(models))
    for column, (model, series) in enumerate(models.items()):
        plain = [one for one in measured(evidence) if not one["offload"] and case_of(one) == case_of(series[0][0])]
        top, bottom = grid[0][column], grid[1][column]
        _panel(top, series, plain, "step_time_ns", time_scale, "step time" if not column else "")
        _panel(bottom, series, plain, "peak_device_bytes", byte_scale, "peak device memory" if not column else "")
        top.set_title(f"{model}, {series[0][0]['microbatches']} microbatches")
        top.legend(loc="best", fontsize=7.5)
        bottom.set_xlabel("horizon (tasks)")
    caption = (
        "Lines are predictions, diamonds measurements, the dashed line is measured without offload. Each boundary was "
        "copied as often as the legend says, which slows the link by as much. Axes do not start at zero."
    )
    return Drawing(figure=figure, title=TITLE, caption=caption)


def _by_model(evidence: Mapping[str, Any]) -> dict[str, list[list[Record]]]:
    """Of each model the series of the case with most of them: horizons in tasks, window 1."""
    cases: dict[str, dict[tuple[str, int, str], list[list[Record]]]] = {}
    for series in horizon_series(evidence):
        first = series[0]
        if first["horizon_unit"] == "tasks" and first["release_window"] == 1:
            cases.setdefault(first["model"], {}).setdefault(case_of(first), []).append(series)
    return {model: max(own.values(), key=lambda found: sum(map(len, found))) for model, own in cases.items()}


def _panel(
    axes: Axes, series: Sequence[Sequence[Record]], plain: Sequence[Record], key: str, scale_of: Any, label: str
) -> None:
    rows = [row for one in series for row in one] + list(plain)
    values = [row[side][key] for row in rows for side in ("predicted", "measured")]
    scale, unit = scale_of(max(values))
    for place, points in enumerate(series):
        copies, colour = points[0]["copies"], SERIES[place % len(SERIES)]
        name = "copied once" if copies == 1 else f"copied {copies} times"
        at = [point["horizon"] for point in points]
        axes.plot(
            at, [point["predicted"][key] / scale for point in points], color=colour, label=name, marker=".",
            linewidth=max(2.2 - 0.5 * place, 0.8), zorder=2 + place,
        )  # fmt: skip
        axes.plot(
            at, [point["measured"][key] / scale for point in points], linestyle="none", marker="D", markersize=4.5,
            markerfacecolor="none", markeredgecolor=MEASURED, markeredgewidth=1.1, zorder=9,
        )  # fmt: skip
    for one in plain:
        axes.axhline(one["measured"][key] / scale, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    low, high = min(values) / scale, max(values) / scale
    span = max((high - low) * 1.25, high * _LEAST_SPAN)
    axes.set_ylim((low + high - span) / 2, (low + high + span) / 2)
    axes.set_xticks(sorted({point["horizon"] for points in series for point in points}))
    axes.set_ylabel(f"{label} ({unit})" if label else unit)
    light_grid(axes)
