"""Draws a sweep as maps over two axes, one of time and one of memory; what does not fit is grey and hatched."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loadahead.reports import run_directory
from loadahead.reports.axis_names import axis_name, some
from loadahead.reports.palette import PALETTE
from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.sheet import legend, sheet, shortened, slanted, wrapped
from loadahead.reports.plots.style import INK, QUIET, byte_scale, styled, time_scale
from loadahead.reports.run_data import RunData
from loadahead.reports.views import heat_map as view
from loadahead.reports.views.heat_map import LEVELS, HeatCell, HeatSlice, HeatView, level

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = tuple(PALETTE[f"heat-{level}"].light for level in range(len(LEVELS) + 1))
_GROUND, _PALE = PALETTE["ground"].light, PALETTE["pale"].light
_MISFIT: dict[str, Any] = {"facecolor": _PALE, "edgecolor": QUIET, "hatch": "////", "linewidth": 0, "alpha": 0.55}
# So many inches of a cell are needed for each character of its number, and for its height.
_CHARACTER, _LINE = 0.068, 0.15
# Width of a panel without its labels, in inches.
_INSIDE = {Layout.WIDE: 4.2, Layout.NARROW: 3.0}

# The inches of a tick's character, the characters of the longest label, and the labels one above the other.
_TICK_CHARACTER, _LONGEST, _LONGEST_NARROW, _MOST_LEFT = 0.08, 20, 13, 40
# More columns than this stand below each other.
_MOST_BESIDE = 12

_Number = Callable[[HeatCell], float]


@styled()
def heat_map(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw a pair of maps for each model; on a phone one below the other, the axis with fewer values across."""
    from matplotlib.patches import Patch

    found = view.of(data)
    if isinstance(found, Missing):
        return found
    turned = layout is Layout.NARROW
    heights = [_height(one, turned) for one in found.slices]
    # Maps with many columns stand below each other on a page too: their numbers can then be read.
    if turned or max(len(one.across) for one in found.slices) > _MOST_BESIDE:
        ratios, columns = [height for height in heights for _ in range(2)], 1
    else:
        ratios, columns = heights, 2
    figure, grid = sheet(layout, sum(ratios) + 0.4, len(ratios), columns, gridspec_kw={"height_ratios": ratios})
    every = [axes for line in grid for axes in line]
    pairs = list(zip(every[::2], every[1::2], strict=True))
    width = _INSIDE[layout] if columns == 2 or turned else 2 * _INSIDE[layout]
    for one, (time, memory) in zip(found.slices, pairs, strict=True):
        _map(time, one, found, turned, width, _Map(found.time.name, lambda cell: cell.timed_ns, time_scale))
        _map(
            memory,
            one,
            found,
            turned,
            width,
            _Map("peak device memory", lambda cell: cell.peak_device_bytes, byte_scale),
        )
    cells = [cell for one in found.slices for cell in one.known]
    handles = _handles() if any(cell.fits for cell in cells) else {}
    if not all(cell.fits for cell in cells):
        handles["does not fit"] = Patch(**_MISFIT)
    legend(figure, layout, handles, "beside the least that fits" if len(handles) > 1 else None)
    return Drawing(
        figure=figure, title=found.title, caption=" ".join(found.sentences), files=(run_directory.SWEEP_CSV,)
    )


class _Map:
    """Holds what a map shows of each cell, and in which units."""

    def __init__(self, name: str, number: _Number, scale: Callable[[float], tuple[float, str]]) -> None:
        self.name, self.number, self.scale = name, number, scale


def _height(one: HeatSlice, turned: bool) -> float:
    lines = len(one.across if turned else one.up)
    return min(max(0.3 * lines, 0.6), 6.0) + 1.0


def _map(axes: Axes, one: HeatSlice, found: HeatView, turned: bool, width: float, shown: _Map) -> None:
    from matplotlib.patches import Rectangle

    wide, high = (one.up, one.across) if turned else (one.across, one.up)
    axis_wide, axis_high = (found.up, found.across) if turned else (found.across, found.up)
    unit, name = shown.scale(max(shown.number(cell) for cell in one.known))
    least = min((shown.number(cell) for cell in one.known if cell.fits), default=0.0)
    texts = _texts(one, shown, unit, width / len(wide), (_height(one, turned) - 1) / len(high))
    for y, line in enumerate(one.cells):
        for x, cell in enumerate(line):
            if cell is None:
                continue
            at = (y, x) if turned else (x, y)
            rank = level(shown.number(cell), least) if cell.fits else None
            corner = at[0] - 0.5, at[1] - 0.5
            if rank is None:
                axes.add_patch(Rectangle(corner, 1, 1, **_MISFIT))
            fill = "none" if rank is None else _COLOURS[rank]
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=fill, edgecolor=_GROUND, linewidth=0.8))
            # The inner line is for dark cells, on which the outer one cannot be seen.
            for colour, thick in ((_GROUND, 4.2), (INK, 2.0)) if cell.chosen else ():
                frame: dict[str, Any] = {"facecolor": "none", "edgecolor": colour, "linewidth": thick, "zorder": 5}
                axes.add_patch(Rectangle(corner, 1, 1, clip_on=False, **frame))
            if texts:
                _write(axes, at, texts[y][x], rank)
    axes.set_xlim(-0.5, len(wide) - 0.5)
    axes.set_ylim(-0.5, len(high) - 0.5)
    _ticks(axes, wide, high, width)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel(axis_name(axis_wide))
    axes.set_ylabel(axis_name(axis_high))
    axes.set_title(
        wrapped(
            f"{shown.name} ({name}){f': {one.where}' if one.where else ''}",
            Layout.NARROW if turned else Layout.WIDE,
            2 if width == _INSIDE[Layout.WIDE] else 1,
        )
    )


def _texts(one: HeatSlice, shown: _Map, unit: float, wide: float, high: float) -> list[list[str]] | None:
    """Return each cell's number, with as many digits as it has room for; None where they cannot be read."""
    numbers = [shown.number(cell) / unit for cell in one.known]
    for digits in (4, 3):
        longest = max(len(_digits(number, digits)) for number in numbers)
        if longest * _CHARACTER <= wide and high >= _LINE:
            return [
                ["" if cell is None else _digits(shown.number(cell) / unit, digits) for cell in line]
                for line in one.cells
            ]
    return None


def _digits(number: float, digits: int) -> str:
    return f"{number:.0f}" if number >= 10 ** (digits - 1) else f"{number:.{digits}g}"


def _write(axes: Axes, at: tuple[int, int], text: str, rank: int | None) -> None:
    """Write a cell's number in a colour that can be read on it; on hatching it has a ground of its own."""
    colour = QUIET if rank is None else INK if rank < len(_COLOURS) // 2 else _GROUND
    box = {"facecolor": _PALE, "edgecolor": "none", "pad": 0.8} if rank is None else None
    axes.text(*at, text, ha="center", va="center", fontsize=7.5, color=colour, bbox=box, zorder=4)


def _ticks(axes: Axes, wide: tuple[Any, ...], high: tuple[Any, ...], width: float) -> None:
    longest = _LONGEST if width > _INSIDE[Layout.NARROW] else _LONGEST_NARROW
    below, left = ([shortened(str(value), longest) for value in values] for values in (wide, high))
    room = max(2, int(width / ((max(map(len, below)) + 1) * _TICK_CHARACTER)))
    is_slanted = room < len(below) and any(isinstance(value, str) for value in wide)
    places = some(range(len(below)), len(below) if is_slanted else room)
    axes.set_xticks(places, [below[place] for place in places])
    if is_slanted:
        slanted(axes)
    places = some(range(len(left)), _MOST_LEFT)
    axes.set_yticks(places, [left[place] for place in places])


def _handles() -> dict[str, Any]:
    """Return what the colours stand for."""
    from matplotlib.patches import Patch

    names = [f"+{most:.0%}".replace("%", " %") for most in LEVELS]
    texts = [f"up to {names[0]}", *(f"to {name}" for name in names[1:]), "more"]
    return {text: Patch(facecolor=colour) for text, colour in zip(texts, _COLOURS, strict=True)}
