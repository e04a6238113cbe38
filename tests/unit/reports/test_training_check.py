"""One verdict on a run's comparison with plain training, in texts, on the page and in the exit status."""

from __future__ import annotations

import math

import pytest

from loadahead.reports.run_data import read_check
from loadahead.reports.training_check import EQUAL, NOT_CHECKED, TrainingCheck, worst
from loadahead.sim.errors import InputError

SHARED = "units 0.0 and 0.3 share '0.weight', whose gradient adds up in another order: 3e-08 off, at most 1e-06"
FAULT = "the gradient of 2.weight differs first, in step 1"
NONE = TrainingCheck()
SAME = TrainingCheck(max_grad_error=0.0)
ROUNDED = TrainingCheck(max_grad_error=3e-8, grad_error_allowed=1e-6, differences=SHARED)
WRONG = TrainingCheck(max_grad_error=3e-8, differences=FAULT)


@pytest.mark.parametrize(
    ("check", "equal", "holds", "sentence"),
    [
        (NONE, False, True, NOT_CHECKED),
        (SAME, True, True, EQUAL),
        (ROUNDED, False, True, SHARED),
        (TrainingCheck(max_grad_error=1e-6, grad_error_allowed=1e-6, differences=SHARED), False, True, SHARED),
        (WRONG, False, False, FAULT),
        (TrainingCheck(max_grad_error=2e-6, grad_error_allowed=1e-6, differences=FAULT), False, False, FAULT),
        # Every gradient is equal, and a loss or a buffer is not.
        (TrainingCheck(max_grad_error=0.0, differences=FAULT), False, False, FAULT),
        (TrainingCheck(max_grad_error=0.0, grad_error_allowed=1e-6, differences=FAULT), False, False, FAULT),
        (TrainingCheck(max_grad_error=math.inf, grad_error_allowed=1e-6, differences=FAULT), False, False, FAULT),
        # A result from before told nothing but the number.
        (TrainingCheck(max_grad_error=2e-6), False, False, "differ from plain training's by up to 2e-06"),
    ],
)
def test_verdict_and_sentence(check: TrainingCheck, equal: bool, holds: bool, sentence: str) -> None:
    assert (check.equal, check.holds) == (equal, holds)
    assert sentence in check.sentence
    assert ("TRAINED OTHERWISE" in check.sentence) == (not holds)


def test_the_worst_of_many() -> None:
    assert worst({1: SAME, 2: NONE}) is None
    assert worst({1: SAME, 2: ROUNDED, 3: WRONG}) == (3, WRONG)
    assert worst({1: NONE, 2: ROUNDED, 3: SAME}) == (2, ROUNDED)


def test_a_result_says_it_and_is_read_again() -> None:
    for check in (NONE, SAME, ROUNDED, WRONG):
        assert read_check(check.to_dict(), "result.") == check
    assert read_check({"max_grad_error": 0.0}, "result.") == SAME


@pytest.mark.parametrize(
    ("key", "value"),
    [("max_grad_error", "0"), ("grad_error_allowed", [1]), ("differences", 5), ("grad_error_allowed", math.inf)],
)
def test_what_a_result_must_not_hold(key: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"result\.{key} is "):
        read_check({"max_grad_error": 0.0, key: value}, "result.")
