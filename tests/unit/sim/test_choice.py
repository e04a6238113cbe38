"""The choice of the best row, and that whoever states its rule states this one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadahead.sim.choice import MARKED, RULE, WITHIN, best, time_per_microbatch
from loadahead.sim.step_metrics import METRIC_COLUMNS, PEAK_DEVICE, STEP_TIME, SweepRow

ROOT = Path(__file__).parents[3]


def row(microbatches: int, horizon: int, step_ms: float, device: int) -> SweepRow:
    metrics = dict.fromkeys(METRIC_COLUMNS, 0) | {STEP_TIME: round(step_ms * 1e6), PEAK_DEVICE: device}
    return SweepRow.from_dict({"microbatches": microbatches, "horizon": horizon, **metrics})


def test_the_fastest_per_microbatch_is_best_and_not_the_one_with_least_work() -> None:
    rows = [row(2, 1, 20, 100), row(8, 1, 60, 100), row(8, 4, 90, 10)]
    assert [time_per_microbatch(r) for r in rows] == [10e6, 7.5e6, 11.25e6]
    assert best(rows, None) == 1


def test_within_a_percent_less_memory_wins_then_the_shorter_horizon() -> None:
    rows = [row(4, 5, 40.0, 90), row(4, 2, 40.3, 50), row(4, 1, 40.3, 50), row(4, 3, 41, 10)]
    assert best(rows, None) == 2


def test_what_does_not_fit_is_not_best() -> None:
    rows = [row(4, 2, 10, 1000), row(4, 1, 20, 100)]
    assert (best(rows, 100), best(rows, 99), best([], None)) == (1, None, None)


def test_the_rule_in_words() -> None:
    assert WITHIN == "1 %"
    assert "within 1 % of it" in RULE and "within 1 % of it" in MARKED


@pytest.mark.parametrize("name", ["README.md", "docs/python.md", "docs/command-line.md"])
def test_the_texts_for_people_state_this_rule(name: str) -> None:
    text = " ".join((ROOT / name).read_text().split())
    assert set(re.findall(r"(?i)of (?:those|the points) within ([\d.]+ %)", text)) == {WITHIN}
