"""A sweep from its grid to its rows: what was finished before is taken over, the rest simulated and kept at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.reports import run_directory
from loadahead.reports.sweep_facts import SweepFacts
from loadahead.sim.choice import Choice, choices
from loadahead.sim.errors import Interrupted
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.units import counted
from loadahead.sweeps.advice import SweepAdvice, advice_on_sweep
from loadahead.sweeps.grid import Grid
from loadahead.sweeps.journal import Journal, open_journal
from loadahead.sweeps.points import points_of
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
    what = f"simulating {counted(total - before, 'plan')}"
    progress(Progress(what, before, total))
    with closing(results):
        for finished in results:
            if journal is None:
                rows.update(finished)
            else:
                journal.append(finished)
            progress(Progress(what, len(rows), total))
    return [rows[number] for number in range(total)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """Holds a finished sweep: its rows in the grid's order, the choice for each model, the advice, and its facts."""

    rows: tuple[SweepRow, ...]
    choices: tuple[Choice, ...]
    advice: SweepAdvice
    facts: SweepFacts


def run_sweep(
    grid: Grid,
    engine: str,
    workers: Workers,
    *,
    directory: Path | None = None,
    fresh: bool = False,
    command: Sequence[str] = (),
    progress: ProgressCallback = silent,
) -> Swept:
    """Sweep the grid; with a directory its finished points are kept there at once, and its tables at the end.

    ``command`` is the command line that asked for it, where one did; the directory keeps it.
    """
    if directory is None:
        return _swept(grid, engine, rows_of(grid, engine, workers, progress=progress), progress)
    return _run_in(directory, grid, engine, workers, fresh=fresh, command=command, progress=progress)


def _swept(grid: Grid, engine: str, rows: Sequence[SweepRow], progress: ProgressCallback) -> Swept:
    chosen = choices(rows, model_axes=grid.model_axes)
    grid.sweep.warn(grid.beyond_budgets(rows))
    advice = advice_on_sweep(grid, rows, chosen, progress)
    return Swept(
        rows=tuple(rows),
        choices=chosen,
        advice=advice,
        facts=grid.facts(engine, advice.sentences, advice.marked_dict()),
    )


def _run_in(
    directory: Path,
    grid: Grid,
    engine: str,
    workers: Workers,
    *,
    fresh: bool = False,
    command: Sequence[str] = (),
    progress: ProgressCallback = silent,
) -> Swept:
    """Sweep with a journal in the directory, where the tables are written at the end."""
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
            swept = _swept(grid, engine, rows_of(grid, engine, workers, journal, progress), progress)
            points = points_of(grid, swept.rows, swept.choices, directory, progress)
        run_directory.write_sweep(directory, swept.rows, swept.facts, command)
        run_directory.write_points(directory, points)
    return swept


@contextmanager
def _saying_how_to_go_on(directory: Path, journal: Journal) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted; {len(journal.rows)} of {journal.points} points are kept in {directory}, "
            "the same sweep goes on from there"
        ) from error
