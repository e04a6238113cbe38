"""Values of a sweep's axes, as they are written on the command line."""

from __future__ import annotations

import pytest

from loadahead.cli.ranges import parse_ints, parse_names, parse_texts
from loadahead.sim.errors import InputError


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


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("simple,interleaved", ("simple", "interleaved")),
        ("1 GB/s, 2 GB/s", ("1 GB/s", "2 GB/s")),
        ('"1 GB/s","2, or 3"', ('"1 GB/s"', '"2, or 3"')),
        ("'a,b',c", ("'a,b'", "c")),
        (r'"a\",b",c', (r'"a\",b"', "c")),
        ("0:4:2,7", ("0", "2", "4", "7")),
        ("true,false", ("true", "false")),
        ("[1, 2],[3]", ("[1, 2]", "[3]")),
        ("{ a = 1, b = [2, 3] },{}", ("{ a = 1, b = [2, 3] }", "{}")),
        ("0.5,1,0.5", ("0.5", "1")),
    ],
)
def test_any_values_are_parted_at_commas_outside_quotes_and_brackets(text: str, values: tuple[str, ...]) -> None:
    assert parse_texts("--set-range a.b", text) == values


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "as a list"),
        ("1,,2", "as a list"),
        ("4:1", "smaller end first"),
        ("0:4:0", "steps at least 1"),
        ("0:999999999", "more than 10000 values"),
        ('"a,b', "no partner"),
        ("[1,2", "no partner"),
        ("1]", "no partner"),
    ],
)
def test_bad_values_are_one_line_that_names_the_option(text: str, says: str) -> None:
    with pytest.raises(InputError, match=r"^--set-range a\.b ") as caught:
        parse_texts("--set-range a.b", text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
