"""Tells people which commands make a run directory's files again, and what else can be made of them."""

from __future__ import annotations

from loadahead.reports.page.commands import PageCommands
from loadahead.reports.run_data import RunData
from loadahead.reports.run_directory import COSTS, MEASURED, PLAN, PREDICTED, SCENARIO


def page_commands(data: RunData) -> PageCommands:
    """Return the command lines that a run's page shows, to be given in its directory."""
    return PageCommands(
        again=tuple(reproduction_commands(data)), traces=("loadahead export . --to perfetto -o trace.perfetto-trace",)
    )


def reproduction_commands(data: RunData) -> list[str]:
    """Return the command lines that make the run's files again, to be given in its directory."""
    assert data.directory is not None
    names = {path.name for path in data.directory.iterdir()}
    costs = f" --costs {COSTS}" if COSTS in names else ""
    lines = []
    if SCENARIO in names:
        lines.append(f"loadahead plan {SCENARIO} -o {PLAN}")
    if PLAN in names:
        lines += [f"loadahead verify {PLAN}", f"loadahead simulate {PLAN}{costs}"]
        if data.measured is not None:
            lines.append(f"loadahead execute {PLAN} --device {data.measured.source}{costs} -o again")
    if data.predicted is not None and data.measured is not None:
        lines.append(f"loadahead compare {PREDICTED} {MEASURED}")
    lines.append("loadahead report .")
    return lines
