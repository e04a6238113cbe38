"""A run directory: the files that a demo, a run, a sweep and a validation write, and that reports and comparisons read.

Their names stand here and nowhere else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadahead.reports.sweep_facts import SweepFacts
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import SweepRow

PLAN, COSTS, RESULT, COMPARISON, HORIZONS = "plan.json", "costs.json", "result.json", "comparison.json", "horizons.json"
PREDICTED, MEASURED, WEIGHTS = "predicted.jsonl", "measured.jsonl", "weights.pt"
SWEEP_CSV, SWEEP_PARQUET, SWEEP_FACTS = "sweep.csv", "sweep.parquet", "sweep.json"
SWEEP_JOURNAL, VALIDATION_JOURNAL = "sweep.journal", "journal.jsonl"
EVIDENCE, EVIDENCE_PAGE = "evidence.json", "evidence.md"
PAGE, FIGURES_FOLDER = "report.html", "figures"
# A run and a sweep have these files; the page and the figures are made of them.
SWEEP_FILES = (SWEEP_CSV, SWEEP_PARQUET, SWEEP_FACTS)
FILES = (PLAN, COSTS, RESULT, COMPARISON, HORIZONS, PREDICTED, MEASURED, WEIGHTS, *SWEEP_FILES)


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


def write_sweep(directory: Path, rows: Sequence[SweepRow], facts: SweepFacts | None = None) -> None:
    """Write the sweep's table as CSV and as Parquet, one row per point, and beside it and in it what it says of itself.

    Each file is there whole or not at all. Facts of another table do not stay.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = pd.DataFrame.from_records([row.to_dict() for row in rows])
    table = pa.Table.from_pandas(frame, preserve_index=False)
    (directory / SWEEP_FACTS).unlink(missing_ok=True)
    if facts is not None:
        table = table.replace_schema_metadata({**table.schema.metadata, **facts.metadata()})
    with _replacing(directory / SWEEP_CSV) as path:
        frame.to_csv(path, index=False)
    with _replacing(directory / SWEEP_PARQUET) as path:
        pq.write_table(table, path)
    if facts is not None:
        with _replacing(directory / SWEEP_FACTS) as path:
            path.write_text(facts.model_dump_json(indent=1) + "\n", encoding="utf-8")


def remove_sweep(directory: Path) -> None:
    """Remove a sweep's tables and what they say of themselves, where there are some."""
    for name in SWEEP_FILES:
        (directory / name).unlink(missing_ok=True)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file then takes the place of ``path``."""
    part = path.with_name(f"{path.name}.part")
    yield part
    os.replace(part, path)
