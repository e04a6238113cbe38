"""Draws a plan's order: a row per rank, its passes one after the other. A plan holds no times, and nor does this."""

from __future__ import annotations

from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.style import GROUND, KIND_COLOUR, QUIET, SMALL, legend_above, new_figure, styled
from loadahead.reports.run_data import RunData
from loadahead.reports.views.order import OrderView, order_view
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.units import counted

TITLE = "The order of passes"
MOST_RANKS = 8
# So many passes fit a row with their microbatch's number in each.
MOST_PASSES = {Layout.WIDE: 36, Layout.NARROW: 14}
_NAMES = {Kind.FORWARD: "forward", Kind.BACKWARD: "backward, recomputed", Kind.BACKWARD_WEIGHT: "weights' gradients"}


@styled()
def order(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw each rank's passes as boxes with the microbatch's number; a mark below where boundaries are offloaded."""
    if data.plan is None:
        return Missing(title=TITLE, reason="there is no plan")
    view = order_view(data.plan, MOST_RANKS, MOST_PASSES[layout])
    if isinstance(view, Missing):
        return view
    rows = len({one.rank for one in view.passes})
    figure, grid = new_figure(0.34 * rows + 0.95, width=layout.width_inches)
    axes = grid[0][0]
    recomputes = bool((data.plan.ops.kind == Kind.RECOMPUTE).any())
    several = len(data.plan.stage_rank) > data.plan.ranks
    for kind in dict.fromkeys(one.kind for one in view.passes):
        mine = [one for one in view.passes if one.kind == kind]
        name = _NAMES[kind] if recomputes else _NAMES[kind].removesuffix(", recomputed")
        places, ranks = [one.place for one in mine], [one.rank for one in mine]
        axes.barh(ranks, 0.94, 0.62, left=[place + 0.03 for place in places], color=KIND_COLOUR[kind], label=name)
        for one in mine:
            text = f"{one.stage}.{one.microbatch}" if several else str(one.microbatch)
            axes.text(one.place + 0.5, one.rank, text, ha="center", va="center", fontsize=SMALL, color=GROUND)
    leaving = [one for one in view.passes if one.offloads]
    if leaving:
        axes.plot(
            [one.place + 0.5 for one in leaving],
            [one.rank + 0.4 for one in leaving],
            linestyle="none",
            marker="v",
            markersize=3.5,
            color=KIND_COLOUR[Kind.OFFLOAD],
            label="boundaries offloaded",
        )
    axes.set_ylim(rows - 0.4, -0.5)
    axes.set_xlim(0, max(one.place for one in view.passes) + 1)
    axes.set_yticks(range(rows), [f"rank {rank}" for rank in range(rows)])
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, color=QUIET)
    legend_above(figure, *axes.get_legend_handles_labels())
    return Drawing(figure=figure, title=TITLE, caption=_caption(view, rows, MOST_PASSES[layout], several))


def _caption(view: OrderView, rows: int, most: int, several: bool) -> str:
    number = "stage and microbatch" if several else "microbatch"
    parts = [f"Each box is a pass, with its {number}; all are as wide, as a plan holds no times."]
    if view.longest > most:
        parts.append(f"The first {most} of at most {view.longest} passes of a rank are drawn.")
    if view.ranks > rows:
        parts.append(
            f"{counted(view.ranks - rows, 'further rank')} {'is' if view.ranks - rows == 1 else 'are'} left out."
        )
    return " ".join(parts)
