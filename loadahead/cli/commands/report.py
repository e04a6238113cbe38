"""`loadahead report`: one page from a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Json


def report(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="The -o directory of demo, execute, simulate, sweep or validate.", show_default=False
        ),
    ],
    json_wanted: Json = False,
) -> None:
    """Write a run directory's page of plots and numbers; for `validate`'s directory its tables and figures anew."""
    from loadahead.cli.hints import page_commands
    from loadahead.cli.output import emit, say, warn
    from loadahead.reports.evidence import has_evidence, read_evidence, write_evidence
    from loadahead.reports.page import write_report
    from loadahead.reports.run_directory import EVIDENCE_PAGE

    if has_evidence(directory):
        write_evidence(read_evidence(directory), directory)
        page = directory / EVIDENCE_PAGE
    else:
        page = write_report(directory, page_commands, warn)
    if json_wanted:
        emit({"directory": str(directory), "report": str(page)})
    else:
        say(f"report: {page}")
