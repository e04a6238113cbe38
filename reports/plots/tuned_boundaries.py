"""Draws which boundaries of a tuned plan leave: a row for each unit, a column for each microbatch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadahead.reports import run_directory
from loadahead.reports.axis_names import some
from loadahead.reports.palette import PALETTE
from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.sheet import legend, sheet
from loadahead.reports.plots.style import GROUND, INK, styled
from loadahead.reports.run_data import RunData
from loadahead.reports.views import tuned_boundaries as view
from loadahead.reports.views.tuned_boundaries import LEVELS, STAY, StageRows, TunedBoundaries

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The colours of boundaries that leave begin well apart from that of those that stay.
_FIRST = 2
_STAYS = PALETTE["heat-0"].light
_AWAY = tuple(PALETTE[f"heat-{_FIRST + number}"].light for number in range(len(LEVELS) + 1))
# Inches of a row, of all rows at the least and at the most, and around them.
_ROW, _LEAST, _MOST, _AROUND = 0.2, 1.2, 7.2, 1.25
# Rows lower than this, in inches, stand without a line between them, and columns narrower than this likewise.
_LINED = 0.11
_INSIDE = {Layout.WIDE: 8.8, Layout.NARROW: 2.7}
# Labels have so many inches each.
_LABEL_HIGH, _LABEL_WIDE = 0.17, 0.3


@styled()
def tuned_boundaries(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw one panel; the model's first unit is at the top."""
    found = view.tuned_boundaries(data)
    if isinstance(found, Missing):
        return found
    inside = min(max(_ROW * found.units, _LEAST), _MOST)
    figure, ((axes,),) = sheet(layout, inside + _AROUND, 1, 1)
    row, column = inside / found.units, _INSIDE[layout] / found.microbatches
    line = 0.8 if min(row, column) >= _LINED else 0.0
    _cells(axes, found, line)
    _between_stages(axes, found)
    _label(axes, found, inside, layout)
    legend(figure, layout, _handles(found))
    return Drawing(
        figure=figure,
        title=found.title,
        caption=" ".join(found.sentences),
        numbers=found.numbers,
        files=(run_directory.PLAN, run_directory.PREDICTED),
    )


def _colour(level: int) -> str:
    return _STAYS if level == STAY else _AWAY[level]


def _cells(axes: Axes, found: TunedBoundaries, line: float) -> None:
    """Draw the cells of each colour at once; where no lines stand between them, alike neighbours are one box."""
    from matplotlib.collections import PolyCollection

    boxes: dict[int, list[Any]] = {}
    for y, levels in enumerate(row for stage in found.stages for row in stage.levels):
        for first, last, level in _runs(levels, single=line > 0):
            if level >= STAY:
                corners = [(first - 0.5, y - 0.5), (last + 0.5, y - 0.5), (last + 0.5, y + 0.5), (first - 0.5, y + 0.5)]
                boxes.setdefault(level, []).append(corners)
    for level, shapes in sorted(boxes.items()):
        colour = _colour(level)
        axes.add_collection(
            PolyCollection(shapes, facecolors=colour, edgecolors=GROUND if line else colour, linewidths=line or 0.1)
        )


def _runs(levels: tuple[int, ...], single: bool) -> list[tuple[int, int, int]]:
    """Return (first, last, level) of neighbours of the same level, or of each cell."""
    out: list[tuple[int, int, int]] = []
    for place, level in enumerate(levels):
        if out and not single and out[-1][2] == level:
            out[-1] = (out[-1][0], place, level)
        else:
            out.append((place, place, level))
    return out


def _between_stages(axes: Axes, found: TunedBoundaries) -> None:
    at = 0
    for stage in found.stages[:-1]:
        at += len(stage.levels)
        axes.axhline(at - 0.5, color=INK, linewidth=0.8, zorder=3)


def _label(axes: Axes, found: TunedBoundaries, inside: float, layout: Layout) -> None:
    axes.set_xlim(-0.5, found.microbatches - 0.5)
    axes.set_ylim(found.units - 0.5, -0.5)
    room = max(2, int(_INSIDE[layout] / _LABEL_WIDE))
    columns = range(0, found.microbatches, -(-found.microbatches // room))
    axes.set_xticks(columns, [str(column) for column in columns])
    places, names, at = [], [], 0
    for stage in found.stages:
        places.append(at + (len(stage.levels) - 1) / 2)
        names.append(_name(stage, len(found.stages) > len(found.ranks)))
        at += len(stage.levels)
    shown = some(range(len(names)), max(2, int(inside / _LABEL_HIGH)))
    axes.set_yticks([places[place] for place in shown], [names[place] for place in shown])
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("microbatch")


def _name(stage: StageRows, several: bool) -> str:
    """Return the rank, and the stage where a rank holds several."""
    return f"rank {stage.rank}, stage {stage.stage}" if several else f"rank {stage.rank}"


def _handles(found: TunedBoundaries) -> dict[str, Any]:
    """Return what the colours stand for, of those that there are."""
    from matplotlib.patches import Patch

    there = {level for stage in found.stages for row in stage.levels for level in row}
    shares = [f"{share:.0%}".replace("%", " %") for share in LEVELS]
    names = {STAY: "stays"} if STAY in there else {}
    for level in sorted(level for level in there if level > STAY):
        limit = f"up to {shares[level]}" if level < len(LEVELS) else f"more than {shares[-1]}"
        # The first says of what the shares are.
        first = not any(other > STAY for other in names)
        names[level] = f"away {limit} of the step" if first else limit.removeprefix("up ")
    return {name: Patch(facecolor=_colour(level)) for level, name in names.items()}
