"""A validation in a directory: what an earlier run of it left there is taken over, the rest is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.reports.evidence import assemble, remove_evidence
from loadahead.sim.errors import Interrupted
from loadahead.sim.units import counted
from loadahead.validation.estimate import estimated_seconds
from loadahead.validation.grid import Grid
from loadahead.validation.identity import header
from loadahead.validation.journal import Journal, open_journal
from loadahead.validation.validation import Validation


def evidence_in(
    directory: Path,
    name: str,
    grid: Grid,
    device: str,
    limit_s: float,
    *,
    fresh: bool = False,
    progress: ProgressCallback = silent,
) -> dict[str, Any]:
    """Run what a directory lacks of a validation, and return its evidence; ``fresh`` puts aside whatever is there."""
    with open_journal(directory, header(name, grid, device, limit_s), fresh=fresh, progress=progress) as journal:
        # What was made of fewer records, or of another validation's, would pass for this one's if it were stopped.
        remove_evidence(directory)
        progress(Progress(_about(name, grid)))
        before = _configurations(journal)
        if len(journal.records) > 1:
            progress(Progress(f"{directory}: continues, {before} of them were run before"))
        try:
            return assemble(Validation(grid, device, limit_s, journal, progress).run())
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"interrupted; {_configurations(journal)} of {counted(len(grid.configurations), 'configuration')} "
                f"kept in {directory}, the same validation goes on from there"
            ) from error


def _configurations(journal: Journal) -> int:
    return sum(record["kind"] == "configuration" for record in journal.records)


def _about(name: str, grid: Grid) -> str:
    models = ", ".join(size.name for size in grid.sizes)
    about = f"{counted(len(grid.configurations), 'configuration')} of {models}"
    return f"{about}, on an H100 about {estimated_seconds(grid) / 60:.0f} min" if name == "gpu" else about
