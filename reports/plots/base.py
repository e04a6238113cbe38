"""Defines what a plot is: a function from a run to a figure with a caption, or to why there is nothing to draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from loadahead.reports.plots.style import styled
from loadahead.reports.run_data import RunData

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Holds a figure, its title, and what to see in it."""

    figure: Figure
    title: str
    caption: str

    def save(self, path: str | Path) -> None:
        """Write the figure as PNG, SVG or whatever the path's ending says."""
        with styled():
            self.figure.savefig(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Says why there is nothing to draw."""

    title: str
    reason: str


Plot: TypeAlias = Callable[[RunData], Drawing | Missing]
