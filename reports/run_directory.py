"""A run directory: the files that a demo, a run, a sweep and a validation write, and that reports and comparisons read.

Their names stand here and nowhere else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead.reports import about
from loadahead.reports.points import Points
from loadahead.reports.sweep_facts import SweepFacts
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import ROOM_COLUMNS, SPEED_COLUMNS, SweepRow

if TYPE_CHECKING:
    import pandas as pd

PLAN, COSTS, RESULT, COMPARISON, HORIZONS = "plan.json", "costs.json", "result.json", "comparison.json", "horizons.json"
PREDICTED, MEASURED, WEIGHTS = "predicted.jsonl", "measured.jsonl", "weights.pt"
ADVICE, SCENARIO = "advice.json", "scenario.toml"
# What tuning found where it made the plan: the answer, the bound, the frontier.
TUNING = "tuning.json"
# Memory of the same step with every boundary kept, and timelines of some of a sweep's points.
KEEP_ALL, SWEEP_POINTS = "keep_all.jsonl", "points.json"
SWEEP_CSV, SWEEP_PARQUET, SWEEP_FACTS = "sweep.csv", "sweep.parquet", "sweep.json"
# The command line stands apart: equal sweeps have equal tables and facts, whatever folder they are written to.
SWEEP_COMMAND = "sweep_command.json"
SWEEP_JOURNAL, VALIDATION_JOURNAL = "sweep.journal", "journal.jsonl"
EVIDENCE, EVIDENCE_PAGE = "evidence.json", "evidence.md"
# What is written of the comparison of two sweeps.
SWEEP_COMPARISON, FRONTS = "sweep_comparison.json", "fronts.svg"
PAGE, FIGURES_FOLDER = "report.html", "figures"
# A run and a sweep have these files; the page and the figures are made of them.
SWEEP_FILES = (SWEEP_CSV, SWEEP_PARQUET, SWEEP_FACTS, SWEEP_COMMAND, SWEEP_POINTS)
FILES = (
    SCENARIO,
    PLAN,
    COSTS,
    ADVICE,
    TUNING,
    RESULT,
    COMPARISON,
    HORIZONS,
    PREDICTED,
    KEEP_ALL,
    MEASURED,
    WEIGHTS,
    *SWEEP_FILES,
)

# What each kind of work writes of these.
OF_PREDICTION = (PLAN, COSTS, ADVICE, PREDICTED, KEEP_ALL)
OF_TUNING = (PLAN, COSTS, TUNING, PREDICTED, KEEP_ALL)
OF_IMPORT = (SCENARIO, *OF_PREDICTION)
_MEASURED = (MEASURED, WEIGHTS, RESULT, COMPARISON)
OF_RUN, OF_TUNED_RUN = (*OF_PREDICTION, *_MEASURED), (*OF_TUNING, *_MEASURED)
OF_SWEEP = SWEEP_FILES
OF_DEMO = (*OF_RUN, *OF_SWEEP, HORIZONS, PAGE)
# These are about a plan, so that they do not stay beside another one.
_OF_A_PLAN = (ADVICE, TUNING)


def earlier_files(directory: Path, written: Sequence[str], own: Sequence[str] = ()) -> str | None:
    """Return a sentence about files of earlier work in a directory that is about to be written to; None without any.

    ``written`` is what will be written there; ``own`` are files that the new work goes on from, which are no others'.
    """
    there = [name for name in FILES if name not in own and (directory / name).exists()]
    if not there:
        return None
    # A page alone is no run, but beside one it tells of that one.
    there += [PAGE] if (directory / PAGE).exists() and PAGE not in own else []
    replaced = [name for name in there if name in written]
    removed = [name for name in there if name in _OF_A_PLAN and name not in written] if PLAN in written else []
    gone = f", {' and '.join(removed)} removed" if removed else ""
    return (
        f"{directory}: holds files of an earlier run ({', '.join(there)}): those of the same names will be replaced "
        f"({', '.join(replaced) or 'none of these'}){gone}, others stay"
    )


def make(directory: Path) -> Path:
    """Make the directory where it is not there yet, and return it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{directory}: is a file or lies below one; give a directory") from error
    return directory


def require_writable(path: Path) -> None:
    """Raise OSError now, rather than after the work, when a file cannot be written there."""
    before = path.exists()
    with path.open("a", encoding="utf-8"):
        pass
    if not before:
        path.unlink()


def write_json(directory: Path, name: str, content: dict[str, Any]) -> None:
    """Write one JSON object; NaN and infinity are no JSON and must not occur."""
    (directory / name).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def sweep_frame(rows: Sequence[SweepRow]) -> pd.DataFrame:
    """Return the sweep's table, one row per point."""
    import pandas as pd

    table = pd.DataFrame.from_records([row.to_dict() for row in rows])
    # Where some are not known these would become floats, or have no type at all.
    types = dict.fromkeys(ROOM_COLUMNS, "Int64") | dict.fromkeys(SPEED_COLUMNS, "Float64")
    return table.astype({name: type_ for name, type_ in types.items() if name in table})


def write_sweep(
    directory: Path, rows: Sequence[SweepRow], facts: SweepFacts | None = None, command: Sequence[str] = ()
) -> None:
    """Write the sweep's table as CSV and as Parquet, one row per point, and beside it and in it what it says of itself.

    ``command`` is the command line that made it, where one did. Each file is there whole or not at all. Facts, command
    and points of another table do not stay.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = sweep_frame(rows)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for name in (SWEEP_FACTS, SWEEP_COMMAND, SWEEP_POINTS):
        (directory / name).unlink(missing_ok=True)
    if facts is not None:
        table = table.replace_schema_metadata({**table.schema.metadata, **facts.metadata()})
    with _replacing(directory / SWEEP_CSV) as path:
        frame.to_csv(path, index=False)
    with _replacing(directory / SWEEP_PARQUET) as path:
        pq.write_table(table, path)
    if facts is not None:
        with _replacing(directory / SWEEP_FACTS) as path:
            path.write_text(facts.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if command:
        write_json(directory, SWEEP_COMMAND, {about.COMMAND: list(command)})


def write_points(directory: Path, points: Points) -> None:
    """Write the points of a sweep whose memory and operations are kept, beside its tables, whole or not at all."""
    with _replacing(directory / SWEEP_POINTS) as path:
        path.write_text(points.model_dump_json() + "\n", encoding="utf-8")


def remove_sweep(directory: Path) -> None:
    """Remove a sweep's tables, its points and what they say of themselves, where there are some."""
    for name in SWEEP_FILES:
        (directory / name).unlink(missing_ok=True)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file then takes the place of ``path``."""
    part = path.with_name(f"{path.name}.part")
    yield part
    os.replace(part, path)
