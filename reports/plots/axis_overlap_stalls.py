"""Draws whether copies hide behind compute: overlap and stalls against an axis, a panel per value of other axes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from loadahead.reports.plots.axis_lines import draw, draw_legend, files_of, label_axis, title
from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.sheet import common_scale, in_the_middle, sheet
from loadahead.reports.plots.style import styled, time_scale
from loadahead.reports.run_data import RunData
from loadahead.reports.stalls import STALL_LOOKS
from loadahead.reports.views import axis as view
from loadahead.reports.views.axis import AxisPanel, AxisPoint, AxisView, fewer
from loadahead.sim.step_metrics import STALLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Stalls below this share of the step are drawn short, and those that stay below the next one are said in words alone.
_LEAST_SHARE, _SAID_SHARE = 0.02, 0.01
# A phone shows so many panels: each is as high as the screen.
_MOST_NARROW = 2


def _overlap(point: AxisPoint) -> float | None:
    return point.overlap


def _waits(stall: str, point: AxisPoint) -> float:
    return float(point.stalls_ns[stall])


@styled()
def axis_overlap_stalls(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw overlap in percent above, and below it each kind of stall that occurs."""
    found = view.of(data)
    if isinstance(found, Missing):
        return Missing(title="Overlap and stalls against the horizon", reason=found.reason, absent=found.absent)
    if layout is Layout.NARROW:
        found = fewer(found, _MOST_NARROW)
    stalls = [name for name in STALLS if _largest_share(found, name) >= _SAID_SHARE]
    copies = any(p.overlap is not None for panel in found.panels for p in panel.points)
    name = f"Overlap and stalls against the {found.axis_label}"
    if not copies and not stalls:
        waited = any(_largest_share(found, stall) for stall in STALLS)
        most = f" for {_SAID_SHARE:.0%} of a step".replace("%", " %") if waited else ""
        return Missing(title=name, reason=f"nothing was copied and nothing waited{most}")
    panels, rows = found.panels, 1 + len(stalls)
    if layout is Layout.WIDE:
        figure, grid = sheet(layout, 1.4 * rows + 0.8, rows, len(panels), sharex="col")
        columns = [[line[place] for line in grid] for place in range(len(panels))]
        beside = len(panels)
    else:
        # A phone shows overlap and stalls of a panel below each other, then the next panel's.
        figure, grid = sheet(layout, (1.15 * rows + 0.8) * len(panels) + 0.5, rows * len(panels), 1)
        columns = [[line[0] for line in grid[place * rows : (place + 1) * rows]] for place in range(len(panels))]
        beside = 1
    units = {stall: common_scale([_top(panel, stall) for panel in panels], time_scale) for stall in stalls}
    for place, (panel, (overlap, *waits)) in enumerate(zip(panels, columns, strict=True)):
        names = beside == 1 or place == 0
        _fill_overlap(overlap, panel, found, names)
        title(overlap, panel, layout, beside)
        for stall, axes in zip(stalls, waits, strict=True):
            scale, unit = units[stall][place]
            _fill_stall(axes, panel, stall, found, scale)
            if names:
                axes.set_ylabel(f"waits for\n{STALL_LOOKS[stall].cause} ({unit})")
            elif units[stall][place] != units[stall][0]:
                axes.set_ylabel(unit)
        for axes in (overlap, *waits):
            label_axis(axes, panel, layout, beside)
            axes.tick_params(labelbottom=axes is (overlap, *waits)[-1])
        (overlap, *waits)[-1].set_xlabel(found.axis_label)
    draw_legend(figure, layout, found)
    return Drawing(
        figure=figure, title=name, caption=" ".join(_sentences(found, stalls, copies)), files=files_of(found)
    )


def _largest_share(found: AxisView, stall: str) -> float:
    """Return the largest share of its step that any plan waits for something."""
    points = [point for panel in found.panels for point in panel.points]
    return max((_waits(stall, point) / point.step_time_ns for point in points if point.step_time_ns), default=0.0)


def _top(panel: AxisPanel, stall: str) -> float:
    """Return where a panel's axis of stalls ends, in ns."""
    longest = max(_waits(stall, point) for point in panel.points)
    return max(longest, _LEAST_SHARE * max(float(point.step_time_ns) for point in panel.points), 1.0)


def _fill_stall(axes: Axes, panel: AxisPanel, stall: str, found: AxisView, scale: float) -> None:
    top = _top(panel, stall) / scale
    draw(axes, panel, partial(_waits, stall), scale, found.labels)
    axes.set_ylim(-0.03 * top, top * 1.15)


def _fill_overlap(axes: Axes, panel: AxisPanel, found: AxisView, named: bool) -> None:
    draw(axes, panel, _overlap, 0.01, found.labels)
    axes.set_ylim(-4, 108)
    if named:
        axes.set_ylabel("overlap (%)")
    if all(point.overlap is None for point in panel.points):
        in_the_middle(axes, "no copies")


def _sentences(found: AxisView, stalls: list[str], copies: bool) -> list[str]:
    little = [name for name in STALLS if name not in stalls and _largest_share(found, name)]
    never = [STALL_LOOKS[name].in_a_sentence for name in STALLS if name not in (*stalls, *little)]
    parts = []
    if copies:
        parts.append("Overlap: the share of the copies' time in which compute runs as well; 100 % is a free copy.")
    else:
        parts.append("Nothing was copied in any of these plans, so there is no overlap to show.")
    parts.append("Stalls: how long the worst rank's compute queue waits in one step; each panel has its own scale.")
    if little:
        waits = " or ".join(STALL_LOOKS[name].in_a_sentence for name in little)
        share = f"{_SAID_SHARE:.0%}".replace("%", " %")
        parts.append(f"No plan here waits for {waits} as long as {share} of its step.")
    if never:
        parts.append(f"No plan here waits for {' or '.join(never)}.")
    return [*parts, *found.marks, *found.measured_sentence, *found.notes]
