"""Shows results in notebooks, as figures and numbers, and draws their figures for a script. Nothing is kept open."""

from loadahead.notebook.page import html
from loadahead.notebook.plotting import plot

__all__ = ["html", "plot"]
