"""Makes a figure's SVG for a page: its colours are the page's variables, so that one picture serves both grounds."""

from __future__ import annotations

import io
import re
from html import escape

import matplotlib as mpl

from loadahead.reports.palette import PALETTE
from loadahead.reports.plots.base import Drawing
from loadahead.reports.plots.style import styled

_VARIABLES = {colour.light.lower(): f"var(--{name})" for name, colour in PALETTE.items()}
_HEX = re.compile(r"#[0-9a-fA-F]{6}\b")
_ID = re.compile(r'( id="|(?:xlink:)?href="#|url\(#)')
_SIZE = re.compile(r' width="[^"]*" height="[^"]*"| height="[^"]*"| width="[^"]*"')


def themed_svg(drawing: Drawing, prefix: str) -> str:
    """Return the figure as an ``<svg>`` element; ``prefix`` keeps its ids apart from those of others on the page."""
    out = io.StringIO()
    with styled(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        drawing.figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = _HEX.sub(lambda found: _VARIABLES.get(found[0].lower(), found[0]), text)
    text = _ID.sub(lambda found: f"{found[1]}{prefix}-", text)
    start, rest = text.split(">", 1)
    label = escape(f"{drawing.title}. {drawing.caption}")
    return f'{_SIZE.sub("", start)} role="img" aria-label="{label}">{rest}'
