"""Predictions hold beside figures that others published, within what is asked of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.published import calculon, recomputation, simumax
from tests.published.page import table
from tests.published.rows import mean_error


def test_step_times_of_the_recomputation_paper() -> None:
    assert mean_error(recomputation.step_times()) <= 0.05


def test_interleaved_step_times_lie_between_both_bubbles() -> None:
    """The paper's order has a third of 1F1B's bubble and sends more, so that its step is between the two."""
    rows = recomputation.interleaved_step_times()
    assert len(rows) == 8
    for flat, closed in zip(rows[::2], rows[1::2], strict=True):
        assert closed.predicted < flat.predicted
        assert mean_error([flat, closed]) < 0.1


def test_memory_of_the_recomputation_paper() -> None:
    for row in recomputation.memory():
        assert row.error == pytest.approx(0, abs=0.03), row.line()


def test_step_times_and_peaks_on_eight_b200() -> None:
    steps, peaks = simumax.steps_and_peaks()
    assert len(steps) == 24
    assert [row.line() for row in steps if abs(row.error) > 0.15] == []
    assert [row.line() for row in peaks if abs(row.error) > 0.03] == []


def test_peaks_beside_calculon() -> None:
    for row in calculon.peaks():
        assert row.error == pytest.approx(0, abs=0.01), row.line()


def test_the_page_has_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "transformers.md"
    assert table() in page.read_text(encoding="utf-8"), "put what `python -m tests.published.page` prints there"
