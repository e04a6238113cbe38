"""A sweep's journal: its finished points, appended as they come, so that a sweep can go on wherever it was stopped.

JSON lines: a header with the sweep's specification, then ``{"point": number, "row": {...}}`` for each finished point,
and ``{"calibrated": key, "costs": {...}}`` for costs measured on the way, without which later rows would not fit
earlier ones. Whole lines are appended by one write() each, so that a process killed at any moment leaves at most one
torn line, at the end. The journal stays when the sweep is finished; its lock lies on the file itself and dies with the
process.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loadahead.sim.costs import Costs
from loadahead.sim.errors import InputError
from loadahead.sim.schema_errors import schema_error_line
from loadahead.sweeps.grid import digest

NAME = "sweep.journal"
FORMAT, VERSION = "loadahead-sweep", 1

Row = dict[str, Any]


@dataclass(slots=True)
class Journal:
    """An open and locked journal. ``rows`` are the finished points by number."""

    path: Path
    points: int
    descriptor: int
    rows: dict[int, Row] = field(default_factory=dict)
    costs: dict[str, Costs] = field(default_factory=dict)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def append(self, finished: Iterable[tuple[int, Row]]) -> None:
        """Keep these points."""
        finished = list(finished)
        self._write([{"point": number, "row": row} for number, row in finished])
        self.rows.update(finished)

    def append_costs(self, key: str, costs: Costs) -> None:
        """Keep what was calibrated."""
        self._write([{"calibrated": key, "costs": costs.model_dump(mode="json")}])
        self.costs[key] = costs

    def _write(self, records: list[dict[str, Any]]) -> None:
        # A shorter write than asked for, on a full disk, leaves a torn line; the rest goes on where it ended, or fails.
        left = memoryview("".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode())
        try:
            while left:
                left = left[os.write(self.descriptor, left) :]
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); finished points are kept, the same sweep goes on"
            ) from error


def open_journal(directory: Path, specification: dict[str, Any], points: int, *, fresh: bool = False) -> Journal:
    """Return the directory's journal of this sweep, locked; with the points it holds already, unless ``fresh``.

    InputError when another process works on it, when it is another sweep's, or when it is damaged.
    """
    path = directory / NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    journal = Journal(path, points, descriptor)
    try:
        _lock(path, descriptor)
        whole = b"" if fresh else _whole_lines(path)
        os.ftruncate(descriptor, len(whole))
        if whole:
            _read(journal, whole, specification)
        else:
            journal._write([_header(specification, points)])
    except BaseException:
        os.close(descriptor)
        raise
    return journal


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"{path.parent}: another sweep works there; wait for it or use another directory", parameters=("directory",)
        ) from error


def _whole_lines(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]


def _header(specification: dict[str, Any], points: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": digest(specification),
        "points": points,
        "specification": specification,
    }


def _read(journal: Journal, content: bytes, specification: dict[str, Any]) -> None:
    lines = enumerate(content.splitlines(), 1)
    _check_header(journal, next(_records(journal.path, lines))[1], specification)
    for line, record in _records(journal.path, lines):
        if "point" in record:
            _take_point(journal, line, record)
        else:
            _take_costs(journal, line, record)


def _records(path: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _damaged(path, number, "is not JSON") from error
        if not isinstance(record, dict):
            raise _damaged(path, number, "is not an object")
        yield number, record


def _damaged(path: Path, line: int, what: str) -> InputError:
    return InputError(
        f"{path} line {line}: {what}; start the sweep afresh, or use another directory",
        parameters=("fresh", "directory"),
    )


def _check_header(journal: Journal, header: dict[str, Any], specification: dict[str, Any]) -> None:
    if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
        raise _damaged(journal.path, 1, f"is not the header of a {FORMAT} file of version {VERSION}")
    if (header.get("fingerprint"), header.get("points")) == (digest(specification), journal.points):
        return
    known = header.get("specification")
    known = known if isinstance(known, dict) else {}
    differing = [name for name, value in specification.items() if known.get(name) != value]
    raise InputError(
        f"{journal.path.parent}: holds another sweep (other {', '.join(differing) or 'points'}); start "
        "afresh to replace it, or use another directory",
        parameters=("fresh", "directory"),
    )


def _take_point(journal: Journal, line: int, record: dict[str, Any]) -> None:
    number, row = record["point"], record.get("row")
    if type(number) is not int or not 0 <= number < journal.points or not isinstance(row, dict):
        raise _damaged(journal.path, line, f"point {number!r:.20} is none of this sweep's {journal.points}")
    if number in journal.rows:
        raise _damaged(journal.path, line, f"point {number} stands there twice")
    journal.rows[number] = row


def _take_costs(journal: Journal, line: int, record: dict[str, Any]) -> None:
    try:
        journal.costs[str(record.get("calibrated"))] = Costs.model_validate_json(json.dumps(record.get("costs")))
    except ValidationError as error:
        raise _damaged(journal.path, line, f"costs: {schema_error_line(error, 'costs')}") from error
