"""A validation's journal (:mod:`loadahead.journal`) keeps every record as soon as it is there.

Its first record, the machine's, is the validation's header (:mod:`loadahead.validation.identity`). Where the validation
goes on on another machine of the same kind, a record with its facts stands before what that machine measured.
"""

from __future__ import annotations

from pathlib import Path

from loadahead import journal
from loadahead.journal import JournalKind, PlacedRecords
from loadahead.progress import ProgressCallback, silent
from loadahead.reports.evidence import FORMAT, SESSION, VERSION, key_of, sessions
from loadahead.reports.evidence_schema import check_record
from loadahead.reports.run_directory import VALIDATION_JOURNAL
from loadahead.validation.identity import differing

Record = journal.Record


class Journal:
    """An open and locked journal; ``records`` are those written so far."""

    def __init__(self, file: journal.Journal, records: list[Record]) -> None:
        self._file, self.records = file, records

    def find(self, kind: str, like: Record) -> Record | None:
        """Return the record of this kind with the same key, or None."""
        key = key_of(kind, like)
        return next((known for known in self.records if known["kind"] == kind and key_of(kind, known) == key), None)

    def append(self, kind: str, record: Record) -> Record:
        """Write one record, to the disk."""
        whole = {"kind": kind} | record
        self._file.append([whole])
        self.records.append(whole)
        return whole

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.__exit__()


def open_journal(
    directory: Path, header: Record, *, fresh: bool = False, progress: ProgressCallback = silent
) -> Journal:
    """Return the directory's journal of the validation with this header; see :func:`loadahead.journal.open_journal`."""
    machine = {"kind": "machine"} | header
    file, records = journal.open_journal(directory, _KIND, machine, fresh=fresh, progress=progress)
    opened = Journal(file, records)
    if header.get("machine") != sessions(opened.records)[-1]:
        opened.append(SESSION, {"machine": header.get("machine")})
    return opened


def _read(machine: Record, records: PlacedRecords) -> list[Record]:
    read = [machine]
    for where, record in records:
        check_record(record, where)
        read.append(record)
    return read


# The header is read as a part of the evidence too, which has the same format and version.
_KIND = JournalKind(
    file=VALIDATION_JOURNAL,
    format=FORMAT,
    version=VERSION,
    work="validation",
    parts="parts",
    differing=differing,
    read=_read,
)
