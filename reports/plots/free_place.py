"""Finds a free place for a point's name beside it: off other points, off the front, and inside the axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loadahead.reports.plots.style import GROUND, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Directions from the point, and distances in points: near ones are taken first of equally free ones.
_SIDES = tuple((x, y) for x, y in product((1, 0, -1), (1, 0, -1)) if (x, y) != (0, 0))
_DISTANCES = (12, 20, 32, 48, 68)
_SIZE = 8
# A letter's width as a share of its size, and a line's height.
_LETTER, _LINE = 0.62, 1.3
# Points that stand in the way of a segment of the front, so far apart.
_STEP = 4.0
_MARGIN = 4.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Holds a point, in the axes' own numbers, and its name's lines."""

    at: tuple[float, float]
    lines: tuple[str, ...]


def place_label(
    axes: Axes,
    label: Label,
    points: Sequence[tuple[float, float]],
    lines: Sequence[Sequence[tuple[float, float]]],
) -> None:
    """Write a label with a line to its point, where few of the points, of the lines and of the texts are."""
    per_point = axes.figure.dpi / 72
    low, high = _in_points(np.asarray([axes.transAxes.transform(at) for at in ((0, 0), (1, 1))]), per_point)
    along = [_along(_seen(axes, line, per_point)) for line in lines]
    in_the_way = np.concatenate([_seen(axes, points, per_point), *along, _texts(axes, per_point)])
    (at,) = _seen(axes, [label.at], per_point)
    size = np.asarray([max(map(len, label.lines)) * _LETTER, len(label.lines) * _LINE]) * _SIZE
    offset, side = _free(at, size, in_the_way, low, high)
    # The side of the box that is towards the point stands where the offset says.
    axes.annotate(
        "\n".join(label.lines),
        label.at,
        xytext=offset,
        textcoords="offset points",
        ha={1: "left", 0: "center", -1: "right"}[side[0]],
        va={1: "bottom", 0: "center", -1: "top"}[side[1]],
        fontsize=_SIZE,
        color=INK,
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.8, "shrinkB": 6},
        bbox={"facecolor": GROUND, "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        zorder=7,
    )


def _free(
    at: Floats, size: Floats, in_the_way: Floats, low: Floats, high: Floats
) -> tuple[tuple[float, float], tuple[int, int]]:
    """Return the offset and the side that have least in the way; the nearest of several."""
    best: tuple[tuple[float, float], tuple[float, float], tuple[int, int]] | None = None
    for distance, side in product(_DISTANCES, _SIDES):
        offset = (side[0] * distance, side[1] * distance)
        corner = at + offset + size * (np.asarray(side) - 1) / 2
        begin, end = corner - _MARGIN, corner + size + _MARGIN
        outside = float(np.maximum(low - corner, 0).sum() + np.maximum(corner + size - high, 0).sum())
        covered = int(((in_the_way > begin) & (in_the_way < end)).all(axis=1).sum())
        cost = (covered + outside * 10, float(distance))
        if best is None or cost < best[0]:
            best = cost, offset, side
    assert best is not None
    return best[1], best[2]


def _in_points(pixels: Any, per_point: float) -> Floats:
    return np.asarray(pixels, dtype=np.float64) / per_point


def _seen(axes: Axes, places: Sequence[tuple[float, float]], per_point: float) -> Floats:
    """Return places of the axes in points of the figure; shape (places, 2)."""
    if not places:
        return np.zeros((0, 2))
    return _in_points(axes.transData.transform(np.asarray(places, dtype=np.float64)), per_point)


def corners(stairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return all corners of a line that holds each value until the next place."""
    out = list(stairs[:1])
    for (_, before), (x, y) in zip(stairs, stairs[1:], strict=False):
        out += [(x, before), (x, y)]
    return out


def _along(line: Floats) -> Floats:
    """Return points close to each other along a line over these corners."""
    parts = [line]
    for start, end in zip(line, line[1:], strict=False):
        count = int(np.abs(end - start).max() // _STEP) + 1
        parts.append(start + (end - start) * np.linspace(0, 1, count + 1)[:, None])
    return np.concatenate(parts)


def _texts(axes: Axes, per_point: float) -> Floats:
    """Return points all over the texts that stand in the axes already."""
    parts = [np.zeros((0, 2))]
    for text in axes.texts:
        box = text.get_window_extent()
        across, up = (np.arange(*span, _STEP * per_point) for span in ((box.x0, box.x1), (box.y0, box.y1)))
        parts.append(_in_points([(x, y) for x in across for y in up], per_point).reshape(-1, 2))
    return np.concatenate(parts)
