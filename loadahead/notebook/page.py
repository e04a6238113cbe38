"""Makes what a notebook shows of a result. Every text is escaped, and styles reach no further than the result."""

from __future__ import annotations

from importlib.resources import files

from loadahead.notebook.pictures import drawn_or_said, figure, figures
from loadahead.notebook.sheets import Sheet, sheet_of
from loadahead.notebook.subjects import subject_of
from loadahead.reports.page.markup import Html, element, joined
from loadahead.reports.palette import GROUNDS, declarations
from loadahead.reports.plots.fronts import fronts
from loadahead.reports.plots.panels import Panels
from loadahead.reports.sweep_comparison import SweepComparison
from loadahead.reports.tables import Grid

_CLASS = "loadahead"
# Where a dark theme is on: JupyterLab and Notebook 7, VS Code, marimo.
_DARK = (
    '[data-jp-theme-light="false"]',
    ".vscode-dark",
    ".vscode-high-contrast:not(.vscode-high-contrast-light)",
    ".dark",
)


def html(result: object) -> str | None:
    """Return a result as HTML, which holds all that it needs; None for what has nothing but its line."""
    if isinstance(result, Panels):
        return _box(figure(result.drawing))
    sheet, subject = sheet_of(result), subject_of(result)
    if sheet is None:
        return None
    drawn = [] if subject is None else figures(subject.data, subject.figures)
    if isinstance(result, SweepComparison):
        drawn = [drawn_or_said("fronts", lambda: fronts(result))]
    numbers = [] if sheet.numbers is None else [_table(sheet.numbers)]
    return _box(*_head(sheet), *numbers, *drawn, *map(_table, sheet.tables), *_folded(sheet))


def _box(*parts: Html) -> str:
    return element("div", element("style", Html(_style())), *parts, class_=_CLASS)


def _style() -> str:
    """Return the palette's variables for both grounds, and the rules that use them."""
    light, dark = map(declarations, GROUNDS)
    rules = (files("loadahead.notebook") / "notebook.css").read_text(encoding="utf-8")
    grounds = ", ".join(f"{where} .{_CLASS}" for where in _DARK)
    return f".{_CLASS} {{ {light} }}\n{grounds} {{ {dark} }}\n{rules}"


def _head(sheet: Sheet) -> list[Html]:
    return [
        element("p", element("b", sheet.title), class_="title"),
        *(element("p", sentence) for sentence in sheet.sentences),
        *(element("p", warning, class_="warning") for warning in sheet.warnings),
    ]


def _folded(sheet: Sheet) -> list[Html]:
    return [element("details", element("summary", title), *map(_table, grids)) for title, grids in sheet.folded.items()]


def _table(grid: Grid) -> Html:
    def row(cells: tuple[str, ...], cell: str, **attributes: str) -> Html:
        shown = [
            element(cell, text, **({"class_": "text"} if place in grid.text_columns else {}))
            for place, text in enumerate(cells)
        ]
        return element("tr", *shown, **attributes)

    body = [row(cells, "td", **({"class_": "best"} if i in grid.marked else {})) for i, cells in enumerate(grid.rows)]
    head = [element("thead", row(grid.headers, "th"))] if any(grid.headers) else []
    whole = element("div", element("table", *head, element("tbody", *body)), class_="scroll")
    return joined(whole, element("p", grid.note, class_="note")) if grid.note else whole
