"""What the command line answers about the shipped scenarios, and every error text, is what was recorded."""

from __future__ import annotations

import json

import pytest

from tests.golden.record import ANSWERS, ERRORS, SCENARIOS, in_this_process, record_answers_of, record_errors


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_plans_timelines_and_sweeps_are_as_recorded(scenario: str) -> None:
    assert record_answers_of(scenario, in_this_process) == json.loads(ANSWERS.read_text())[scenario]


def test_error_texts_are_as_recorded() -> None:
    assert record_errors(in_this_process) == json.loads(ERRORS.read_text())
