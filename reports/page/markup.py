"""Makes HTML by small functions.

Text is escaped unless it is :class:`Html` already, so nothing in a file can be markup. Templates take it as it is.
"""

from __future__ import annotations

import math
from html import escape

from loadahead.reports.page.cell_values import cell_value
from loadahead.reports.tables import Grid

# A table of more rows scrolls in its box, below its headers.
LONGEST_TABLE = 32

_EMPTY = frozenset({"img", "meta"})


class Html(str):
    """Is markup; every other string is text."""

    __slots__ = ()

    def __html__(self) -> Html:
        """Return the markup, by which a template knows not to escape it."""
        return self


def element(name: str, /, *children: str, **attributes: str) -> Html:
    """Return ``<name attributes>children</name>``; ``class_`` stands for ``class`` and ``data_x`` for ``data-x``."""
    pairs = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    if name in _EMPTY:
        return Html(f"<{name}{pairs}>")
    return Html(f"<{name}{pairs}>{joined(*children)}</{name}>")


def joined(*children: str) -> Html:
    """Return the children one after the other."""
    return Html("".join(child if isinstance(child, Html) else escape(child, quote=False) for child in children))


def paragraphs(sentences: list[str]) -> Html:
    """Return a paragraph for each sentence."""
    return joined(*(element("p", sentence) for sentence in sentences))


def links(names: list[str]) -> Html:
    """Return links to files beside the page, one after the other."""
    parts: list[str] = []
    for place, name in enumerate(names):
        parts += [", " if place else "", element("a", name, href=name)]
    return joined(*parts)


def table(grid: Grid, label: str, *, sortable: bool = True) -> Html:
    """Return a grid as a table in a box of its own, its note below; ``label`` says what it is to who does not see it.

    A wide one scrolls in its box, its first column stays. Its headers are buttons that sort by the cells' values.
    """
    rows = [
        element("tr", *_cells(grid, cells), **({"class_": "best"} if place in grid.marked else {}))
        for place, cells in enumerate(grid.rows)
    ]
    head = element("thead", element("tr", *_headers(grid, sortable and len(grid.rows) > 1)))
    parts = [head] if any(grid.headers) else []
    whole = element("table", *parts, element("tbody", *rows), **({"class_": "sortable"} if sortable else {}))
    note = element("p", grid.note, class_="note") if grid.note else Html()
    box = "scroll long" if len(grid.rows) > LONGEST_TABLE else "scroll"
    return joined(element("div", whole, class_=box, tabindex="0", role="region", aria_label=label), note)


def _headers(grid: Grid, sortable: bool) -> list[Html]:
    out = []
    for place, text in enumerate(grid.headers):
        # A column of names needs no header to be seen, and one to be read out.
        shown = element("span", "name", class_="unseen") if not text else joined(text)
        content = element("button", shown, type="button") if sortable else shown
        out.append(element("th", content, scope="col", **({"class_": "text"} if place in grid.text_columns else {})))
    return out


def _cells(grid: Grid, cells: tuple[str, ...]) -> list[Html]:
    """Return a row's cells: the first one is the row's header, numbers have their value beside their text."""
    out = []
    for place, text in enumerate(cells):
        attributes = {"class_": "text"} if place in grid.text_columns else {}
        value = cell_value(text)
        if value is not None:
            attributes["data_value"] = "Infinity" if math.isinf(value) else f"{value:.17g}"
        name = "td"
        if place == 0:
            name, attributes = "th", {**attributes, "scope": "row"}
        out.append(element(name, text, **attributes))
    return out
