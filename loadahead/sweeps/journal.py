"""A sweep's journal (:mod:`loadahead.journal`) keeps its finished points.

Its records are ``{"point": number, "row": {...}}`` for each finished point, and ``{"calibrated": key, "costs": {...}}``
for costs measured on the way, without which later rows would not fit earlier ones. The journal stays when the sweep is
finished.

Sweeps whose specifications differ in the values of their axes alone may have points in common. Each journal numbers its
own: a sweep that has more values, fewer, or others takes over the points that it finds in the journals before, under
its own numbers, with the costs that they were simulated with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
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

# Version 4: the scenario lacks the axes' keys, and a module's shapes stand by the number of microbatches.
# Version 6: rows say how many replicas there are, and tokens per second and MFU.
FORMAT, VERSION = "loadahead-sweep", 6
AXES, SHAPES = "axes", "model's shapes"

# Returns a point's row as the sweep's own table has it, of its number and the row of an equal point of another sweep.
OwnColumns = Callable[[int, SweepRow], SweepRow]


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
        self.file.append(_point(number, row) for number, row in finished)
        self.rows.update(finished)

    def append_costs(self, key: str, costs: Costs) -> None:
        """Keep what was calibrated."""
        self.file.append([_calibrated(key, costs)])
        self.costs[key] = costs

    def take_over(self, specification: Record, own_columns: OwnColumns) -> None:
        """Keep the points of this sweep that the journals before it hold, and the costs that go with them.

        The last of them counts. One whose points were simulated with other costs is left alone.
        """
        for known, other in journal.earlier(self.file, specification):
            if len(self.rows) == self.points:
                return
            if any(other.costs.get(key, costs) != costs for key, costs in self.costs.items()):
                continue
            own_number = _own_numbers(known, specification)
            rows: dict[int, SweepRow] = {}
            for number, row in other.rows.items():
                own = own_number(number)
                if own is not None and own not in self.rows:
                    rows[own] = own_columns(own, row)
            if not rows:
                continue
            costs = {key: value for key, value in other.costs.items() if key not in self.costs}
            # The costs come first: killed within this write, no point is there without those it was simulated with.
            records = [_calibrated(key, value) for key, value in costs.items()]
            self.file.append([*records, *(_point(number, row) for number, row in sorted(rows.items()))])
            self.costs |= costs
            self.rows |= rows


def _point(number: int, row: SweepRow) -> Record:
    return {"point": number, "row": row.to_dict()}


def _calibrated(key: str, costs: Costs) -> Record:
    return {"calibrated": key, "costs": costs.model_dump(mode="json")}


def open_journal(
    directory: Path,
    specification: Record,
    own_columns: OwnColumns,
    *,
    fresh: bool = False,
    progress: ProgressCallback = silent,
) -> Journal:
    """Return the directory's journal of this sweep, see :func:`loadahead.journal.open_journal`.

    ``specification["axes"]`` holds each axis' key and values. Points that earlier sweeps have finished stand in it.
    """
    opened, kept = journal.open_journal(directory, _KIND, specification, fresh=fresh, progress=progress)
    made = Journal(opened, _points(specification), kept.rows, kept.costs)
    try:
        made.take_over(specification, own_columns)
    except BaseException:
        made.__exit__()
        raise
    return made


def _differing(known: Record, wanted: Record) -> list[str]:
    return [name for name in known | wanted if name not in known or known[name] != wanted.get(name)]


def _akin(known: Record, wanted: Record) -> bool:
    """Return whether two sweeps have the same axes, over whichever values, and are equal beside them."""
    if not set(_differing(known, wanted)) <= {AXES, SHAPES} or _axes(known).keys() != _axes(wanted).keys():
        return False
    ours, theirs = wanted[SHAPES], known[SHAPES]
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        return bool(ours == theirs)
    return all(ours[number] == theirs[number] for number in ours.keys() & theirs.keys())


def _axes(specification: Record) -> dict[str, list[str]]:
    """Return each axis' values by its key, as JSON; InputError where a file holds something else."""
    axes = specification.get(AXES)
    if not isinstance(axes, list) or not all(_is_axis(axis) for axis in axes):
        raise InputError(f"axes is {axes!r:.60}; it must be a list of keys and values")
    return dict(axes)


def _is_axis(axis: object) -> bool:
    match axis:
        case [str(), [*values]] if values:
            return all(isinstance(value, str) for value in values)
    return False


def _points(specification: Record) -> int:
    return math.prod(map(len, _axes(specification).values()))


def _own_numbers(known: Record, wanted: Record) -> Callable[[int], int | None]:
    """Return what gives the wanted sweep's number of a point of the known one; None where it has no such point."""
    theirs, ours = _axes(known), _axes(wanted)
    steps: dict[str, tuple[dict[str, int], int]] = {}
    step = 1
    for key, listed in reversed(ours.items()):
        steps[key] = {value: place for place, value in enumerate(listed)}, step
        step *= len(listed)
    walked = [(listed, *steps[key]) for key, listed in reversed(theirs.items())]

    def own_number(number: int) -> int | None:
        own = 0
        for listed, places, step in walked:
            number, at = divmod(number, len(listed))
            place = places.get(listed[at])
            if place is None:
                return None
            own += place * step
        return own

    return own_number


def _read(specification: Record, records: PlacedRecords) -> Kept:
    kept, points = Kept(), _points(specification)
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


_KIND = JournalKind(
    file=SWEEP_JOURNAL,
    format=FORMAT,
    version=VERSION,
    work="sweep",
    parts="points",
    differing=_differing,
    read=_read,
    akin=_akin,
)
