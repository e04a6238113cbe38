"""`loadahead export`: what other tools open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadahead.cli.options import Costs, Json


def export(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="PLAN|TIMELINE|DIR",
            help="A plan file, a timeline file, or the -o directory of demo, execute or simulate.",
            show_default=False,
        ),
    ],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="perfetto, chrome or memory-viz.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")],
    side: Annotated[
        str | None,
        typer.Option(
            "--side",
            help="predicted or measured, where a directory has both. Without it a trace has both, memory-viz the "
            "predicted one.",
        ),
    ] = None,
    costs: Costs = None,
    json_wanted: Json = False,
) -> None:
    """Write a trace for Perfetto or Chrome, or a plan's allocations for PyTorch's memory viewer.

    A directory's trace has predicted and measured operations side by side.
    """
    from loadahead.cli.output import emit, say, warn
    from loadahead.exporting import export_subject

    written = export_subject(subject, to, out, side, costs)
    warn(written.notes)
    if json_wanted:
        emit(written.to_dict())
    elif written.allocations is not None:
        more = "".join(f"; --side {side} writes the {side} step's" for side in written.others)
        say(f"{written.format}: {written.path} ({written.sides[0]}, {written.allocations} allocations{more})")
    else:
        parts = f"{written.slices} slices, {written.flows} arrows, {written.samples} values of counters"
        say(f"{written.format}: {written.path} ({' and '.join(written.sides)}, {parts})")
