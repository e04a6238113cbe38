"""Finds a figure by its name, and hands its axes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadahead.reports.plots import FIGURES
from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.run_data import RunData
from loadahead.sim.errors import InputError
from loadahead.sim.shown import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Panels(Shown, list["Axes"]):
    """Is the list of a figure's axes, which a notebook shows as the figure. No window and no pyplot state is behind it.

    Attributes:
        drawing: the figure with its title and its caption.
    """

    def __init__(self, drawing: Drawing) -> None:
        """Hold the axes of a figure."""
        super().__init__(drawing.figure.axes)
        self.drawing = drawing

    @property
    def figure(self) -> Figure:
        """The figure that the axes are of: ``panels.figure.savefig("memory.pdf")``."""
        return self.drawing.figure

    def _in_a_line(self) -> str:
        """Return the figure's title, and how many axes it has."""
        return f" of {self.drawing.title!r}: {len(self)} axes"


def layout_named(name: str) -> Layout:
    """Return the layout of this name; InputError for another one."""
    try:
        return Layout(name)
    except ValueError as error:
        allowed = " or ".join(f'"{layout.value}"' for layout in Layout)
        raise InputError(f"layout is {name!r:.40}; it must be {allowed}", parameters=("layout",)) from error


def drawn(data: RunData, name: str, layout: Layout, what: str) -> Drawing:
    """Return the figure of a name; InputError for an unknown one, or where ``what`` has not what it shows."""
    if name not in FIGURES:
        raise InputError(f"{name!r:.40} is no figure; {_that_has(data, what)}", parameters=("name",))
    drawing = FIGURES[name](data, layout)
    if isinstance(drawing, Missing):
        raise InputError(
            f"{what} has no figure {name!r}: {drawing.reason}; {_that_has(data, what)}", parameters=("name",)
        )
    return drawing


def first_drawn(data: RunData, names: Sequence[str], layout: Layout, what: str) -> Drawing:
    """Return the first of the named figures, else of all, that there is something to draw for; InputError for none."""
    for name in dict.fromkeys([*names, *FIGURES]):
        drawing = FIGURES[name](data, layout)
        if isinstance(drawing, Drawing):
            return drawing
    raise InputError(f"{what} has nothing to draw; {_that_has(data, what)}")


def _that_has(data: RunData, what: str) -> str:
    """Say which figures there are, and of the others why there are not."""
    found = {name: plot(data) for name, plot in FIGURES.items()}
    there = [name for name, drawing in found.items() if isinstance(drawing, Drawing)]
    others = [f"{name} ({drawing.reason})" for name, drawing in found.items() if isinstance(drawing, Missing)]
    has = f"{what} has {', '.join(there) or 'none'}"
    return f"{has}; it has not {', '.join(others)}" if others else has
