"""Lets results show themselves in notebooks. Whoever draws them stands above this folder and is imported when asked."""

from __future__ import annotations

from html import escape
from importlib import import_module

# The module whose ``html`` makes a result's HTML. Its name alone is known here: plans and timelines are made and kept
# where there is nothing to draw with.
RENDERER = "loadahead.notebook"


class Shown:
    """Is shown as a line by ``repr`` and as HTML by notebooks. Neither raises, whatever a file made the result hold."""

    __slots__ = ()

    def _in_a_line(self) -> str:
        """Return what ``repr`` says behind the name of the class, e.g. ``" of 'demo': 8 microbatches"``."""
        raise NotImplementedError

    def __repr__(self) -> str:
        name = type(self).__name__
        try:
            return f"<{name}{self._in_a_line()}>"
        except Exception as error:
            return f"<{name} that cannot be told in a line ({type(error).__name__})>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows, which is the line where nothing else can be made."""
        try:
            shown = import_module(RENDERER).html(self)
        except Exception:
            shown = None
        return shown if isinstance(shown, str) else f"<pre>{escape(repr(self))}</pre>"
