"""Writes a figure as SVG that stands in a page: its colours are the page's variables, its texts stay texts."""

from __future__ import annotations

import io
import re
from html import escape

from loadahead.reports.palette import PALETTE
from loadahead.reports.plots.base import Drawing
from loadahead.reports.plots.style import FONT, styled

_HEX = re.compile(r"#[0-9a-fA-F]{6}\b")
_ID = re.compile(r"""(\bid="|\bhref="#|url\(#)""")
_ATTRIBUTE = re.compile(r"""\b(fill|stroke)="(#[0-9a-fA-F]{6})\"""")
_PATH = re.compile(r' d="[^"]*"')
# A hundredth of a point is finer than any screen.
_FINER = re.compile(r"(\.\d\d)\d+")
_HEAD = re.compile(r"<svg\b[^>]*>")
# Readers whose machine lacks the figures' font get one as wide, so that texts stay where they were laid out.
_AS_WIDE = "Verdana, sans-serif"
_NAMES = {colour.light.lower(): name for name, colour in PALETTE.items()}


def themed_svg(drawing: Drawing, prefix: str) -> str:
    """Return the figure as an ``<svg>`` element.

    Each of the palette's colours becomes ``var(--name)``. Ids begin with ``prefix``, so that several figures stand in
    one page. The element's name for readers who do not see it is title and caption.
    """
    out = io.StringIO()
    import matplotlib as mpl

    with styled(), mpl.rc_context({"svg.fonttype": "none"}):
        # No date: the same figure gives the same text.
        drawing.figure.savefig(
            out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = _PATH.sub(lambda found: _FINER.sub(r"\1", found.group()), text)
    # A variable may stand in a style alone, never in an attribute.
    text = _ATTRIBUTE.sub(r'style="\1: \2"', text)
    text = _ID.sub(lambda found: found.group(1) + prefix + "-", text)
    text = _HEX.sub(_variable, text)
    text = text.replace(f"'{FONT}'", f"'{FONT}', {_AS_WIDE}")
    name = escape(f"{drawing.title}. {drawing.caption}", quote=True)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    # matplotlib's rule for all elements is for those of the figure.
    text = text.replace('<style type="text/css">*{', f'<style type="text/css">#{prefix}-figure *{{')
    head = (
        f'<svg id="{prefix}-figure" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'role="img" aria-label="{name}" {box.group()} width="100%">'
    )
    return _HEAD.sub(lambda _: head, text, count=1).rstrip()


def _variable(found: re.Match[str]) -> str:
    name = _NAMES.get(found.group().lower())
    return found.group() if name is None else f"var(--{name})"
