"""What the figures of tuned plans show, and what is said of these, is what was recorded."""

from __future__ import annotations

import json

import pytest

from tests.golden.tuned_figures import RECORD, RUNS, record


@pytest.mark.parametrize("run", RUNS)
def test_figures_of_tuned_plans_show_what_was_recorded(run: str) -> None:
    expected = json.loads(RECORD.read_text(encoding="utf-8"))[run]
    found = record()[run]
    assert set(found) == set(expected)
    for part, value in expected.items():
        assert found[part] == value, part
