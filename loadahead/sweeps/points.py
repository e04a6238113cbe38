"""Keeps memory and operations of some of a sweep's points: the chosen one, its neighbours, and the front.

They are planned and simulated again for it, with the compiled engine, as far as that is done in a few seconds.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.reports.pareto import front_of
from loadahead.reports.points import MOST_POINTS, Points, SweptPoint
from loadahead.reports.views.excerpt import excerpt
from loadahead.sim.choice import Choice, models_of
from loadahead.sim.engines import DEFAULT_ENGINE, simulate
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.sweep import plan_of_point
from loadahead.sim.units import counted

if TYPE_CHECKING:
    from loadahead.sweeps.grid import Grid

Why = Literal["chosen", "neighbour", "front"]

# All plans together may have about so many operations. Two cores of an AMD EPYC plan and simulate them in some 3 s.
MOST_OPERATIONS = 1_000_000
# Work that takes longer than this is told of.
_TOLD_SECONDS = 1.0


def points_of(
    grid: Grid,
    rows: Sequence[SweepRow],
    chosen: Sequence[Choice],
    directory: Path,
    progress: ProgressCallback = silent,
) -> Points:
    """Return the points that are kept, in the directory, of a sweep with these rows, which are in the grid's order."""
    left, ratio, began, told = MOST_OPERATIONS, 1.0, time.monotonic(), False
    wanted = wanted_points(grid, rows, chosen)
    kept: list[SweptPoint] = []
    for done, (place, why) in enumerate(wanted.items()):
        if not told and time.monotonic() - began > _TOLD_SECONDS:
            told = True
            again = counted(len(wanted) - done, "point")
            progress(Progress(f"{grid.sweep.file.source}: simulating {again} again for the report"))
        if ratio * operations(rows[place]) > left:
            continue
        point = grid.point(place)
        plan = plan_of_point(point)
        left -= len(plan)
        ratio = max(ratio, len(plan) / max(operations(rows[place]), 1))
        step = excerpt(simulate(plan, point.costs, DEFAULT_ENGINE), point.costs.launches(plan))
        kept.append(SweptPoint(row=place, axes=dict(rows[place].axes), why=why, step=step))
    return Points(
        source=_source(grid, directory),
        overrides=dict(grid.sweep.overrides),
        points=tuple(kept),
        left_out=len(wanted) - len(kept),
    )


def _source(grid: Grid, directory: Path) -> str | None:
    """Return the scenario's name, or its path from the directory; None where it is neither."""
    source, folder = grid.sweep.source, grid.sweep.file.folder
    if not isinstance(source, str | Path) or grid.sweep.file.objects is not None:
        return None
    return str(source) if folder is None else os.path.relpath(source, directory)


def operations(row: SweepRow) -> int:
    """Return how many operations a point's plan has at least, what ranks send each other not counted.

    A boundary that stays has a FORWARD, a RECOMPUTE and a BACKWARD; one that leaves has an OFFLOAD, a RELEASE, an
    ACQUIRE and a PREFETCH besides.
    """
    return 3 * row.kept + 7 * row.offloaded


def wanted_points(grid: Grid, rows: Sequence[SweepRow], chosen: Sequence[Choice]) -> dict[int, Why]:
    """Return the places of the points to keep with the reason of each, the most important first.

    Of several models each has its chosen point, that one's neighbours, and its front. What is too much is left out at
    the end; the front is thinned evenly.
    """
    wanted: dict[int, Why] = {choice.index: "chosen" for choice in chosen}
    for choice in chosen:
        for place in _neighbours(grid, choice.index):
            wanted.setdefault(place, "neighbour")
    wanted = dict(list(wanted.items())[:MOST_POINTS])
    front = [place for places in models_of(rows, grid.model_axes).values() for place in front_of(rows, places)]
    for place in _evenly([place for place in front if place not in wanted], MOST_POINTS - len(wanted)):
        wanted[place] = "front"
    return wanted


def _neighbours(grid: Grid, place: int) -> Iterator[int]:
    """Yield the places of the points one value away along each axis."""
    sizes = [len(axis.values) for axis in grid.axes]
    for number, size in enumerate(sizes):
        stride = math.prod(sizes[number + 1 :])
        at = place // stride % size
        yield from (place + step * stride for step in (-1, 1) if 0 <= at + step < size)


def _evenly(places: Sequence[int], most: int) -> list[int]:
    """Return at most so many of the places, the first and the last among them, as far apart as they can be."""
    if len(places) <= most:
        return list(places)
    return [places[i * (len(places) - 1) // max(most - 1, 1)] for i in range(most)]
