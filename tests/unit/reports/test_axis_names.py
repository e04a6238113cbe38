"""Axes' values: which are numbers, in which order they stand, and which are shown where there is room for few."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.reports.axis_names import axis_name, capital, in_order, not_drawn, numbers, some, value_text

# On a busy machine the first draw is slow.
QUIETLY = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], [1, 2]),
        (["8 GB/s", "500 MB/s"], [8e9, 5e8]),
        (["80 GiB", "1 GB"], [80 * 2**30, 1e9]),
        (["1.5 ms", "20 us"], [1.5e6, 2e4]),
        (["989 TFLOP/s"], [989e12]),
        (["0.5", 1], [0.5, 1]),
        (["simple", "interleaved"], None),
        ([True, False], None),
        (["8 GB/s", "80 GiB"], None),
        (["nan"], None),
        ([None, 1], None),
    ],
)
def test_values_with_units_are_numbers(values: list[Any], expected: list[float] | None) -> None:
    found = numbers(values)
    assert (None if found is None else [found[value] for value in values]) == expected


def test_values_stand_by_size_and_names_as_they_come() -> None:
    assert in_order(["16 GB/s", "900 MB/s", "16 GB/s", "1 TB/s"]) == ["900 MB/s", "16 GB/s", "1 TB/s"]
    assert in_order(["simple", "interleaved", "gpipe"]) == ["simple", "interleaved", "gpipe"]


@QUIETLY
@given(st.integers(1, 60), st.integers(2, 9), st.lists(st.integers(0, 70), max_size=12))
def test_what_is_wanted_is_among_the_few(count: int, most: int, wanted: list[int]) -> None:
    values = list(range(count))
    found = some(values, most, wanted)
    assert found == sorted(set(found)) and len(found) == min(count, most)
    there = [one for one in dict.fromkeys(wanted) if one < count]
    assert set(there[:most]) <= set(found)
    if not there:
        assert found[0] == 0 and found[-1] == count - 1


@pytest.mark.parametrize(
    ("axis", "value", "text"),
    [
        ("microbatches", 1, "1 microbatch"),
        ("microbatches", 8, "8 microbatches"),
        ("horizon", 3, "horizon 3"),
        ("pipeline", "simple", "simple"),
        ("horizon_unit", "layers", "horizon in layers"),
        ("hardware.d2h", "8 GB/s", "d2h 8 GB/s"),
        ("parallel.tensor_parallel_degree", 4, "tensor parallel degree 4"),
        ("model.layers", None, "no layers"),
    ],
)
def test_values_in_words(axis: str, value: Any, text: str) -> None:
    assert value_text(axis, value) == text


def test_words() -> None:
    assert axis_name("offload.release_window") == "release window"
    assert capital("d2h 8 GB/s: x") == "d2h 8 GB/s: x" and capital("horizon") == "Horizon" and capital("") == ""
    assert not_drawn(4, 5, "models") == "1 of 5 models is not drawn."
    assert not_drawn(4, 6, "models") == "2 of 6 models are not drawn."
