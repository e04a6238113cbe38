"""A cell of a table sorts by the number that it shows."""

from __future__ import annotations

import pytest

from loadahead.reports.page.cell_values import cell_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("0.5", 0.5),
        ("12/16", 12),
        ("1.5 MiB", 1.5 * 2**20),
        ("16 GiB !", 16 * 2**30),
        ("12.5 ms", 12_500_000),
        ("−2.4 %", -2.4),
        ("+0.5 points", 0.5),
        ("exact", 0),
        ("unlimited", float("inf")),
        ("–", None),
        ("", None),
        ("simple", None),
        ("p4d.24xlarge", None),
    ],
)
def test_a_cell_s_value_is_that_of_its_text(text: str, value: float | None) -> None:
    assert cell_value(text) == value
