"""Prints what tuning found: the answer first, then what was tried, the frontier, and what to do next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from loadahead.cli.tables import table_text
from loadahead.reports.run_directory import COSTS, PLAN
from loadahead.reports.tables import NOTHING, Grid
from loadahead.reports.tuning_tables import frontier_grid
from loadahead.sim.choice import SPEED_HEADER, format_speed
from loadahead.sim.tuning import Frontier
from loadahead.sim.units import format_bytes, format_duration

if TYPE_CHECKING:
    from loadahead.tuning import Tuned


def tuning_text(found: Tuned, frontier: Frontier | None, directory: Path | None) -> str:
    """Return what tuning found, for people; ``directory`` is where the plan was written, if it was."""
    parts = [f"{found.job.name}: " + "\n".join(found.sentences)]
    if len(found.tried) > 1:
        policy = found.job.known().policy
        which = "it is" if found.fits else "the nearest is"
        parts[0] += (
            f"\nOf {len(found.tried)} that were tried {which} {policy.pipeline}, {policy.microbatches} microbatches."
        )
        parts.append(table_text(tried_grid(found)))
    if frontier is not None and frontier.points:
        parts.append(table_text(frontier_grid(frontier, found.tuning)))
    parts.append(_next(found, directory))
    return "\n\n".join(parts)


def tried_grid(found: Tuned) -> Grid:
    """Return what was tried as a table; the plan that was chosen is marked."""
    rows, marked = [], set()
    for place, one in enumerate(found.tried):
        row = one.row()
        if one.tuning is found.tuning:
            marked.add(place)
        step, peak = format_duration(row.step_time_ns), format_bytes(row.peak_device_bytes)
        missing = format_bytes(one.tuning.missing.total) if one.tuning.missing.total else NOTHING
        left = f"{row.offloaded} of {row.offloaded + row.kept}"
        rows.append((one.pipeline, str(one.microbatches), format_speed(row), step, peak, left, missing))
    headers = ("pipeline", "microbatches", SPEED_HEADER, "step", "device memory", "leave", "missing")
    return Grid(headers=headers, rows=tuple(rows), marked=frozenset(marked))


def _next(found: Tuned, directory: Path | None) -> str:
    """Return the commands that go on from here."""
    if directory is None:
        return "Next: the same with -o DIR, which keeps the plan to run, show and verify."
    plan, costs = shlex.quote(str(directory / PLAN)), shlex.quote(str(directory / COSTS))
    lines = [f"run directory: {directory} (`loadahead report {directory}` draws it)"]
    if found.fits and found.job.known().scenario.model.needs_shapes:
        return "\n".join([*lines, f"Next: loadahead execute {plan} --costs {costs}"])
    return "\n".join([*lines, f"Next: loadahead simulate {plan} --costs {costs}"])
