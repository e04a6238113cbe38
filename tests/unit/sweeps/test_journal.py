"""A sweep's journal: which rows and costs it takes over, and whose. How a journal works: test_journal of loadahead."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadahead.progress import Progress
from loadahead.reports.run_directory import SWEEP_JOURNAL
from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import METRIC_COLUMNS, SweepRow
from loadahead.sweeps.journal import Journal, open_journal

# Four points: "a" changes slowest.
SPECIFICATION: dict[str, Any] = {
    "engine": "simpy",
    "axes": [["a", ["1", "2"]], ["b", ["1", "2"]]],
    "model's shapes": None,
}
METRICS: dict[str, Any] = dict.fromkeys(METRIC_COLUMNS, 2**60)
ROWS = {
    number: SweepRow(axes={"horizon": number + 1, "hardware.d2h": "1 GB/s"}, **METRICS | {"overlap": 0.1 * number})
    for number in range(4)
}


def opened(directory: Path, said: list[str] | None = None, fresh: bool = False, **changes: Any) -> Journal:
    def progress(report: Progress) -> None:
        assert said is not None, report
        said.append(report.what)

    return open_journal(directory, SPECIFICATION | changes, own_columns, fresh=fresh, progress=progress)


def own_columns(number: int, row: SweepRow) -> SweepRow:
    return replace(row, axes={**row.axes, "number": number})


def axes(a: str, b: str) -> dict[str, Any]:
    return {"axes": [["a", a.split(",")], ["b", b.split(",")]]}


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
    with opened(journal.parent, said, engine="compiled", axes=[["c", ["2"]]]) as other:
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


def taken(directory: Path, said: list[str] | None = None, fresh: bool = False, **changes: Any) -> dict[int, int]:
    """The points that a sweep finds finished, as the horizons that tell them apart, by number."""
    with opened(directory, said, fresh, **changes) as made:
        assert all(row["number"] == number for number, row in made.rows.items() if "number" in row.axes)
        return {number: row.horizon for number, row in sorted(made.rows.items())}


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        # ROWS: (1, 1) is 1, (1, 2) is 2, (2, 1) is 3, (2, 2) is 4.
        ("1,2,3", "1,2", {0: 1, 1: 2, 2: 3, 3: 4}),
        ("1,2", "1,2,3", {0: 1, 1: 2, 3: 3, 4: 4}),
        ("0,1,2", "0,1,2", {4: 1, 5: 2, 7: 3, 8: 4}),
        ("2", "1,2", {0: 3, 1: 4}),
        ("2,1", "2,1", {0: 4, 1: 3, 2: 2, 3: 1}),
        ("3", "1,2", {}),
    ],
)
def test_a_sweep_with_other_values_of_its_axes_takes_over_the_points_that_it_shares(
    journal: Path, a: str, b: str, found: dict[int, int]
) -> None:
    said: list[str] = []
    before = journal.read_bytes()
    assert taken(journal.parent, said, **axes(a, b)) == found
    assert said == [f"{journal.parent}: goes on with other axes; the journal before is kept as sweep-1.journal"]
    assert (journal.parent / "sweep-1.journal").read_bytes() == before
    # They stand in the new journal, and the one before is taken up again as it was.
    assert taken(journal.parent, said, **axes(a, b)) == found
    assert len(said) == 1
    assert taken(journal.parent, said) == {number: row.horizon for number, row in ROWS.items()}


def test_the_axes_may_come_in_another_order(journal: Path) -> None:
    assert taken(journal.parent, [], axes=[["b", ["1", "2"]], ["a", ["1", "2"]]]) == {0: 1, 1: 3, 2: 2, 3: 4}


def test_points_of_several_sweeps_before_are_put_together(journal: Path) -> None:
    with opened(journal.parent, [], **axes("3", "1,2")) as made:
        made.append([(0, replace(ROWS[0], axes={"horizon": 9})), (1, replace(ROWS[0], axes={"horizon": 8}))])
    assert taken(journal.parent, [], **axes("1,2,3", "1,2")) == {0: 1, 1: 2, 2: 3, 3: 4, 4: 9, 5: 8}


def test_points_are_taken_over_past_another_sweep_and_none_is_said_to_start_anew(journal: Path) -> None:
    with opened(journal.parent, [], engine="compiled"):
        pass
    said: list[str] = []
    assert taken(journal.parent, said, **axes("1,2,3", "1,2")) == {0: 1, 1: 2, 2: 3, 3: 4}
    assert said[0] == (
        f"{journal.parent}: begins a new journal, as another sweep was there (other engine, axes); the journal before "
        "is kept as sweep-2.journal"
    )


def test_of_a_point_that_several_sweeps_have_the_last_counts(journal: Path) -> None:
    with opened(journal.parent, [], fresh=True, **axes("1", "1")) as made:
        made.append([(0, replace(ROWS[0], axes={"horizon": 9}))])
    # What was there before a fresh start stays out of what follows it.
    assert taken(journal.parent, [], **axes("1,2", "1,2,3")) == {0: 9}
    with opened(journal.parent, [], **axes("1", "2")) as other:
        assert other.rows == {}
        other.append([(0, replace(ROWS[0], axes={"horizon": 7}))])
    assert taken(journal.parent, [], **axes("1,2,3", "1,2,3")) == {0: 9, 1: 7}


def test_a_fresh_start_takes_nothing_over_and_neither_does_it_when_it_was_killed_at_once(journal: Path) -> None:
    assert taken(journal.parent, [], fresh=True, **axes("1,2,3", "1,2")) == {}
    assert taken(journal.parent, [], **axes("1,2,3", "1,2")) == {}


def test_killed_before_or_within_the_taking_over_it_is_done_at_the_next_start(journal: Path) -> None:
    wanted = axes("1,2,3", "1,2")
    found = taken(journal.parent, [], **wanted)
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in (lines[:1], lines[:3], [*lines[:3], lines[3][:20]]):
        journal.write_bytes(b"".join(kept))
        assert taken(journal.parent, **wanted) == found
    journal.unlink()  # and where the journal before has its new name, and the next has none yet
    assert taken(journal.parent, [], **wanted) == found


@pytest.mark.parametrize("changes", [{"engine": "compiled"}, {"model's shapes": {"4": "a"}}, {"more": 1}])
def test_nothing_is_taken_over_where_more_than_the_axes_differs(journal: Path, changes: dict[str, Any]) -> None:
    said: list[str] = []
    assert taken(journal.parent, said, **axes("1,2,3", "1,2"), **changes) == {}
    assert "starts anew, as another sweep was there (other " in said[0]


def test_a_modules_shapes_are_compared_by_the_number_of_microbatches(tmp_path: Path) -> None:
    with opened(tmp_path, **{"model's shapes": {"2": "a", "4": "b"}}) as made:
        made.append(ROWS.items())
    other = axes("1,2,3", "1,2")
    assert len(taken(tmp_path, [], **other, **{"model's shapes": {"4": "b", "8": "c"}})) == 4
    assert taken(tmp_path, [], **other, **{"model's shapes": {"4": "other", "16": "c"}}) == {}


def costs(ns: int) -> Costs:
    unit = UnitCost(forward_ns=ns, recompute_ns=0, backward_ns=2)
    return Costs(units=((unit,),), static_bytes=(0,), d2h_bandwidth=1, h2d_bandwidth=1, memory_bytes=1)


def test_points_come_with_the_costs_they_were_simulated_with_and_not_beside_others(tmp_path: Path) -> None:
    with opened(tmp_path) as made:
        made.append_costs("key", costs(1))
        made.append(ROWS.items())
    with opened(tmp_path, [], **axes("1,2", "1,2,3")) as grown:
        assert (grown.costs, len(grown.rows)) == ({"key": costs(1)}, 4)
    lines = (tmp_path / SWEEP_JOURNAL).read_text().splitlines()
    assert [next(iter(json.loads(line))) for line in lines[1:]] == ["calibrated", *["point"] * 4]
    with opened(tmp_path, [], fresh=True, **axes("7", "1")) as other:
        other.append_costs("key", costs(2))
        other.append([(0, ROWS[0])])
    header = json.loads((tmp_path / SWEEP_JOURNAL).read_text().splitlines()[0])
    assert header.pop("afresh") is True
    (tmp_path / SWEEP_JOURNAL).write_text(
        "".join([json.dumps(header) + "\n", *(tmp_path / SWEEP_JOURNAL).read_text().splitlines(keepends=True)[1:]])
    )
    with opened(tmp_path, [], **axes("1,7", "1")) as last:
        assert last.costs == {"key": costs(2)}
        assert list(last.rows) == [1]


def test_a_damaged_journal_that_was_put_aside_is_left_alone(journal: Path) -> None:
    assert len(taken(journal.parent, [], **axes("1,2", "1,2,3"))) == 4
    aside = journal.parent / "sweep-1.journal"
    for damaged in (b"", b"no journal\n", aside.read_bytes().replace(b'"point": 3', b'"point": 9')):
        journal.unlink()
        aside.write_bytes(damaged)
        assert taken(journal.parent, [], **axes("1,2", "1,2,3")) == {}
        assert aside.read_bytes() == damaged
