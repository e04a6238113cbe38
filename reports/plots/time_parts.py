"""Draws where the step's time goes: a bar per rank, predicted above measured, what is idle hatched by its cause."""

from __future__ import annotations

from typing import Any

from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.style import (
    FAINT,
    GROUND,
    LIGHT,
    QUIET,
    SMALL,
    STALL_COLOUR,
    STALL_HATCH,
    STALL_LABEL,
    legend_above,
    light_grid,
    new_figure,
    styled,
    time_scale,
)
from loadahead.reports.run_data import RunData
from loadahead.reports.views import time_parts as view
from loadahead.reports.views.time_waits import NOT_KNOWN, OTHER
from loadahead.reports.views.timelines import percent

_MOST_RANKS = {Layout.WIDE: 16, Layout.NARROW: 6}
_BAR_INCHES = 0.24
# Below the legend: the axis' labels, and what is left free around the bars.
_AROUND = 0.9
# A segment of at least this share of the axis has its own share of the step written into it.
_ROOM = {Layout.WIDE: 0.05, Layout.NARROW: 0.14}


def _solid(colour: str) -> dict[str, Any]:
    return {"facecolor": colour, "edgecolor": GROUND, "linewidth": 0.5}


def _hatched(colour: str, hatch: str) -> dict[str, Any]:
    return {"facecolor": GROUND, "edgecolor": colour, "hatch": hatch, "linewidth": 0.5}


LOOKS: dict[str, dict[str, Any]] = {
    view.FORWARD: _solid(LIGHT["forward"]),
    view.BACKWARD: _solid(LIGHT["backward"]),
    view.RECOMPUTE: _solid(LIGHT["recompute"]),
    view.OPTIMIZER: _solid(LIGHT["optimizer"]),
    **{stall: _hatched(colour, STALL_HATCH[stall]) for stall, colour in STALL_COLOUR.items()},
    OTHER: _hatched(QUIET, "++++"),
    view.HOST: _hatched(QUIET, "----"),
    NOT_KNOWN: _hatched(QUIET, "//"),
    view.DONE: {"facecolor": FAINT, "edgecolor": GROUND, "linewidth": 0.5},
}
LABELS = {
    view.FORWARD: "forward",
    view.BACKWARD: "backward",
    view.RECOMPUTE: "recompute",
    view.OPTIMIZER: "optimizer",
    **{stall: f"waits for {label}" for stall, label in STALL_LABEL.items()},
    OTHER: "waits for other operations",
    view.HOST: "host issues work",
    NOT_KNOWN: "idle, cause unknown",
    view.DONE: "done before others",
}


@styled()
def time_parts(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw a bar of each rank's step, in time, or in shares where the steps are too far apart for one axis."""
    from matplotlib.patches import Patch

    found = view.time_parts(data, _MOST_RANKS[layout])
    if isinstance(found, Missing):
        return found
    both = len(found.step_ns) > 1
    figure, [[axes]] = new_figure(_BAR_INCHES * len(found.drawn) + 1.7, width=layout.width_inches)
    longest = max(found.step_ns.values())
    scale, unit = time_scale(longest)
    y, places, last = 0.0, [], None
    for bar in found.drawn:
        y += 1.0 if bar.rank == last or last is None else 1.35
        last = bar.rank
        places.append(y)
        step = found.step_ns[bar.source]
        per, whole = (step / 100, 100.0) if found.own_axes else (scale, longest / scale)
        left = 0.0
        for part in view.PARTS:
            ns = bar.parts_ns.get(part, 0)
            if not ns:
                continue
            axes.barh(y, ns / per, left=left, height=0.84, **LOOKS[part])
            if part in view.COMPUTE_PARTS and ns / per / whole >= _ROOM[layout]:
                share = percent(ns, step)
                axes.text(left + ns / per / 2, y, share, ha="center", va="center", fontsize=SMALL, color=GROUND)
            left += ns / per
    short = {"predicted": "pred.", "measured": "meas."} if layout is Layout.NARROW else {}
    names = [
        f"rank {bar.rank}  {short.get(bar.source, bar.source)}" if both else f"rank {bar.rank}" for bar in found.drawn
    ]
    axes.set_yticks(places, names, fontsize=SMALL)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(places[-1] + 0.7, places[0] - 0.7)
    axes.set_xlim(0, 100 if found.own_axes else longest / scale)
    axes.set_xlabel("share of the step (%)" if found.own_axes else f"time of the step ({unit})")
    axes.spines["left"].set_visible(False)
    light_grid(axes, "x")
    used = [part for part in view.PARTS if any(bar.parts_ns.get(part) for bar in found.drawn)]
    high = legend_above(figure, [Patch(**LOOKS[part]) for part in used], [LABELS[part] for part in used])
    # On a phone a legend of many parts has many rows, below which bars of few ranks need their room too.
    needed = _BAR_INCHES * len(found.drawn) + high + _AROUND
    figure.set_size_inches(layout.width_inches, max(figure.get_figheight(), needed))
    return Drawing(figure=figure, title=view.TITLE, caption=" ".join(found.sentences), files=found.files)
