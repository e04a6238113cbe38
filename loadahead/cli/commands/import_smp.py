"""`loadahead import-smp`: SageMaker's options as a scenario, and what is predicted of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Json


def import_smp(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="JSON, or a Python file, which is read and not run.", show_default=False),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="A transformer of the catalogue, or a scenario with the model."),
    ] = None,
    machine: Annotated[
        str | None, typer.Option("--machine", metavar="NAME", help="A machine of the catalogue or an instance type.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE|DIR", help="FILE.toml: the scenario. Else a run directory."),
    ] = None,
    json_wanted: Json = False,
) -> None:
    """Make a scenario of SageMaker's options.

    Says what each key became, where each process stands, and what the step will cost.
    """
    from loadahead.cli.command_line import command_line
    from loadahead.cli.hints import page_commands
    from loadahead.cli.output import emit, note, note_earlier_files, say, warn
    from loadahead.cli.progress import shown_progress
    from loadahead.cli.smp_texts import imported_text
    from loadahead.reports import run_directory
    from loadahead.reports.page import write_report
    from loadahead.smp import TOML_SUFFIX, import_options, is_imported, write_imported, write_scenario

    alone = out is not None and out.suffix == TOML_SUFFIX
    with shown_progress() as progress:
        imported = import_options(file, model, machine, progress)
    page = None
    if out is not None and alone:
        if not is_imported(out):
            note(f"{out}: is not a scenario that import-smp wrote, and is replaced")
        write_scenario(imported, out)
    elif out is not None:
        note_earlier_files(out, run_directory.OF_IMPORT)
        write_imported(imported, out, command_line())
        page = write_report(out, page_commands)
    warn(imported.warnings)
    if json_wanted:
        written = {"out": None if out is None else str(out), "report": None if page is None else str(page)}
        emit(imported.to_dict() | written)
        return
    say(imported_text(imported))
    if alone:
        say(f"\nscenario: {out}")
    elif out is not None:
        say(f"\nrun directory: {out}\nreport: {page}")
