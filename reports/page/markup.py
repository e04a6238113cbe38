"""Makes HTML by small functions.

Text is escaped unless it is :class:`Html` already, so nothing in a file can be markup.
"""

from __future__ import annotations

from html import escape

from loadahead.reports.tables import Grid

_EMPTY = frozenset({"img", "meta"})

STYLE = """
:root { --ink: #1f2933; --quiet: #5b6770; --line: #dde3e8; --pale: #f4f6f8; --mark: #e8f2fa; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: white; font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans",
  sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 44px 0 8px; padding-top: 12px; border-top: 1px solid var(--line); }
p { max-width: 75ch; margin: 8px 0; }
.lead, .note, figcaption { color: var(--quiet); }
.note, figcaption { font-size: 14px; max-width: 90ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; margin: 24px 0; }
.tile { background: var(--pale); border-radius: 8px; padding: 14px 16px; }
.tile b { display: block; font-size: 22px; line-height: 1.35; font-weight: 600; }
.tile span { display: block; font-size: 14px; color: var(--quiet); }
.warning { border-left: 4px solid #d55e00; background: #fdf3ec; padding: 8px 14px; border-radius: 0 6px 6px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 12px 0; font-size: 14.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; text-align: right; white-space: pre; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 500; vertical-align: bottom; }
th.text, td.text { text-align: left; }
tr.best td { background: var(--mark); font-weight: 600; }
tr.best td:first-child { box-shadow: inset 3px 0 var(--accent); }
td:first-child, th:first-child { padding-left: 10px; }
figure { margin: 20px 0 32px; }
figure img { width: 100%; height: auto; display: block; }
h3 { font-size: 16px; margin: 24px 0 4px; }
summary { cursor: pointer; color: var(--accent); }
pre { background: var(--pale); padding: 12px 16px; border-radius: 8px; overflow-x: auto; font-size: 14px; }
a { color: var(--accent); }
@media print { main { max-width: none; padding: 0; } h2 { break-after: avoid; } figure, table { break-inside: avoid; } }
"""


class Html(str):
    """Is markup; every other string is text."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str) -> Html:
    """Return ``<name attributes>children</name>``; ``class_`` stands for ``class``."""
    pairs = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items())
    if name in _EMPTY:
        return Html(f"<{name}{pairs}>")
    return Html(f"<{name}{pairs}>{joined(*children)}</{name}>")


def joined(*children: str) -> Html:
    """Return the children one after the other."""
    return Html("".join(child if isinstance(child, Html) else escape(child, quote=False) for child in children))


def table(grid: Grid) -> Html:
    """Return a grid as a table, its note below."""

    def row(cells: tuple[str, ...], cell: str, **attributes: str) -> Html:
        shown = [
            element(cell, text, class_="text") if index in grid.text_columns else element(cell, text)
            for index, text in enumerate(cells)
        ]
        return element("tr", *shown, **attributes)

    body = [row(cells, "td", **({"class_": "best"} if i in grid.marked else {})) for i, cells in enumerate(grid.rows)]
    whole = element("table", element("thead", row(grid.headers, "th")), element("tbody", *body))
    note = element("p", grid.note, class_="note") if grid.note else Html()
    return joined(element("div", whole, class_="scroll"), note)


def page(title: str, *children: str) -> str:
    """Return a whole document that needs no other file."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(STYLE)),
    )
    return f"<!doctype html>\n{element('html', head, element('body', element('main', *children)), lang='en')}\n"
