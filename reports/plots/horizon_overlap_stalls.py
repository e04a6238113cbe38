"""Draws whether copies hide behind compute: overlap and stalls against the horizon, a panel per microbatch count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.horizon_series import (
    Panel,
    draw_lines,
    hidden_share,
    horizon_axis,
    legend,
    line_labels,
    measured_sentence,
    panels,
    why_no_curve,
)
from loadahead.reports.plots.style import QUIET, new_figure, styled, time_scale
from loadahead.reports.run_data import RunData
from loadahead.reports.stalls import STALL_LOOKS
from loadahead.sim.step_metrics import STALLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Overlap and stalls against the horizon"
# Stalls below this share of the step are drawn short.
_LEAST_SHARE = 0.02


def _longest(shown_panels: list[Panel], stall: str) -> int:
    return max((row.stalls_ns[stall] for panel in shown_panels for row in panel.rows), default=0)


def _caption(shown_panels: list[Panel], never: list[str], copies: bool) -> str:
    parts = []
    if copies:
        parts.append("Overlap: the share of the copies' time in which compute runs as well; 100 % is a free copy.")
    else:
        parts.append("Nothing was copied in any of these plans, so there is no overlap to show.")
    parts.append("Stalls: how long the worst rank's compute queue waits in one step; each panel has its own scale.")
    if never:
        parts.append(f"No plan here waits for {' or '.join(STALL_LOOKS[name].in_a_sentence for name in never)}.")
    return " ".join(parts)


def _top(panel: Panel, stall: str) -> float:
    """Return where a panel's axis of stalls ends, in ns."""
    longest = max(float(row.stalls_ns[stall]) for row in panel.rows)
    return max(longest, _LEAST_SHARE * max(float(row.step_time_ns) for row in panel.rows), 1.0)


def _fill_stall(axes: Axes, panel: Panel, stall: str, labels: list[str], scale: float, unit: str) -> None:
    top = _top(panel, stall)
    draw_lines(axes, panel, lambda row: row.stalls_ns[stall], scale, labels)
    axes.set_ylim(-0.03 * top / scale, top / scale * 1.15)
    axes.set_ylabel(unit)


def _fill_overlap(axes: Axes, panel: Panel, labels: list[str]) -> None:
    draw_lines(axes, panel, hidden_share, 0.01, labels)
    axes.set_ylim(-4, 108)
    axes.set_ylabel("%")
    axes.set_title(panel.title)
    if all(hidden_share(row) is None for row in panel.rows):
        axes.text(0.5, 0.5, "no copies", transform=axes.transAxes, ha="center", va="center", color=QUIET)


@styled()
def horizon_overlap_stalls(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw overlap in percent above, and a row below for each kind of stall that occurs."""
    shown_panels, notes = panels(data)
    reason = why_no_curve(shown_panels)
    if reason is not None:
        return Missing(title=TITLE, reason=reason)
    stalls = [name for name in STALLS if _longest(shown_panels, name)]
    never = [name for name in STALLS if name not in stalls]
    copies = any(hidden_share(row) is not None for panel in shown_panels for row in panel.rows)
    if not copies and not stalls:
        return Missing(title=TITLE, reason="nothing was copied and nothing waited")
    rows = ["overlap", *(f"waits for\n{STALL_LOOKS[stall].cause}" for stall in stalls)]
    figure, grid = new_figure(1.4 * len(rows) + 0.8, len(rows), len(shown_panels), sharex="col")
    labels = line_labels(shown_panels)
    for column, panel in enumerate(shown_panels):
        _fill_overlap(grid[0][column], panel, labels)
        for stall, line in zip(stalls, grid[1:], strict=True):
            scale, unit = time_scale(max(_top(p, stall) for p in shown_panels))
            _fill_stall(line[column], panel, stall, labels, scale, unit)
        horizon_axis(grid[0][column], panel)
        grid[-1][column].set_xlabel("horizon")
    for name, line in zip(rows, grid, strict=True):
        line[0].set_ylabel(f"{name} ({line[0].get_ylabel()})")
    legend(figure, grid)
    caption = _caption(shown_panels, never, copies)
    if any(panel.measured for panel in shown_panels):
        caption += f" {measured_sentence(data)}"
    return Drawing(figure=figure, title=TITLE, caption=" ".join([caption, *notes]))
