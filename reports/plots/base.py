"""Defines what a plot is: a function from a run and a layout to a figure with a caption, or to why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from loadahead.reports.plots.style import styled
from loadahead.reports.run_data import RunData
from loadahead.reports.tables import Grid
from loadahead.reports.views.base import Missing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Layout(Enum):
    """Says for which width a figure is laid out: a page's, or a phone's, whose panels stand below each other."""

    WIDE = "wide"
    NARROW = "narrow"

    @property
    def width_inches(self) -> float:
        """Return the figure's width; text is set in points of that size."""
        return {Layout.WIDE: 10.0, Layout.NARROW: 3.7}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Holds a figure, its title, and what to see in it.

    ``numbers`` is what is drawn as a table, where that is short; ``files`` names those of a run directory that it is
    drawn from.
    """

    figure: Figure
    title: str
    caption: str
    numbers: Grid | None = None
    files: tuple[str, ...] = ()

    def settle(self) -> None:
        """Lay the figure out once and for all; else every saving does it anew, twice, and comes to the same."""
        engine = self.figure.get_layout_engine()
        if engine is not None:
            with styled():
                engine.execute(self.figure)
                self.figure.set_layout_engine(None)

    def save(self, path: str | Path) -> None:
        """Write the figure as PNG, SVG or whatever the path's ending says."""
        with styled():
            self.figure.savefig(path)


class Plot(Protocol):
    """Draws a run in a layout, or says why there is nothing to draw."""

    def __call__(self, data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
        """Return the figure."""
        ...


__all__ = ["Drawing", "Layout", "Missing", "Plot"]
