"""`make check-times` repeats before it judges, and says every figure with its spread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.times.figure import Figure, predicted_within
from tests.times.judging import Check, failing, holds


def attempts(*outcomes: bool) -> Check:
    """A check with one figure, which holds or not, attempt by attempt."""
    left: Iterator[bool] = iter(outcomes)

    def check() -> Sequence[Figure]:
        return [Figure(name="a figure", measured=[1, 3, 2], wanted="so and so", holds=next(left))]

    return check


@pytest.mark.parametrize(
    ("outcomes", "expected", "lines"),
    [([True], True, 2), ([False, True], True, 4), ([False, False, True], True, 6), ([False] * 3, False, 6)],
)
def test_one_attempt_of_three_has_to_hold(outcomes: list[bool], expected: bool, lines: int) -> None:
    said: list[str] = []
    assert holds("it", attempts(*outcomes), say=said.append) is expected
    assert len(said) == lines
    assert said[0] == "it, attempt 1 of 3"


def test_all_figures_of_one_attempt_have_to_hold() -> None:
    good, bad = (Figure(name="a", measured=[1], wanted="x", holds=outcome) for outcome in (True, False))
    said: list[str] = []
    assert failing({"both": lambda: [good, bad], "one": lambda: [good]}, say=said.append) == ["both"]


@pytest.mark.parametrize(("predicted", "outcome"), [(91, True), (109, True), (89, False), (111, False)])
def test_a_prediction_holds_within_its_share_of_the_median(predicted: float, outcome: bool) -> None:
    assert predicted_within("step", [100, 1, 1000], predicted, 0.10).holds is outcome


def test_a_line_has_median_spread_and_prediction() -> None:
    line = predicted_within("step", [3_000_000, 1_000_000, 2_000_000], 3_000_000, 0.1).line()
    assert line == "step: 2 ms (1 ms to 3 ms, 3 samples); predicted 3 ms, +50.0%; DOES NOT HOLD: within 10%"
    assert Figure(name="peers", measured=[2.0], show=str).line() == "peers: 2.0"
