"""A sweep from its grid to its rows: what was finished before is taken over, the rest simulated and kept at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.reports import run_directory
from loadahead.sim.errors import Interrupted
from loadahead.sim.stall_free import stall_free_groups
from loadahead.sim.step_metrics import SweepRow
from loadahead.sweeps.grid import Grid
from loadahead.sweeps.journal import Journal, open_journal
from loadahead.sweeps.workers import Workers, evaluate_all


def rows_of(
    grid: Grid,
    engine: str,
    workers: Workers | None = None,
    journal: Journal | None = None,
    progress: ProgressCallback = silent,
) -> list[SweepRow]:
    """Return every point's row, in the grid's order. Finished ones come from the journal, new ones go there."""
    rows: dict[int, SweepRow] = {} if journal is None else journal.rows
    before, total = len(rows), len(grid)
    if before == total:
        return [rows[number] for number in range(total)]
    grid.calibrate(rows)
    # The numbers to leave out are those of the start: joblib draws points while rows come in.
    results = evaluate_all(grid.points(frozenset(rows)), engine, workers or Workers())
    what = f"simulating {total - before} plans"
    progress(Progress(what, before, total))
    with closing(results):
        for finished in results:
            if journal is None:
                rows.update(finished)
            else:
                journal.append(finished)
            progress(Progress(what, len(rows), total))
    return [rows[number] for number in range(total)]


def rows_in(
    directory: Path,
    grid: Grid,
    engine: str,
    workers: Workers,
    *,
    fresh: bool = False,
    progress: ProgressCallback = silent,
) -> list[SweepRow]:
    """Return the same rows, with a journal in the directory, where the tables are written at the end."""
    specification = grid.specification(engine)
    run_directory.make(directory)
    with open_journal(directory, specification, grid.with_own_columns, fresh=fresh, progress=progress) as journal:
        told = run_directory.earlier_files(
            directory, run_directory.OF_SWEEP, own=run_directory.OF_SWEEP if journal.rows else ()
        )
        if told is not None:
            progress(Progress(told))
        if len(journal.rows) < len(grid):
            # Tables that are there are another sweep's, and would pass for this one's until it is done.
            run_directory.remove_sweep(directory)
        if journal.rows:
            taken = f"{len(journal.rows)} of {len(grid)} points were finished before and are taken over"
            progress(Progress(f"{directory}: {taken}"))
        grid.sweep.known |= journal.costs
        grid.sweep.keep = journal.append_costs
        grid.warn_of_known_costs()
        with _saying_how_to_go_on(directory, journal):
            rows = rows_of(grid, engine, workers, journal, progress)
        run_directory.write_sweep(directory, rows, grid.facts(engine))
    return rows


@contextmanager
def _saying_how_to_go_on(directory: Path, journal: Journal) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted; {len(journal.rows)} of {journal.points} points are kept in {directory}, "
            "the same sweep goes on from there"
        ) from error


def stall_free_horizons(rows: Sequence[SweepRow]) -> list[dict[str, Any]]:
    """Return the smallest swept horizon without prefetch stalls for each combination of the other axes.

    Each is ``{"axes", "found"}``; empty where just one horizon of each was swept: that says nothing of smaller ones.
    """
    groups = stall_free_groups(rows, list(rows[0].axes)) if rows else []
    if len(groups) == len(rows):
        return []
    return [{"axes": values, "found": None if answer is None else answer.to_dict()} for values, answer in groups]
