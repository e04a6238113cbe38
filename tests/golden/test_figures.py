"""What the figures of one run show is what was recorded."""

from __future__ import annotations

import json

import pytest

from tests.golden.figures import FOLDER, RUNS, VIEWS, record


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("run", RUNS)
def test_figures_show_what_was_recorded(run: str, view: str) -> None:
    expected = json.loads((FOLDER / f"{run}.json").read_text())[view]
    found = json.loads(json.dumps(record(run, view)))
    # Part by part, so that a difference can be read.
    assert set(found) == set(expected)
    for part, value in expected.items():
        assert found[part] == value, part
