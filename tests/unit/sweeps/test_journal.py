"""A sweep's journal: what it takes over, what it refuses, and who may work on it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.errors import InputError
from loadahead.sweeps.journal import NAME, Journal, open_journal

SPECIFICATION: dict[str, Any] = {"engine": "simpy", "axes": [["a", ["1"]]]}
ROWS = {number: {"horizon": number + 1, "overlap": 0.1 * number, "step_time_ns": 2**60 + number} for number in range(4)}


def opened(directory: Path, points: int = 4, fresh: bool = False, **changes: Any) -> Journal:
    return open_journal(directory, SPECIFICATION | changes, points, fresh=fresh)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A closed journal of four points in lines 2 to 5."""
    with opened(tmp_path) as made:
        for number, row in ROWS.items():
            made.append([(number, row)])
    return tmp_path / NAME


def test_what_was_kept_is_there_again(journal: Path) -> None:
    with opened(journal.parent) as again:
        assert again.rows == ROWS


def test_wherever_it_is_cut_the_whole_lines_are_taken_over(journal: Path) -> None:
    content = journal.read_bytes()
    header = content.index(b"\n") + 1
    for end in range(len(content) + 1):
        journal.write_bytes(content[:end])
        finished = content[:end].count(b"\n") - 1 if end >= header else 0
        with opened(journal.parent) as again:
            assert again.rows == {number: ROWS[number] for number in range(finished)}
            again.append((number, ROWS[number]) for number in range(finished, 4))
        assert journal.read_bytes() == content


def test_calibrated_costs_are_kept(tmp_path: Path) -> None:
    unit = UnitCost(forward_ns=1, recompute_ns=0, backward_ns=2)
    costs = Costs(units=((unit,),), static_bytes=(0,), d2h_bandwidth=1, h2d_bandwidth=1, memory_bytes=1)
    with opened(tmp_path) as made:
        made.append_costs("key", costs)
    with opened(tmp_path) as again:
        assert (again.costs, again.rows) == ({"key": costs}, {})


def test_another_sweep_is_refused_and_fresh_starts_anew(journal: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds another sweep \(other engine\); start afresh to replace it, or use another"
    ):
        opened(journal.parent, engine="compiled")
    with pytest.raises(InputError, match=r"\(other points\)"):
        opened(journal.parent, points=5)
    with opened(journal.parent, engine="compiled", fresh=True) as anew:
        assert anew.rows == {}
    with pytest.raises(InputError, match="other engine"):
        opened(journal.parent)


@pytest.mark.parametrize(
    ("line", "text", "says"),
    [
        (1, '{"format": "other"}', "line 1: is not the header"),
        (1, "a,b", "line 1: is not JSON"),
        (3, '{"point": 1, "ro', "line 3: is not JSON"),
        (3, "[" * 100_000, "line 3: is not JSON"),
        (3, "[]", "line 3: is not an object"),
        (3, '{"point": 4, "row": {}}', "line 3: point 4 is none of this sweep's 4"),
        (3, '{"point": true, "row": {}}', "line 3: point True is none"),
        (3, '{"point": 1, "row": []}', "line 3: point 1 is none"),
        (3, json.dumps({"point": 0, "row": ROWS[0]}), "line 3: point 0 stands there twice"),
        (3, '{"calibrated": "key", "costs": {}}', "line 3: costs: "),
    ],
)
def test_a_damaged_journal_is_refused_in_one_line(journal: Path, line: int, text: str, says: str) -> None:
    lines = journal.read_text().splitlines()
    lines[line - 1] = text
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError) as caught:
        opened(journal.parent)
    assert says in str(caught.value)
    assert caught.value.parameters == ("fresh", "directory")
    assert "\n" not in str(caught.value)


def test_only_one_sweep_at_a_time_works_in_a_directory(tmp_path: Path) -> None:
    with opened(tmp_path):
        for fresh in (False, True):
            with pytest.raises(InputError, match="another sweep works there"):
                opened(tmp_path, fresh=fresh)
    opened(tmp_path).__exit__(None)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with opened(tmp_path) as made:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(InputError, match=r"cannot be written \(No space left on device\); finished points"):
            made.append([(0, ROWS[0])])
