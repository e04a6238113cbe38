"""A sweep's journal: which rows and costs it takes over, and whose. How a journal works: test_journal of loadahead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadahead.progress import Progress
from loadahead.reports.run_directory import SWEEP_JOURNAL
from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import METRIC_COLUMNS, SweepRow
from loadahead.sweeps.journal import Journal, open_journal

SPECIFICATION: dict[str, Any] = {"engine": "simpy", "axes": [["a", ["1"]]]}
METRICS: dict[str, Any] = dict.fromkeys(METRIC_COLUMNS, 2**60)
ROWS = {
    number: SweepRow(axes={"horizon": number + 1, "hardware.d2h": "1 GB/s"}, **METRICS | {"overlap": 0.1 * number})
    for number in range(4)
}


def opened(directory: Path, said: list[str] | None = None, fresh: bool = False, **changes: Any) -> Journal:
    def progress(report: Progress) -> None:
        assert said is not None, report
        said.append(report.what)

    return open_journal(directory, SPECIFICATION | changes, len(ROWS), fresh=fresh, progress=progress)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A closed journal of four points in lines 2 to 5."""
    with opened(tmp_path) as made:
        for number, row in ROWS.items():
            made.append([(number, row)])
    return tmp_path / SWEEP_JOURNAL


def test_what_was_kept_is_there_again(journal: Path) -> None:
    with opened(journal.parent) as again:
        assert again.rows == ROWS
        assert {type(row) for row in again.rows.values()} == {SweepRow}


def test_what_is_appended_is_there_at_once(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        made.append(iter(ROWS.items()))
        assert made.rows == ROWS


def test_calibrated_costs_are_kept(tmp_path: Path) -> None:
    unit = UnitCost(forward_ns=1, recompute_ns=0, backward_ns=2)
    costs = Costs(units=((unit,),), static_bytes=(0,), d2h_bandwidth=1, h2d_bandwidth=1, memory_bytes=1)
    with opened(tmp_path) as made:
        made.append_costs("key", costs)
    with opened(tmp_path) as again:
        assert (again.costs, again.rows) == ({"key": costs}, {})


def test_another_sweep_has_a_journal_of_its_own_and_this_one_is_taken_up_again(journal: Path) -> None:
    said: list[str] = []
    with opened(journal.parent, said, engine="compiled", axes=[["a", ["2"]]]) as other:
        assert other.rows == {}
    assert said[0].endswith(
        "starts anew, as another sweep was there (other engine, axes); the journal before is kept as sweep-1.journal"
    )
    with opened(journal.parent, said) as again:
        assert again.rows == ROWS
    assert "goes on with sweep-1.journal" in said[1]


@pytest.mark.parametrize("changes", [{"more": 1}, {"more": None}])
def test_a_name_that_one_specification_lacks_is_a_difference(journal: Path, changes: dict[str, Any]) -> None:
    said: list[str] = []
    with opened(journal.parent, said, **changes) as other:
        assert other.rows == {}
    with opened(journal.parent, said, fresh=True):
        pass
    with opened(journal.parent, said, **changes):
        pass
    assert [("other more" in line) for line in said] == [True, False, True]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"point": 4, "row": {}}', "point 4 is none of this sweep's 4"),
        ('{"point": true, "row": {}}', "point True is none"),
        ('{"point": 1, "row": []}', "point 1 is none"),
        (json.dumps({"point": 0, "row": ROWS[0].to_dict()}), "point 0 stands there twice"),
        (json.dumps({"point": 1, "row": {"horizon": 2} | METRICS}).replace("kept", "keep"), "1 lacks the column kept"),
        ('{"calibrated": "key", "costs": {}}', "costs: "),
    ],
)
def test_a_damaged_record_is_refused_in_one_line(journal: Path, text: str, says: str) -> None:
    lines = journal.read_text().splitlines()
    lines[2] = text
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError) as caught:
        opened(journal.parent)
    assert str(caught.value).startswith(f"{journal} line 3: ")
    assert says in str(caught.value)
    assert str(caught.value).endswith("; start the sweep afresh, or use another directory")
    assert caught.value.parameters == ("fresh", "directory")
    assert "\n" not in str(caught.value)


def test_only_one_sweep_at_a_time_works_in_a_directory(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(InputError, match="another sweep works there"):
        opened(tmp_path)
