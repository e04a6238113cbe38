"""Comparison of a prediction with a measurement, by hand."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadahead.reports.compare import (
    compare,
    compare_directories,
    compare_many,
    kendall_tau,
    order_disagreements,
    relative_error,
)
from loadahead.reports.statistics import spread
from loadahead.reports.tables import comparison_grid, many_grid
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import QUEUE_OF, Kind
from loadahead.sim.step_metrics import RankMetrics
from loadahead.sim.timeline import MemorySamples, Timeline, write_timeline


def timeline(
    rows: list[tuple[Kind, int, int]], peaks: tuple[int, ...] = (10,), source: str = "simpy", **header: Any
) -> Timeline:
    """One rank's operations (kind, start, end); one memory sample per rank."""
    kinds = np.asarray([kind for kind, _, _ in rows], dtype=np.int8)
    zeros = np.zeros(len(rows), dtype=np.int32)
    ranks = np.arange(len(peaks), dtype=np.int64)
    return Timeline(
        source,
        "p",
        np.arange(len(rows), dtype=np.int64),
        zeros,
        np.asarray([QUEUE_OF[Kind(k)] for k in kinds.tolist()], dtype=np.int8),
        kinds,
        zeros,
        zeros,
        zeros,
        np.asarray([a for _, a, _ in rows], dtype=np.int64),
        np.asarray([b for _, _, b in rows], dtype=np.int64),
        MemorySamples(ranks, ranks * 0, np.asarray(peaks, dtype=np.int64), ranks * 0),
        header,
    )


PREDICTED = timeline([(Kind.FORWARD, 0, 100), (Kind.FORWARD, 100, 200), (Kind.BACKWARD, 200, 440)], (110, 50))
MEASURED = timeline([(Kind.FORWARD, 0, 80), (Kind.FORWARD, 80, 205), (Kind.BACKWARD, 205, 405)], (100, 100), "cpu")


def test_errors_are_signed_fractions_of_the_measurement() -> None:
    found = compare(PREDICTED, MEASURED).to_dict()
    assert found["step_time_error"] == pytest.approx(35 / 405)
    assert found["peak_device_error"] == pytest.approx(0.1)
    assert found["peak_device_bytes"]["error"] == pytest.approx([0.1, -0.5])
    assert found["op_duration_mape"] == pytest.approx((0.25 + 0.2 + 0.2) / 3)
    assert found["per_kind"]["FORWARD"] == {
        "count": 2,
        "predicted_ns": 200,
        "measured_ns": 205,
        "error": pytest.approx(-5 / 205),
        "mape": pytest.approx(0.225),
    }
    assert found["ranking_tau"] is None
    assert "overlap" not in found
    json.dumps(found, allow_nan=False)


def test_swapping_the_two_flips_the_sign() -> None:
    there, back = compare(PREDICTED, MEASURED).step_time_error, compare(MEASURED, PREDICTED).step_time_error
    assert there == pytest.approx(35 / 405)
    assert back == pytest.approx(-35 / 440)


def test_operations_are_matched_by_id_and_not_by_place() -> None:
    order = np.asarray([2, 0, 1])
    columns = ("op", "rank", "queue", "kind", "stage", "unit", "microbatch", "start_ns", "end_ns")
    shuffled = replace(MEASURED, **{name: getattr(MEASURED, name)[order] for name in columns})
    assert compare(PREDICTED, shuffled).to_dict() == compare(PREDICTED, MEASURED).to_dict()


def test_zero_durations_have_their_rules() -> None:
    rows = [(Kind.FORWARD, 0, 10), (Kind.RECOMPUTE, 10, 10), (Kind.OFFLOAD, 10, 15), (Kind.RELEASE, 15, 15)]
    seen = [(Kind.FORWARD, 0, 10), (Kind.RECOMPUTE, 10, 10), (Kind.OFFLOAD, 10, 10), (Kind.RELEASE, 10, 14)]
    found = compare(timeline(rows), timeline(seen))
    # FORWARD and RECOMPUTE are exact, OFFLOAD has no measured length, RELEASE is a mark without a length of its own.
    assert (found.op_duration_mape, found.ops, found.ops_left_out) == (0.0, 3, 1)
    assert found.per_kind["OFFLOAD"].error is None
    assert found.per_kind["OFFLOAD"].mape is None
    assert found.per_kind["RECOMPUTE"].error == 0.0
    assert found.per_kind["RELEASE"].mape is None
    assert found.per_kind["RELEASE"].error == -1.0
    # A RELEASE that is predicted to take time and took none is no operation left out either.
    assert compare(timeline(seen), timeline(rows)).ops_left_out == 0


def test_empty_timelines_compare() -> None:
    found = compare(timeline([], ()), timeline([], ())).to_dict()
    assert (found["step_time_error"], found["peak_device_error"], found["op_duration_mape"]) == (0.0, None, None)


def test_the_median_of_the_timed_steps_is_the_measured_step_time() -> None:
    measured = replace(MEASURED, header={"step_times_ns": [500, 400, 440]})
    assert compare(PREDICTED, measured).step_time_error == 0.0


def test_steps_that_were_timed_as_a_whole_count_where_there_are_some() -> None:
    """To time every operation takes time too."""
    header = {"step_times_ns": [500, 510, 520], "bare_step_times_ns": [430, 440, 450]}
    assert compare(PREDICTED, replace(MEASURED, header=header)).step_time_error == 0.0


COUNTS = {"offloaded": 1, "kept": 2}


def rank(number: int, **changes: Any) -> dict[str, Any]:
    plain = {field.name: 0 for field in fields(RankMetrics)} | {"rank": number, "overlap": 0.0, "peak_parts": None}
    return plain | changes


def test_summaries_bring_overlap_stalls_and_host_bytes() -> None:
    ours = {
        "step_time_ns": 440,
        "ranks": [
            rank(0, copy_ns=30, overlap=1.0, stall_release_ns=5, peak_host_bytes=8),
            rank(1, copy_ns=10, overlap=0.0, stall_release_ns=7),
        ],
    } | COUNTS
    theirs = {"step_time_ns": 405, "ranks": [rank(0), rank(1, stall_prefetch_ns=3)]} | COUNTS
    found = compare(
        replace(PREDICTED, header={"summary": ours}), replace(MEASURED, header={"summary": theirs})
    ).to_dict()
    assert found["overlap"] == {"predicted": 0.75, "measured": None}
    assert found["stalls_ns"]["release"] == {"predicted": 7, "measured": 0}
    assert found["stalls_ns"]["prefetch"] == {"predicted": 0, "measured": 3}
    assert found["peak_host_bytes"] == {"predicted": 8, "measured": 0, "error": None}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (timeline([(Kind.FORWARD, 0, 1)]), "3 operations of plan 'p', the measured one 1"),
        (replace(MEASURED, op=np.asarray([0, 1, 3])), "their ids differ"),
        (replace(MEASURED, op=np.asarray([0, 1, 1])), "operation 1 more than once"),
        (replace(MEASURED, kind=np.asarray([0, 1, 2], np.int8)), "operation 1 has kind FORWARD in the predicted and"),
        (replace(MEASURED, microbatch=np.asarray([0, 0, 1], np.int32)), "operation 2 has microbatch 0"),
        (replace(MEASURED, end_ns=np.asarray([80, 205, 1])), "operation 2 of the measured timeline ends before"),
        (replace(MEASURED, header={"summary": []}), "summary is []"),
        (replace(MEASURED, header={"summary": {"step_time_ns": -1}}), "step_time_ns is -1"),
        (replace(MEASURED, header={"summary": {"step_time_ns": 1, "ranks": [rank(0, overlap=2.0)]}}), "from 0 to 1"),
        (replace(MEASURED, header={"summary": {"step_time_ns": 1, "ranks": [rank(0)]}}), "offloaded is None"),
        (replace(MEASURED, header={"step_times_ns": [1, "2"]}), "list of integers above 0"),
    ],
)
def test_what_does_not_belong_together_is_one_line(other: Timeline, message: str) -> None:
    with pytest.raises(InputError) as caught:
        compare(PREDICTED, other)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "y", "tau"),
    [
        ([1, 2, 3], [10, 20, 30], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        # tau-b with ties, by its definition: 5 concordant pairs, none discordant; 5 and 6 of 6 pairs are untied.
        ([1, 2, 2, 3], [1, 3, 2, 4], 5 / np.sqrt(5 * 6)),
        ([12, 2, 1, 12, 2], [1, 4, 7, 1, 0], -0.47140452079103173),  # the example of SciPy's documentation
        ([1, 1, 1], [1, 2, 3], None),
        ([1], [2], None),
        ([], [], None),
    ],
)
def test_kendall_tau(x: list[float], y: list[float], tau: float | None) -> None:
    assert kendall_tau(x, y) == (None if tau is None else pytest.approx(tau))


def test_kendall_tau_refuses_what_has_no_order() -> None:
    with pytest.raises(InputError, match="2 predictions and 1"):
        kendall_tau([1, 2], [1])
    with pytest.raises(InputError, match="finite"):
        kendall_tau([1, float("nan")], [1, 2])


def test_only_predictions_that_differ_enough_can_disagree() -> None:
    assert order_disagreements([100, 105], [2, 1]) == []
    assert order_disagreements([100, 120], [2, 1]) == [(0, 1)]
    assert order_disagreements([120, 100, 90], [1, 2, 3]) == [(0, 1), (0, 2), (1, 2)]


def test_relative_error_of_nothing() -> None:
    assert relative_error(0, 0) == 0.0
    assert relative_error(1, 0) is None
    assert relative_error(0, 2) == -1.0


def test_spread_names_instability() -> None:
    assert spread([]) is None
    for samples, median, unstable in (([5], 5.0, False), ([100, 101, 99], 100.0, False), ([100, 150, 80], 100.0, True)):
        found = spread(samples)
        assert found is not None
        assert (found.count, found.median, found.unstable) == (len(samples), median, unstable)


def stretched(factor: int) -> Timeline:
    return timeline([(Kind.FORWARD, 0, 10 * factor)], (10 * factor,), "cpu")


def test_many_pairs_are_ranked() -> None:
    many = compare_many([(stretched(1), stretched(2)), (stretched(2), stretched(3)), (stretched(3), stretched(1))])
    found = many.to_dict()
    assert found["ranking_tau"] == pytest.approx(-1 / 3)
    assert found["disagreements"] == [["0", "2"], ["1", "2"]]
    assert found["step_time_error"] == pytest.approx(2.0)
    assert found["op_duration_mape"] == pytest.approx((0.5 + 1 / 3 + 2) / 3)
    assert found["per_kind"]["FORWARD"]["count"] == 3
    assert list(found["pairs"]) == ["0", "1", "2"]


def test_directories_are_matched_by_name(tmp_path: Path) -> None:
    for folder, factor in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        for name in ("h1", "h2"):
            write_timeline(stretched(factor + (name == "h2")), tmp_path / folder / f"{name}.jsonl")
    write_timeline(stretched(1), tmp_path / "a" / "alone.jsonl")
    found = compare_directories(tmp_path / "a", tmp_path / "b")
    assert list(found.to_dict()["pairs"]) == ["h1", "h2"]
    assert found.ranking_tau == 1.0
    assert found.files == (str(tmp_path / "a"), str(tmp_path / "b"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \*\.jsonl file of the same name"):
        compare_directories(tmp_path / "a", tmp_path / "empty")


def test_an_error_is_only_what_a_prediction_and_a_measurement_differ_by() -> None:
    for predicted, measured, headers in (
        (PREDICTED, MEASURED, ("", "predicted", "measured", "error")),
        (PREDICTED, PREDICTED, ("", "A", "B", "difference")),
        (MEASURED, MEASURED, ("", "A", "B", "difference")),
    ):
        grid = comparison_grid(compare(predicted, measured))
        assert grid.headers == headers
        assert ("prediction is too high" in grid.note) == (headers[-1] == "error")
        many = many_grid(compare_many([(predicted, measured)] * 2))
        assert (many.headers[1:3], many.headers[3]) == (headers[1:3], f"step time {headers[3]}")
