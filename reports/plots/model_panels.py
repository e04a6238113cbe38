"""Lays out a figure that has a panel of time against memory for each model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loadahead.reports.plots.base import Layout
from loadahead.reports.plots.sheet import sheet, wrapped
from loadahead.reports.plots.style import light_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def model_panels(layout: Layout, count: int) -> tuple[Figure, list[Axes], int]:
    """Return a figure, the axes of so many panels, and how many panels stand beside each other."""
    columns = min(count, 2) if layout is Layout.WIDE else 1
    rows = math.ceil(count / columns)
    figure, grid = sheet(layout, 0.5 + (3.5 if count == 1 else 3.0) * rows, rows, columns)
    every = [axes for line in grid for axes in line]
    for axes in every[count:]:
        axes.set_axis_off()
    return figure, every[:count], columns


def label_panel(axes: Axes, title: str, memory: str, time: str, layout: Layout, columns: int) -> None:
    """Write a panel's title and what its axes show: memory across and time up, each with its unit."""
    axes.set_title(wrapped(title, layout, columns))
    axes.set_xlabel(memory)
    axes.set_ylabel(time)
    light_grid(axes, "both")
