"""A validation's journal: every record is appended as soon as it is there, so that a killed run keeps what it had.

Its first record is the validation's header (:mod:`loadahead.validation.identity`). The same validation goes on behind
what is there; any other, or one that is to start anew, gets a journal of its own, and the one before keeps its records
under another name.
"""

from __future__ import annotations

import fcntl
import json
import os
from itertools import count
from pathlib import Path
from typing import IO, Any

from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.reports.evidence import JOURNAL, key_of, parsed, read_journal
from loadahead.sim.errors import InputError
from loadahead.validation.identity import differing

Record = dict[str, Any]


class Journal:
    """An open and locked journal; ``records`` are those written so far."""

    def __init__(self, file: IO[bytes], records: list[Record]) -> None:
        self._file, self.records = file, records

    def find(self, kind: str, like: Record) -> Record | None:
        """Return the record of this kind with the same key, or None."""
        key = key_of(kind, like)
        return next((known for known in self.records if known["kind"] == kind and key_of(kind, known) == key), None)

    def append(self, kind: str, record: Record) -> Record:
        """Write one record, to the disk."""
        whole = {"kind": kind} | record
        self._file.write((json.dumps(whole, allow_nan=False) + "\n").encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records.append(whole)
        return whole

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def open_journal(
    directory: Path, header: Record, *, fresh: bool = False, progress: ProgressCallback = silent
) -> Journal:
    """Return the directory's journal of the validation with this header, with its records unless ``fresh``.

    InputError when another process works on it, or when it is damaged.
    """
    path = directory / JOURNAL
    header = json.loads(json.dumps(header))
    file = _locked(path)
    try:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        why = _why_anew(path, whole, header, fresh)
        if why is None:
            os.truncate(path, len(whole))
            return Journal(file, read_journal(path, whole))
        if whole:
            progress(Progress(f"{directory}: {why}; the journal before is kept as {_put_aside(path).name}"))
            file.close()
            file = _locked(path)
        os.truncate(path, 0)
        journal = Journal(file, [])
        journal.append("machine", header)
    except BaseException:
        file.close()
        raise
    return journal


def _why_anew(path: Path, content: bytes, header: Record, fresh: bool) -> str | None:
    """Return why the journal has to start anew; None where it is this validation's."""
    if fresh or not content:
        return "starts anew"
    try:
        # Another version's records may hold other things: whose they are is asked first.
        other = differing(parsed(content.split(b"\n")[0], f"{path} line 1"), header)
        if not other:
            read_journal(path, content)
    except InputError as error:
        raise InputError(
            f"{error}; start the validation afresh, or use another directory", parameters=("fresh", "directory")
        ) from error
    return f"starts anew, as another validation was there (other {', '.join(other)})" if other else None


def _locked(path: Path) -> IO[bytes]:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise InputError(
            f"{path.parent}: another validation works there; wait or use another directory", parameters=("directory",)
        ) from error
    return file


def _put_aside(path: Path) -> Path:
    """Rename a journal and return its new name."""
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(1))
    free = next(name for name in names if not name.exists())
    path.rename(free)
    return free
