"""Prints tables as plain text."""

from __future__ import annotations

import io

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from loadahead.reports.tables import Grid

# What is no table is wrapped at this width, and a table that fits into it is no wider.
WIDTH = 120


def table_text(grid: Grid, title: str = "", width: int = WIDTH) -> str:
    """Return the table as plain text, without colour; ``*`` marks the best rows.

    Nothing of it is cut off: a table that does not fit the width is wider.
    """
    table = Table(title=title or None, title_justify="left", title_style="", box=SIMPLE_HEAD, collapse_padding=True)
    table.pad_edge = False
    marked = bool(grid.marked)
    for index, header in enumerate((*(("",) if marked else ()), *grid.headers)):
        is_text = index - marked in grid.text_columns or (marked and index == 0)
        table.add_column(Text(header), justify="left" if is_text else "right", no_wrap=True)
    for index, row in enumerate(grid.rows):
        mark = ("*" if index in grid.marked else "",) if marked else ()
        table.add_row(*mark, *(Text(cell) for cell in row))
    output = io.StringIO()
    _print(output, table, max(width, _needed(table)))
    if grid.note:
        _print(output, grid.note, width)
    # The box has an empty line above and below.
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()).strip("\n")


def _needed(table: Table) -> int:
    """Return how wide the table is when nothing of it is wrapped or cut."""
    console = _console(io.StringIO(), WIDTH)
    return Measurement.get(console, console.options.update(max_width=100_000), table).maximum


def _print(output: io.StringIO, what: Table | str, width: int) -> None:
    _console(output, width).print(what)


def _console(output: io.StringIO, width: int) -> Console:
    # Markup and highlighting are off, since cells are text, whatever stands in them.
    return Console(file=output, width=width, color_system=None, highlight=False, markup=False, emoji=False)
