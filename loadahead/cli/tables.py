"""Prints tables as plain text."""

from __future__ import annotations

import io

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadahead.reports.tables import Grid


def table_text(grid: Grid, title: str = "", width: int = 120) -> str:
    """Return the table as plain text, without colour, at most ``width`` characters wide; ``*`` marks the best row."""
    table = Table(title=title or None, title_justify="left", title_style="", box=SIMPLE_HEAD, collapse_padding=True)
    table.pad_edge = False
    marked = grid.best is not None
    for index, header in enumerate((*(("",) if marked else ()), *grid.headers)):
        is_text = index - marked in grid.text_columns or (marked and index == 0)
        table.add_column(header, justify="left" if is_text else "right", no_wrap=index > 0)
    for index, row in enumerate(grid.rows):
        table.add_row(*(("*" if index == grid.best else "",) if marked else ()), *(Text(cell) for cell in row))
    # Markup and highlighting are off, since cells are text, whatever stands in them.
    output = io.StringIO()
    console = Console(file=output, width=width, color_system=None, highlight=False, markup=False, emoji=False)
    console.print(table)
    if grid.note:
        console.print(grid.note)
    # The box has an empty line above and below.
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()).strip("\n")
