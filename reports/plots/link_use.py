"""Draws how full links are over time, a panel for each: what is shared first, then ways to the host and back."""

from __future__ import annotations

from textwrap import fill

import numpy as np

from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.style import INK, LIGHT, QUIET, SMALL, legend_above, light_grid, new_figure, styled
from loadahead.reports.plots.time_axis import TimeAxis
from loadahead.reports.run_data import RunData
from loadahead.reports.views import link_use as view
from loadahead.sim.units import format_rate

_MOST_LINKS = {Layout.WIDE: 6, Layout.NARROW: 4}
_COLUMNS = {Layout.WIDE: 240, Layout.NARROW: 100}
_LETTERS = {Layout.WIDE: 120, Layout.NARROW: 44}


def _colour(link: view.LinkUse) -> str:
    if link.shared:
        return LIGHT["predicted"]
    return LIGHT["offload" if link.name.startswith("copies out") else "prefetch"]


@styled()
def link_use(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw a panel for each link: the prediction filled, the measurement as a line."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    found = view.link_use(data, _MOST_LINKS[layout], _COLUMNS[layout])
    if isinstance(found, Missing):
        return found
    figure, grid = new_figure(
        0.95 * len(found.links) + 1.0, len(found.links), width=layout.width_inches, sharex=True, sharey=True
    )
    axis = TimeAxis(spans=found.wholes if found.own_axes else dict.fromkeys(found.wholes, found.together))
    most = max(max(shares) for link in found.links for shares in link.shares.values())
    for (axes,), link in zip(grid, found.links, strict=True):
        for number, (step, shares) in enumerate(link.shares.items()):
            edges = axis.x(step, np.linspace(*found.wholes[step], found.columns + 1))
            values = np.asarray(shares) * 100
            if number == 0:
                axes.stairs(values, edges, fill=True, color=_colour(link), linewidth=0)
            else:
                axes.stairs(values, edges, baseline=None, color=INK, linewidth=0.9)
        shared = ", shared" if link.shared else ""
        axes.set_title(
            fill(f"{link.name}: {format_rate(link.bandwidth)}{shared}", _LETTERS[layout]),
            fontsize=8.5,
            fontweight="normal",
        )
        axes.set_ylim(0, max(105.0, 100 * most + 5))
        axes.set_yticks([0, 50, 100], ["0", "50", "100 %"], fontsize=SMALL)
        light_grid(axes)
    axis.put(grid[0][0], grid[-1][0], layout is Layout.NARROW)
    if len(found.wholes) > 1:
        first, second = found.wholes
        legend_above(
            figure,
            [Patch(facecolor=QUIET), Line2D([], [], color=INK, linewidth=0.9)],
            [f"{first} (filled)", second],
        )
    return Drawing(figure=figure, title=view.TITLE, caption=" ".join(found.sentences), files=found.files)
