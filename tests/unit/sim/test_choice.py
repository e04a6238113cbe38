"""The choice of the best row, and that whoever states its rule states this one."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadahead.sim.choice import (
    EACH_MODEL,
    MARKED,
    RULE,
    SPEED,
    WITHIN,
    best_of,
    choices,
    format_speed,
    gpu_ns_per_microbatch,
    missing_of,
    rows_where,
    speed,
)
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import HOST_CAPACITY, METRIC_COLUMNS, PEAK_DEVICE, STEP_TIME, SweepRow

ROOT = Path(__file__).parents[3]
GIB = 2**30
NOTHING = dict.fromkeys(METRIC_COLUMNS, 0) | {"capacity_bytes": None, HOST_CAPACITY: None, "gpus": None}


def row(microbatches: int, horizon: int, step_ms: float, device: int, **more: Any) -> SweepRow:
    metrics = NOTHING | {STEP_TIME: round(step_ms * 1e6), PEAK_DEVICE: device}
    axes = {"microbatches": microbatches, "horizon": horizon}
    return SweepRow.from_dict(axes | metrics | more)


def best(rows: list[SweepRow], device: int | None = None, host: int | None = None) -> int | None:
    (choice,) = choices(rows, device, host)
    return choice.index if choice.fits else None


def test_the_fastest_per_microbatch_is_best_and_not_the_one_with_least_work() -> None:
    rows = [row(2, 1, 20, 100), row(8, 1, 60, 100), row(8, 4, 90, 10)]
    assert [gpu_ns_per_microbatch(r) for r in rows] == [10e6, 7.5e6, 11.25e6]
    assert best(rows) == 1
    assert [format_speed(r) for r in rows] == ["100", "133.3", "88.89"]


def test_a_gpu_more_has_to_be_worth_it() -> None:
    rows = [row(8, 1, 60, 100, gpus=4), row(8, 1, 40, 90, gpus=8), row(8, 1, 59.9, 80, gpus=4)]
    assert best(rows) == 2
    assert speed(rows[0]) == pytest.approx(8 / 0.060 / 4)
    assert best([row(8, 1, 60, 100, gpus=8), row(8, 1, 50, 100, gpus=8)]) == 1


def test_within_a_percent_less_memory_wins_then_the_shorter_horizon() -> None:
    rows = [row(4, 5, 40.0, 90), row(4, 2, 40.3, 50), row(4, 1, 40.3, 50), row(4, 3, 41, 10)]
    assert best(rows) == 2


def test_the_percent_is_of_the_speed_and_exact() -> None:
    """99 % of the fastest's microbatches per second is a step time of 100/99, to the nanosecond."""
    fastest = row(1, 1, 99 * 10**9, 9)
    for late, index in ((0, 1), (1, 0)):
        assert best([fastest, row(1, 2, 0, 5, step_time_ns=100 * 10**15 + late)]) == index


def test_host_memory_decides_where_time_and_device_memory_are_equal_then_copies_then_speed() -> None:
    rows = [row(4, 1, 40, 50, host_bytes=27), row(4, 1, 40, 50, host_bytes=2), row(4, 1, 39.9, 50, host_bytes=3)]
    assert best(rows) == 1
    rows = [row(4, 1, 40, 50, offloaded=7), row(4, 3, 40, 50, offloaded=6), row(4, 2, 39.9, 50, offloaded=6)]
    assert best(rows) == 2


def test_more_replicas_have_to_be_worth_it() -> None:
    """With sharded state each replica more leaves a GPU less memory to hold, and has to be paid for."""
    data = "parallel.data_parallel_degree"
    rows = [row(4, 1, 40, memory, **{data: n}) for n, memory in ((8, 90), (4, 95), (64, 20))]
    assert best(rows) == 1
    assert best([row(4, 1, 50, 90, **{data: 4}), row(4, 1, 40, 95, **{data: 8})]) == 1


def test_what_does_not_fit_is_not_best() -> None:
    rows = [row(4, 2, 10, 1000), row(4, 1, 20, 100)]
    assert (best(rows, 100), best(rows, 99), choices([])) == (1, None, ())
    rows = [row(4, 2, 10, 1, host_bytes=1000), row(4, 1, 20, 1, host_bytes=100)]
    assert (best(rows, host=100), best(rows, host=99), best(rows)) == (1, None, 0)


def test_each_row_has_its_own_capacity_and_what_is_given_stands_for_it() -> None:
    rows = [row(4, 1, 10, 60, capacity_bytes=40), row(4, 1, 12, 60, capacity_bytes=80)]
    assert best(rows) == 1
    assert (best(rows, 70), best(rows, 50)) == (0, None)
    (choice,) = choices(rows, 70)
    assert choice.row is rows[0], "the row is as it was"


def test_models_are_not_compared() -> None:
    layers = "model.layers"
    rows = [row(4, 1, 10, 60, **{layers: 12}), row(4, 1, 20, 90, **{layers: 24}), row(4, 2, 21, 10, **{layers: 24})]
    found = choices(rows, 50)
    assert [(c.model, c.index, c.fits) for c in found] == [({layers: 12}, 0, False), ({layers: 24}, 2, True)]
    assert [c.sentence.partition(":")[0] for c in found] == ["model.layers 12", "model.layers 24"]
    assert best_of(found) == [None, rows[2].to_dict()]
    missing = missing_of(found)
    assert isinstance(missing, list) and missing[1] is None
    assert missing[0] is not None and (missing[0]["model"], missing[0]["device_bytes"]) == ({layers: 12}, 10)
    # A model axis of one value is no other model.
    assert [c.model for c in choices(rows[:1])] == [{}]
    assert len(choices([row(4, 1, 9, 9, **{"hardware.d2h": d2h}) for d2h in ("1 GB/s", "2 GB/s")])) == 1


def test_rows_are_told_apart_by_their_axes() -> None:
    rows = [row(4, h, 10, 60, **{"model.layers": layers}) for layers in (12, 24) for h in (1, 2)]
    assert rows_where(rows, {"model.layers": 24, "horizon": 2}) == rows[3:]
    assert rows_where(rows, {}) == rows
    for where, words in (
        ({"model.layer": 1}, "where has the axis 'model.layer'; it must be one of microbatches, horizon, model.layers"),
        ({"model.layers": 13}, "where has model.layers = 13, which no point has; it must be one of 12, 24"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            rows_where(rows, where)


def test_the_sentence_says_what_is_best() -> None:
    (choice,) = choices([row(8, 3, 60, GIB, gpus=4, host_bytes=3 * GIB), row(8, 4, 60, 2 * GIB, gpus=4)])
    assert choice.sentence == (
        "The best that fits: microbatches 8, horizon 3. It makes 33.33 microbatches per second and GPU, with 1 GiB of "
        "device memory and 3 GiB of host memory for all GPUs of a host together."
    )


def test_where_nothing_fits_the_sentence_says_how_much_is_missing() -> None:
    """That it is the least that any plan needs is said only where it is."""
    rows = [row(8, h, 50 + h, (158 + h) * GIB, capacity_bytes=60 * GIB) for h in range(1, 13)]
    (choice,) = choices(rows)
    assert (choice.index, choice.best) == (0, None)
    assert choice.sentence == (
        "Nothing fits: the least that any of the 12 plans needs is 159 GiB of device memory (microbatches 8, horizon "
        "1), 99 GiB more than the device has."
    )
    missing = choice.missing()
    assert missing is not None and missing["nearest"] == rows[0].to_dict()
    assert (missing["device_bytes"], missing["host_memory_bytes"]) == (99 * GIB, 0)
    (choice,) = choices(rows[:1])
    assert choice.sentence.startswith("Nothing fits: the one plan needs 159 GiB of device memory (microbatches 8, ")

    host = [row(8, h, 50, 1, host_bytes=h * GIB, host_capacity_bytes=2 * GIB, gpus=2) for h in (5, 3)]
    (choice,) = choices(host)
    assert choice.sentence == (
        "Nothing fits: the least that any of the 2 plans needs is 3 GiB of host memory for all GPUs of a host together "
        "(microbatches 8, horizon 3), 1 GiB more than the host has."
    )
    # The first fits the device and the second does not; still the second lacks less.
    sizes = [(1, 5 * GIB, 9 * GIB), (2, 8 * GIB, 2 * GIB)]
    rows = [row(8, h, 50, device, host_bytes=host, peak_host_bytes=host) for h, device, host in sizes]
    (choice,) = choices(rows, 6 * GIB, GIB)
    assert (choice.missing_device_bytes, choice.missing_host_bytes) == (2 * GIB, GIB)
    assert choice.sentence == (
        "Nothing fits: of 2 plans the nearest (microbatches 8, horizon 2) needs 8 GiB of device memory, 2 GiB more "
        "than the device has, and 2 GiB of host memory, 1 GiB more than the host has."
    )


def by_brute_force(rows: list[SweepRow]) -> int | None:
    """Return the best by going through the rule's words one after the other, in fractions."""
    left = [
        (i, r)
        for i, r in enumerate(rows)
        if (r["capacity_bytes"] is None or r["peak_device_bytes"] <= r["capacity_bytes"])
        and (r["host_capacity_bytes"] is None or r["host_bytes"] <= r["host_capacity_bytes"])
    ]
    if not left:
        return None

    def rate(r: SweepRow) -> Fraction:
        return Fraction(r["microbatches"] * 10**9, r["step_time_ns"] * r["gpus"])

    most = max(rate(r) for _, r in left)
    left = [(i, r) for i, r in left if rate(r) >= most * Fraction(99, 100)]
    for column in ("peak_device_bytes", "host_bytes", "offloaded"):
        least = min(r[column] for _, r in left)
        left = [(i, r) for i, r in left if r[column] == least]
    most = max(rate(r) for _, r in left)
    left = [(i, r) for i, r in left if rate(r) == most]
    horizon = min(r["horizon"] for _, r in left)
    return next(i for i, r in left if r["horizon"] == horizon)


few = st.integers(1, 3)


@st.composite
def any_rows(draw: st.DrawFn) -> list[SweepRow]:
    """Rows that are close to each other, so that every tie of the rule comes up."""

    def one() -> SweepRow:
        return SweepRow.from_dict(
            NOTHING
            | {
                "microbatches": draw(few),
                "horizon": draw(few),
                "gpus": draw(few),
                "step_time_ns": draw(st.sampled_from([990, 995, 1000, 1010, 2000, 1980, 3000])),
                "peak_device_bytes": draw(few),
                "host_bytes": draw(few),
                "offloaded": draw(few),
                "capacity_bytes": draw(st.sampled_from([None, 1, 2, 3])),
                "host_capacity_bytes": draw(st.sampled_from([None, 1, 2, 3])),
                "model.layers": draw(st.sampled_from([1, 1, 1, 2])),
            }
        )

    return [one() for _ in range(draw(st.integers(1, 8)))]


@given(any_rows())
@settings(max_examples=400)
def test_the_choice_is_what_the_words_say(rows: list[SweepRow]) -> None:
    found = {choice.row["model.layers"]: choice for choice in choices(rows)}
    assert set(found) == {r["model.layers"] for r in rows}
    for layers, choice in found.items():
        places = [i for i, r in enumerate(rows) if r["model.layers"] == layers]
        expected = by_brute_force([rows[i] for i in places])
        assert (choice.index if choice.fits else None) == (None if expected is None else places[expected])
        assert choice.row is rows[choice.index]
        lacks = [
            max(0, rows[i]["peak_device_bytes"] - (rows[i]["capacity_bytes"] or 9))
            + max(0, rows[i]["host_bytes"] - (rows[i]["host_capacity_bytes"] or 9))
            for i in places
        ]
        assert choice.missing_device_bytes + choice.missing_host_bytes == min(lacks)
        assert ("Nothing fits" in choice.sentence) == (min(lacks) > 0) == (choice.missing() is not None)


def test_the_rule_in_words() -> None:
    assert WITHIN == "1 %"
    for words in (RULE, MARKED):
        assert "within 1 % of it" in words and SPEED in words and "fit" in words
        assert words.index("device memory") < words.index("host memory")
    assert "not compared" in EACH_MODEL


@pytest.mark.parametrize("name", ["README.md", "docs/python.md", "docs/command-line.md"])
def test_the_texts_for_people_state_this_rule(name: str) -> None:
    text = " ".join((ROOT / name).read_text().split())
    assert set(re.findall(r"(?i)of (?:those|the points) within ([\d.]+ %)", text)) == {WITHIN}
