"""Puts figures into a notebook: as SVG that follows its light or dark ground, as PNG where the SVG would be large."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable
from functools import partial

from loadahead.reports.page.markup import Html, element
from loadahead.reports.plots import FIGURES, Drawing, Layout, Missing
from loadahead.reports.plots.style import styled
from loadahead.reports.plots.svg import themed_svg
from loadahead.reports.run_data import RunData

# A notebook's file keeps every output. An SVG has an element for each box, a PNG of the same figure some 100 kB.
LARGEST_SVG = 500_000
# Matplotlib's own rule, which inside a document is about all of it; ``notebook.css`` has it for our figures.
_STYLE = re.compile(r"<style[^>]*>.*?</style>", re.DOTALL)


def figure(drawing: Drawing) -> Html:
    """Return a figure with its title and what to see in it."""
    caption = element("figcaption", element("b", drawing.title), " ", drawing.caption)
    return element("figure", _picture(drawing), caption)


def _picture(drawing: Drawing) -> Html:
    # Ids are those of the page: two figures on one must not share theirs, and the same figure has the same each time.
    name = hashlib.sha256(f"{drawing.title} {drawing.caption}".encode()).hexdigest()[:8]
    svg = _STYLE.sub("", themed_svg(drawing, f"la{name}"))
    if len(svg) <= LARGEST_SVG:
        return Html(svg)
    png = io.BytesIO()
    with styled():
        drawing.figure.savefig(png, format="png")
    encoded = base64.b64encode(png.getvalue()).decode("ascii")
    return element("img", src=f"data:image/png;base64,{encoded}", alt=f"{drawing.title}. {drawing.caption}")


def figures(data: RunData, names: tuple[str, ...]) -> list[Html]:
    """Return the figures of these names that there is something to draw for; what could not be drawn is said.

    A notebook shows numbers whatever becomes of a picture.
    """
    return [html for name in names if (html := drawn_or_said(name, partial(FIGURES[name], data, Layout.WIDE)))]


def drawn_or_said(name: str, draw: Callable[[], Drawing | Missing]) -> Html:
    """Return a figure; nothing where there is nothing to draw, and what could not be drawn in words."""
    try:
        drawing = draw()
        return figure(drawing) if isinstance(drawing, Drawing) else Html("")
    except Exception as error:
        return element("p", f"The figure {name} could not be drawn: {type(error).__name__}: {error}", class_="note")
