"""Draws what each unit costs: its forward, recompute and backward one above the other, stage by stage."""

from __future__ import annotations

from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.style import KIND_COLOUR, QUIET, legend_above, light_grid, new_figure, styled, time_scale
from loadahead.reports.run_data import RunData
from loadahead.reports.views.unit_times import UnitTimes, unit_times
from loadahead.sim.ir.kinds import Kind

TITLE = "What units cost"
MOST_UNITS = {Layout.WIDE: 256, Layout.NARROW: 96}
_HEIGHT = 2.6


@styled()
def units(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw a bar per unit, of one microbatch's times; lines where the next stage begins."""
    if data.costs is None:
        return Missing(title=TITLE, reason="there are no costs")
    view = unit_times(data.costs, MOST_UNITS[layout])
    figure, grid = new_figure(_HEIGHT, width=layout.width_inches)
    axes = grid[0][0]
    parts = {Kind.FORWARD: view.forward_ns, Kind.RECOMPUTE: view.recompute_ns, Kind.BACKWARD: view.backward_ns}
    scale, unit = time_scale(max(map(sum, zip(*parts.values(), strict=True))))
    places, below = range(len(view.stage)), [0.0] * len(view.stage)
    for kind, times in parts.items():
        heights = [ns / scale for ns in times]
        axes.bar(places, heights, 0.86, bottom=below, color=KIND_COLOUR[kind], label=kind.name.lower())
        below = [sum(pair) for pair in zip(below, heights, strict=True)]
    for place in _begins(view)[1:]:
        axes.axvline(place - 0.5, color=QUIET, linewidth=0.7, linestyle=(0, (2, 2)))
    axes.set_ylabel(unit)
    axes.set_xlabel("unit, in the model's order")
    axes.locator_params(axis="x", integer=True)
    axes.set_xlim(-0.6, len(view.stage) - 0.4)
    light_grid(axes)
    legend_above(figure, *axes.get_legend_handles_labels())
    return Drawing(figure=figure, title=TITLE, caption=_caption(data, view))


def _begins(view: UnitTimes) -> list[int]:
    """Return the place of each stage's first unit."""
    return [place for place, stage in enumerate(view.stage) if place == 0 or stage != view.stage[place - 1]]


def _caption(data: RunData, view: UnitTimes) -> str:
    assert data.costs is not None
    parts = [f"Times of one microbatch; where they come from: {data.costs.source}."]
    if len(_begins(view)) > 1:
        parts.append("Dashed lines: the next stage begins.")
    if view.units > len(view.stage):
        parts.append(f"The first {len(view.stage)} of {view.units} units are drawn.")
    return " ".join(parts)
