"""Our plans and the peers on the same model and batch: step time against peak memory, a panel for each case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reports.plots.base import Drawing, Missing
from reports.plots.style import INK, MEASURED, PREDICTED, byte_scale, light_grid, new_figure, styled, time_scale
from reports.verdicts.records import case_of, ours_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from reports.verdicts.records import Record

TITLE = "Beside other implementations"
Case = tuple[str, int, str]
COLUMNS = 3


@styled()
def peers(evidence: Mapping[str, Any]) -> Drawing | Missing:
    """Diamonds are peers, dots our plans with their horizons; down and left is better."""
    cases: dict[Case, list[Record]] = {}
    for peer in evidence["peers"]:
        if peer["status"] == "measured" and peer["peak_device_bytes"] is not None:
            cases.setdefault(case_of(peer), []).append(peer)
    if not cases:
        return Missing(title=TITLE, reason="no peer was measured whose peak memory can be told")
    columns = min(COLUMNS, len(cases))
    rows = -(-len(cases) // columns)
    figure, grid = new_figure(0.6 + 3.2 * rows, rows, columns)
    panels = [axes for row in grid for axes in row]
    for axes, (case, found) in zip(panels, cases.items(), strict=False):
        _panel(axes, case, found, [one for one in ours_beside(evidence, case) if one["horizon_unit"] == "tasks"])
    for axes in panels[len(cases) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2)
    caption = (
        "Down and left is better. Dots are Loadahead's plans, each with its horizon in tasks; diamonds the peers "
        "(none: checkpointing without offload). Every panel has axes of its own, which do not start at zero."
    )
    return Drawing(figure=figure, title=TITLE, caption=caption)


def _panel(axes: Axes, case: Case, found: list[Record], ours: list[Record]) -> None:
    plans = [one["measured"] for one in ours]
    times, peaks = ([row[key] for row in (*plans, *found)] for key in ("step_time_ns", "peak_device_bytes"))
    (ns, time_unit), (nbytes, byte_unit) = time_scale(max(times)), byte_scale(max(peaks))
    points = [(row["step_time_ns"] / ns, row["peak_device_bytes"] / nbytes) for row in (*plans, *found)]
    names = [str(one["horizon"]) for one in ours] + [peer["peer"] for peer in found]
    for label, marker, colour, own in (
        ("Loadahead, by horizon", "o", PREDICTED, points[: len(plans)]),
        ("peers", "D", MEASURED, points[len(plans) :]),
    ):
        x, y = [point[0] for point in own], [point[1] for point in own]
        axes.scatter(x, y, marker=marker, color=colour, s=26, label=label, zorder=3)
    middle = (min(times) + max(times)) / 2 / ns
    for point, name in zip(points, names, strict=True):
        right = point[0] > middle  # then the text stands on the left, where there is room
        axes.annotate(
            name, point, xytext=(-6 if right else 6, 0), textcoords="offset points", ha="right" if right else "left",
            va="center", fontsize=7.5, color=INK,
        )  # fmt: skip
    axes.margins(0.22)
    axes.set_title(f"{case[0]}, {case[1]} mb., {case[2]}")
    axes.set_xlabel(f"step time ({time_unit})")
    axes.set_ylabel(f"peak device memory ({byte_unit})")
    light_grid(axes, "both")
