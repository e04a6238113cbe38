"""A journal keeps the records of long work as they come, so that the work goes on wherever it was stopped.

It is made of JSON lines: a header, which is the work's specification with a format and its version, then the records.
Whole lines are appended by one write() and are on the disk before the work goes on, so that a process killed at any
moment leaves at most one torn line, at the end, which the next process cuts off.

The same specification goes on behind what is there. Where another one was there, or the work is to start afresh, the
journal before is kept under another name, ``sweep-1.journal`` beside ``sweep.journal``, and is taken up again when its
specification is wanted again. Work of which parts were done before under another specification finds their records with
:func:`earlier`. No record is ever thrown away.

One process at a time works on a journal. The lock lies on a file of its own, since journals change their names, and
dies with the process.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.sim.errors import InputError

Record = dict[str, Any]
# Each record behind the header, with where it stands for errors about it.
PlacedRecords = Iterator[tuple[str, Record]]
# The header of a journal that was started afresh has this key: what was put aside before is of no use to it.
_FRESH = "afresh"
Content = TypeVar("Content")


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalKind(Generic[Content]):
    """Says what one kind of journal is called and what it holds.

    Attributes:
        file: the journal's name in its directory.
        format: what its header calls it.
        version: the format's version.
        work: the work that it keeps the records of, in a word.
        parts: what the work's records are of, in a word.
        differing: a function that returns in what two specifications differ, the one found first; nothing where they
            are of the same work.
        read: a function that makes of a specification and the records behind it what the work needs; InputError,
            beginning with where the record stands, for one that is damaged.
        akin: a function that returns whether records of one specification may be of use for another; None: none are.
    """

    file: str
    format: str
    version: int
    work: str
    parts: str
    differing: Callable[[Record, Record], list[str]]
    read: Callable[[Record, PlacedRecords], Content]
    akin: Callable[[Record, Record], bool] | None = None


@dataclass(frozen=True, slots=True)
class Journal:
    """An open and locked journal, to which records are appended until it is left."""

    path: Path
    kind: JournalKind[Any]
    _descriptor: int
    _lock: int

    def append(self, records: Iterable[Record]) -> None:
        """Keep these records, all of them or none; InputError where the disk takes no more."""
        left = memoryview("".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode())
        before = os.fstat(self._descriptor).st_size
        try:
            # On a full disk a write may be shorter than asked for; the next one goes on where it ended, or fails.
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with suppress(OSError):  # a torn line is cut off at the next start as well
                os.ftruncate(self._descriptor, before)
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); finished {self.kind.parts} are kept, the same "
                f"{self.kind.work} goes on"
            ) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        _unlock(self.path, self._lock)


def open_journal(
    directory: Path,
    kind: JournalKind[Content],
    specification: Record,
    *,
    fresh: bool = False,
    progress: ProgressCallback = silent,
) -> tuple[Journal, Content]:
    """Return the directory's journal of the work that is specified so, and what it holds already.

    Any other journal that was there, and with ``fresh`` whatever was there, is kept under another name; ``progress`` is
    told in one line. InputError when another process works on the journal, or when it is damaged.
    """
    path = directory / kind.file
    wanted = json.loads(json.dumps(specification))
    lock = _locked(path, kind.work)
    try:
        held = _made_current(path, kind, wanted, fresh, progress)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except BaseException:
        _unlock(path, lock)
        raise
    journal = Journal(path=path, kind=kind, _descriptor=descriptor, _lock=lock)
    try:
        os.ftruncate(descriptor, 0 if held is None else held.nbytes)
        if held is None:
            afresh = {_FRESH: True} if fresh and kind.akin is not None else {}
            journal.append([{"format": kind.format, "version": kind.version} | afresh | wanted])
    except BaseException:
        journal.__exit__()
        raise
    return journal, kind.read(wanted, iter(())) if held is None else held.content


def earlier(journal: Journal, specification: Record) -> Iterator[tuple[Record, Any]]:
    """Yield specification and content of each journal that was put aside and is akin to this one, the last first.

    There are none from before one that was started afresh, which may be this one. Damaged ones are left where they are.
    """
    path, kind = journal.path, journal.kind
    wanted = json.loads(json.dumps(specification))
    if _parsed(f"{path} line 1", _first_line(path)).get(_FRESH):
        return
    for _, aside in sorted(_asides(path), reverse=True):
        if not _is_akin(aside, kind, wanted):
            continue
        header = _parsed(f"{aside} line 1", _first_line(aside))
        with suppress(InputError, OSError):
            held = _held(aside, kind)
            yield _specification(header), held.content
        if header.get(_FRESH):
            return


@dataclass(frozen=True, slots=True)
class _Held(Generic[Content]):
    """Holds what was made of a journal's file, and how many bytes its whole lines have."""

    content: Content
    nbytes: int


def _made_current(
    path: Path, kind: JournalKind[Content], wanted: Record, fresh: bool, progress: ProgressCallback
) -> _Held[Content] | None:
    """Give the wanted journal, where there is one, its name, and keep any other that has it under a new name."""
    begun = path.exists() and bool(_first_line(path))
    other: list[str] = []
    if begun and not fresh:
        with _saying_what_to_do(kind.work):
            other = _differing(path, kind, wanted)
            if not other:
                return _held(path, kind)
    aside, held = (None, None) if fresh else _wanted_aside(path, kind, wanted)
    said = "starts anew" if aside is None else f"goes on with {aside.name}, which was kept of this {kind.work}"
    if aside is None and not fresh and any(_is_akin(kept, kind, wanted) for _, kept in _asides(path)):
        said = "begins a new journal"  # which may take over what was kept in these
    if other and aside is None and _is_akin(path, kind, wanted):
        said = f"goes on with other {', '.join(other)}"
    elif other:
        said += f", as another {kind.work} was there (other {', '.join(other)})"
    # Killed between the two steps, no journal has the name, and the next process finds both among those put aside.
    if begun:
        said += f"; the journal before is kept as {_put_aside(path).name}"
    if aside is not None:
        os.replace(aside, path)
    if begun or aside is not None:
        progress(Progress(f"{path.parent}: {said}"))
    return held


@contextmanager
def _saying_what_to_do(work: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(
            f"{error}; start the {work} afresh, or use another directory", parameters=("fresh", "directory")
        ) from error


def _wanted_aside(
    path: Path, kind: JournalKind[Content], wanted: Record
) -> tuple[Path, _Held[Content]] | tuple[None, None]:
    """Return the wanted journal that was put aside last; a damaged one is left where it is."""
    for _, aside in sorted(_asides(path), reverse=True):
        with suppress(InputError, OSError):
            if not _differing(aside, kind, wanted):
                return aside, _held(aside, kind)
    return None, None


def _asides(path: Path) -> list[tuple[int, Path]]:
    """Return the number and the path of every journal that was put aside."""
    pattern = re.compile(rf"{re.escape(path.stem)}-(\d+){re.escape(path.suffix)}")
    matches = ((pattern.fullmatch(other.name), other) for other in path.parent.iterdir())
    return [(int(match[1]), other) for match, other in matches if match]


def _put_aside(path: Path) -> Path:
    """Rename a journal and return its new name, whose number is higher than that of any put aside before."""
    number = max((number for number, _ in _asides(path)), default=0) + 1
    return path.rename(path.with_name(f"{path.stem}-{number}{path.suffix}"))


def _differing(path: Path, kind: JournalKind[Any], wanted: Record) -> list[str]:
    """Return in what the work that a journal is of differs from the wanted one; InputError where it does not say."""
    where = f"{path} line 1"
    header = _parsed(where, _first_line(path))
    if header.get("format") != kind.format:
        raise InputError(f"{where}: is not the header of a {kind.format} file")
    if header.get("version") != kind.version:
        return ["format version"]  # whatever else it holds may have another meaning
    return kind.differing(_specification(header), wanted)


def _is_akin(path: Path, kind: JournalKind[Any], wanted: Record) -> bool:
    """Return whether records of a journal may be of use for the wanted one; of a damaged one none are."""
    if kind.akin is None:
        return False
    with suppress(InputError, OSError):
        header = _parsed(str(path), _first_line(path))
        if (header.get("format"), header.get("version")) == (kind.format, kind.version):
            return kind.akin(_specification(header), wanted)
    return False


def _specification(header: Record) -> Record:
    return {key: value for key, value in header.items() if key not in ("format", "version", _FRESH)}


def _held(path: Path, kind: JournalKind[Content]) -> _Held[Content]:
    """Return what a journal's file holds; InputError, beginning with where it stands, for a damaged line."""
    content = path.read_bytes()
    header, *lines = content.split(b"\n")[:-1]
    places = ((f"{path} line {number}", line) for number, line in enumerate(lines, 2))
    records = ((where, _parsed(where, line)) for where, line in places)
    return _Held(kind.read(_specification(json.loads(header)), records), content.rfind(b"\n") + 1)


def _first_line(path: Path) -> bytes:
    """Return a journal's header with its line break; nothing where the line was not finished."""
    with path.open("rb") as file:
        line = file.readline()
    return line if line.endswith(b"\n") else b""


def _parsed(where: str, line: bytes) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not JSON") from error
    if not isinstance(record, dict):
        raise InputError(f"{where}: is not an object")
    return record


def _locked(path: Path, work: str) -> int:
    """Return the open lock of a journal; InputError where another process holds it."""
    while True:
        descriptor = os.open(_lock_of(path), os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise InputError(
                f"{path.parent}: another {work} works there; wait for it or use another directory",
                parameters=("directory",),
            ) from error
        # Whoever held it may have removed it since it was opened: then it keeps nobody out.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), _lock_of(path).stat()):
                return descriptor
        os.close(descriptor)


def _unlock(path: Path, lock: int) -> None:
    _lock_of(path).unlink(missing_ok=True)
    os.close(lock)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")
