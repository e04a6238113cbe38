"""`loadahead report`: one page from a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json


def report(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The -o directory of demo, execute or sweep.", show_default=False)
    ],
    json_wanted: Json = False,
) -> None:
    """Write a run directory's page of plots and numbers."""
    from cli.output import emit, say
    from reports.page import write_report

    page = write_report(directory)
    if json_wanted:
        emit({"directory": str(directory), "report": str(page)})
    else:
        say(f"report: {page}")
