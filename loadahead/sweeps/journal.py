"""A sweep's journal (:mod:`loadahead.journal`) keeps its finished points.

Its records are ``{"point": number, "row": {...}}`` for each finished point, and ``{"calibrated": key, "costs": {...}}``
for costs measured on the way, without which later rows would not fit earlier ones. The journal stays when the sweep is
finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from loadahead import journal
from loadahead.journal import JournalKind, PlacedRecords, Record
from loadahead.progress import ProgressCallback, silent
from loadahead.reports.run_directory import SWEEP_JOURNAL
from loadahead.sim.costs import Costs
from loadahead.sim.errors import InputError
from loadahead.sim.schema_errors import schema_error_line
from loadahead.sim.step_metrics import SweepRow

FORMAT, VERSION = "loadahead-sweep", 4


@dataclass(slots=True)
class Kept:
    """Holds what was kept of a sweep: its finished points' rows by number, and calibrated costs by their key."""

    rows: dict[int, SweepRow] = field(default_factory=dict)
    costs: dict[str, Costs] = field(default_factory=dict)


@dataclass(slots=True)
class Journal:
    """An open and locked journal of a sweep of so many points, with what it holds."""

    file: journal.Journal
    points: int
    rows: dict[int, SweepRow]
    costs: dict[str, Costs]

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.__exit__()

    def append(self, finished: Iterable[tuple[int, SweepRow]]) -> None:
        """Keep these points."""
        finished = list(finished)
        self.file.append({"point": number, "row": row.to_dict()} for number, row in finished)
        self.rows.update(finished)

    def append_costs(self, key: str, costs: Costs) -> None:
        """Keep what was calibrated."""
        self.file.append([{"calibrated": key, "costs": costs.model_dump(mode="json")}])
        self.costs[key] = costs


def open_journal(
    directory: Path,
    specification: Record,
    points: int,
    *,
    fresh: bool = False,
    progress: ProgressCallback = silent,
) -> Journal:
    """Return the directory's journal of this sweep of so many points, see :func:`loadahead.journal.open_journal`."""
    kind = JournalKind(
        file=SWEEP_JOURNAL,
        format=FORMAT,
        version=VERSION,
        work="sweep",
        parts="points",
        differing=_differing,
        read=partial(_read, points),
    )
    opened, kept = journal.open_journal(directory, kind, specification, fresh=fresh, progress=progress)
    return Journal(opened, points, kept.rows, kept.costs)


def _differing(known: Record, wanted: Record) -> list[str]:
    return [name for name in known | wanted if name not in known or known[name] != wanted.get(name)]


def _read(points: int, specification: Record, records: PlacedRecords) -> Kept:
    kept = Kept()
    for where, record in records:
        if "point" in record:
            _take_point(kept, points, where, record)
        else:
            _take_costs(kept, where, record)
    return kept


def _take_point(kept: Kept, points: int, where: str, record: Record) -> None:
    number, row = record["point"], record.get("row")
    if type(number) is not int or not 0 <= number < points or not isinstance(row, dict):
        raise InputError(f"{where}: point {number!r:.20} is none of this sweep's {points}")
    if number in kept.rows:
        raise InputError(f"{where}: point {number} stands there twice")
    try:
        kept.rows[number] = SweepRow.from_dict(row)
    except KeyError as error:
        raise InputError(f"{where}: point {number} lacks the column {error.args[0]}") from error


def _take_costs(kept: Kept, where: str, record: Record) -> None:
    try:
        kept.costs[str(record.get("calibrated"))] = Costs.model_validate_json(json.dumps(record.get("costs")))
    except ValidationError as error:
        raise InputError(f"{where}: costs: {schema_error_line(error, 'costs')}") from error
