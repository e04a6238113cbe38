"""The one journal: what goes on, what is put aside and taken up again, and what a disk or a second process may do."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from loadahead.journal import Journal, JournalKind, PlacedRecords, Record, open_journal
from loadahead.progress import Progress
from loadahead.sim.errors import InputError


def differing(known: Record, wanted: Record) -> list[str]:
    return [key for key in wanted if known.get(key) != wanted[key]]


def read(_: Record, records: PlacedRecords) -> list[int]:
    numbers = []
    for where, record in records:
        if "number" not in record:
            raise InputError(f"{where}: has no number")
        numbers.append(record["number"])
    return numbers


KIND = JournalKind(
    file="count.journal", format="count", version=3, work="count", parts="numbers", differing=differing, read=read
)


def opened(directory: Path, said: list[str] | None = None, fresh: bool = False, **own: Any) -> tuple[Journal, Any]:
    def progress(report: Progress) -> None:
        assert not report.total
        assert said is not None, report
        said.append(report.what)

    return open_journal(directory, KIND, {"by": 1} | own, fresh=fresh, progress=progress)


def keep(directory: Path, *numbers: int, **own: Any) -> list[str]:
    """Append these numbers to the journal of this count, and return what was said."""
    said: list[str] = []
    journal, _ = opened(directory, said, **own)
    with journal:
        journal.append({"number": number} for number in numbers)
    return said


def held(directory: Path, said: list[str] | None = None, **own: Any) -> list[int]:
    journal, numbers = opened(directory, said, **own)
    with journal:
        return list(numbers)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_header_is_the_specification_with_format_and_version(tmp_path: Path) -> None:
    keep(tmp_path, 1, 2)
    lines = [json.loads(line) for line in (tmp_path / KIND.file).read_text().splitlines()]
    assert lines == [{"format": "count", "version": 3, "by": 1}, {"number": 1}, {"number": 2}]


def test_the_same_specification_goes_on_and_nothing_is_said(tmp_path: Path) -> None:
    assert keep(tmp_path, 1, 2) == []
    assert keep(tmp_path, 3) == []
    assert held(tmp_path) == [1, 2, 3]
    assert files(tmp_path).keys() == {KIND.file}


def test_a_specification_is_the_same_as_its_json(tmp_path: Path) -> None:
    keep(tmp_path, 1, pair=(1, 2))
    assert held(tmp_path, pair=[1, 2]) == [1]


def test_wherever_it_is_cut_the_whole_lines_are_taken_over(tmp_path: Path) -> None:
    keep(tmp_path, *range(4))
    path = tmp_path / KIND.file
    content = path.read_bytes()
    header = content.index(b"\n") + 1
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        finished = content[:end].count(b"\n") - 1 if end >= header else 0
        assert held(tmp_path) == list(range(finished))
        keep(tmp_path, *range(finished, 4))
        assert files(tmp_path) == {KIND.file: content}


def test_another_specification_starts_anew_and_what_was_there_is_kept(tmp_path: Path) -> None:
    keep(tmp_path, 1, 2)
    before = (tmp_path / KIND.file).read_bytes()
    assert keep(tmp_path, 7, by=2) == [
        f"{tmp_path}: starts anew, as another count was there (other by); the journal before is kept as count-1.journal"
    ]
    assert (tmp_path / "count-1.journal").read_bytes() == before
    assert held(tmp_path, by=2) == [7]


def test_what_was_put_aside_is_taken_up_again(tmp_path: Path) -> None:
    keep(tmp_path, 1, 2)
    keep(tmp_path, 7, by=2)
    mine, others = (tmp_path / "count-1.journal").read_bytes(), (tmp_path / KIND.file).read_bytes()
    said: list[str] = []
    assert held(tmp_path, said) == [1, 2]
    assert said == [
        f"{tmp_path}: goes on with count-1.journal, which was kept of this count, as another count was there "
        "(other by); the journal before is kept as count-2.journal"
    ]
    assert files(tmp_path) == {KIND.file: mine, "count-2.journal": others}
    assert keep(tmp_path, 3) == []
    assert held(tmp_path, said, by=2) == [7]
    assert held(tmp_path, said) == [1, 2, 3]


def test_fresh_starts_anew_and_keeps_what_was_there(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    assert keep(tmp_path, 2, fresh=True) == [f"{tmp_path}: starts anew; the journal before is kept as count-1.journal"]
    assert held(tmp_path) == [2]
    # What was put aside last is the one that is gone on with.
    keep(tmp_path, 7, by=2)
    said: list[str] = []
    assert held(tmp_path, said) == [2]
    assert "goes on with count-2.journal" in said[0]
    assert (tmp_path / "count-1.journal").read_bytes().endswith(b'{"number": 1}\n')


def test_fresh_does_not_take_up_what_was_put_aside(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    keep(tmp_path, 7, by=2)
    assert held(tmp_path, [], fresh=True) == []
    assert files(tmp_path).keys() == {KIND.file, "count-1.journal", "count-2.journal"}


def test_killed_while_two_change_places_each_is_found_again(tmp_path: Path) -> None:
    """Between the two renamings no journal has the name."""
    keep(tmp_path, 1)
    keep(tmp_path, 7, by=2)
    (tmp_path / KIND.file).rename(tmp_path / "count-2.journal")
    said: list[str] = []
    assert held(tmp_path, said) == [1]
    assert said == [f"{tmp_path}: goes on with count-1.journal, which was kept of this count"]
    assert held(tmp_path, said, by=2) == [7]


def test_a_torn_line_of_what_was_put_aside_is_cut(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    keep(tmp_path, 7, by=2)
    with (tmp_path / "count-1.journal").open("ab") as file:
        file.write(b'{"num')
    keep(tmp_path, 2)
    assert held(tmp_path) == [1, 2]


@pytest.mark.parametrize(
    "damage", [b'{"number": 1}\n', b"[]\n", b"", b'{"format": "count", "version": 3, "by": 1}\n1\n']
)
def test_a_damaged_one_that_was_put_aside_is_left_there(tmp_path: Path, damage: bytes) -> None:
    keep(tmp_path, 7, by=2)
    (tmp_path / "count-4.journal").write_bytes(damage)
    (tmp_path / "count-5.journal").mkdir()
    assert "starts anew" in keep(tmp_path, 1)[0]
    assert (tmp_path / "count-4.journal").read_bytes() == damage
    assert (tmp_path / "count-6.journal").is_file()


def test_another_version_is_put_aside_unread(tmp_path: Path) -> None:
    before = b'{"format": "count", "version": 2, "by": 1}\n{"other": "things"}\n'
    (tmp_path / KIND.file).write_bytes(before)
    assert "(other format version)" in keep(tmp_path)[0]
    assert (tmp_path / "count-1.journal").read_bytes() == before


@pytest.mark.parametrize(
    ("line", "text", "says"),
    [
        (1, '{"format": "other"}', "line 1: is not the header of a count file"),
        (1, "a,b", "line 1: is not JSON"),
        (1, "[]", "line 1: is not an object"),
        (3, '{"number": 1', "line 3: is not JSON"),
        (3, "\xff", "line 3: is not JSON"),
        (3, "[" * 100_000, "line 3: is not JSON"),
        (3, "[]", "line 3: is not an object"),
        (3, "{}", "line 3: has no number"),
    ],
)
def test_a_damaged_journal_is_refused_in_one_line_unless_fresh(tmp_path: Path, line: int, text: str, says: str) -> None:
    keep(tmp_path, 1, 2, 3)
    path = tmp_path / KIND.file
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    content = ("\n".join(lines) + "\n").encode("latin-1")
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        opened(tmp_path)
    assert str(caught.value) == f"{path} {says}; start the count afresh, or use another directory"
    assert caught.value.parameters == ("fresh", "directory")
    assert files(tmp_path) == {KIND.file: content}
    assert held(tmp_path, [], fresh=True) == []
    assert (tmp_path / "count-1.journal").read_bytes() == content


def test_a_short_write_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:5]))
    keep(tmp_path, 1, 20, 300)
    assert held(tmp_path) == [1, 20, 300]


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_is_one_line_and_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    write = os.write

    def full(descriptor: int, data: memoryview | None = None) -> int:
        if data is not None and len(data) > 5:
            return write(descriptor, data[:5])
        raise OSError(28, "No space left on device")

    journal, _ = opened(tmp_path)
    with journal:
        journal.append([{"number": 1}])
        with monkeypatch.context() as patch:
            patch.setattr(os, failing, full)
            with pytest.raises(InputError) as caught:
                journal.append([{"number": 2}, {"number": 3}])
        assert str(caught.value) == (
            f"{journal.path}: cannot be written (No space left on device); finished numbers are kept, the same count "
            "goes on"
        )
        journal.append([{"number": 4}])  # somebody made room
    assert held(tmp_path) == [1, 4]


def test_every_record_is_on_the_disk_before_the_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    path = tmp_path / KIND.file
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes()))
    journal, _ = opened(tmp_path)
    with journal:
        journal.append([{"number": 1}])
        assert synced[-1] == path.read_bytes()
        assert [content.count(b"\n") for content in synced] == [1, 2]


def test_only_one_at_a_time_works_on_a_journal(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    with journal:
        for own in ({}, {"fresh": True}, {"by": 2}):
            with pytest.raises(InputError) as caught:
                opened(tmp_path, **own)
            assert str(caught.value) == f"{tmp_path}: another count works there; wait for it or use another directory"
            assert caught.value.parameters == ("directory",)
    assert files(tmp_path).keys() == {KIND.file}
    assert held(tmp_path) == []


def test_an_error_on_the_way_leaves_the_journal_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(InputError, match="cannot be written"):
            opened(tmp_path)
    assert held(tmp_path) == []
    (tmp_path / KIND.file).write_text("damaged\n")
    with pytest.raises(InputError, match="is not JSON"):
        opened(tmp_path)
    assert held(tmp_path, [], fresh=True) == []


def _work(directory: Path, connection: Connection) -> None:
    journal, numbers = opened(directory)
    journal.append([{"number": len(numbers) + 1}])
    connection.send(numbers)
    connection.recv()


def test_the_lock_and_nothing_else_dies_with_the_process(tmp_path: Path) -> None:
    """A second process is refused while the first works; the first is killed, and the second goes on."""
    context = multiprocessing.get_context("spawn")
    for before in ([], [1]):
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(tmp_path, theirs))
        process.start()
        theirs.close()
        assert ours.recv() == before
        with pytest.raises(InputError, match="another count works there"):
            opened(tmp_path)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert held(tmp_path) == [1, 2]
    assert files(tmp_path).keys() == {KIND.file}
