"""Values of a sweep's axes, as they are written on the command line."""

from __future__ import annotations

import pytest

from cli.ranges import parse_axes, parse_ints, parse_names
from sim.errors import InputError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4", (4,)),
        ("1:4", (1, 2, 3, 4)),
        ("1:16:4", (1, 5, 9, 13)),
        ("3:3", (3,)),
        ("2,4,8", (2, 4, 8)),
        ("8, 2", (8, 2)),
        ("1:3,2,8", (1, 2, 3, 8)),
    ],
)
def test_a_range_includes_both_ends_and_keeps_the_order_written(text: str, values: tuple[int, ...]) -> None:
    assert parse_ints("--horizon", text) == values


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "range 1:16"),
        ("a", "range 1:16"),
        ("1:", "range 1:16"),
        ("1:2:3:4", "range 1:16"),
        ("2.5", "range 1:16"),
        ("-1", "range 1:16"),
        ("1,,2", "range 1:16"),
        ("0", "at least 1"),
        ("0:4", "at least 1"),
        ("1:4:0", "at least 1"),
        ("8:1", "smaller end first"),
        ("1:999999999", "more than 10000 values"),
        ("1:6000,6001:12000", "more than 10000 values"),
        ("9" * 400, "range 1:16"),
    ],
)
def test_a_bad_range_is_one_line_that_names_the_option_and_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_ints("--horizon", text)
    message = str(caught.value)
    assert message.startswith("--horizon ")
    assert says in message
    assert "\n" not in message
    assert len(message) < 250


def test_names_are_checked_against_what_is_registered() -> None:
    assert parse_names("--pipeline", "simple,interleaved", ["simple", "interleaved"]) == ("simple", "interleaved")
    with pytest.raises(InputError, match=r"--pipeline is 'simple,zigzag'; 'zigzag' must be one of simple, interleaved"):
        parse_names("--pipeline", "simple,zigzag", ["simple", "interleaved"])


def test_an_option_that_is_not_given_is_no_axis() -> None:
    axes = parse_axes({"horizon": "1:2", "release_window": None}, {"pipeline": "gpipe", "horizon_unit": None})
    assert axes == {"pipeline": ("gpipe",), "horizon": (1, 2)}


def test_a_bad_axis_names_its_option() -> None:
    with pytest.raises(InputError, match="--horizon-unit"):
        parse_axes({}, {"horizon_unit": "layer"})
    with pytest.raises(InputError, match="--release-window"):
        parse_axes({"release_window": "0"}, {})
