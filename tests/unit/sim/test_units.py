"""Quantities: what is taken, and what is said of what is not."""

from __future__ import annotations

import math

import pytest

from loadahead.sim.errors import InputError
from loadahead.sim.units import (
    format_flops,
    format_ratio,
    parse_bytes,
    parse_duration_ns,
    parse_rate,
    parse_speed,
    written,
)

PARSERS = {"size": parse_bytes, "duration": parse_duration_ns, "bandwidth": parse_rate, "speed": parse_speed}


def refused(what: str, value: object) -> str:
    with pytest.raises(InputError) as error:
        PARSERS[what](value)
    return str(error.value)


@pytest.mark.parametrize("what", PARSERS)
def test_a_whole_float_is_the_int_that_it_is(what: str) -> None:
    assert PARSERS[what](32e9) == PARSERS[what](32_000_000_000) == 32_000_000_000


@pytest.mark.parametrize("what", PARSERS)
@pytest.mark.parametrize("value", [32.5, math.nan, math.inf, 1e-9])
def test_no_other_float_is_taken(what: str, value: float) -> None:
    assert refused(what, value).startswith(f"{value!r} is no {what}; a bare number must be whole, as it counts ")


def test_floats_out_of_range() -> None:
    assert refused("size", -1.0).startswith("-1 is negative; write a non-negative size")
    assert refused("size", 1e300).startswith("1e+300 is too large; at most 9007199254740992 B is allowed")
    assert refused("bandwidth", 0.0).startswith("0.0 is no bandwidth; write a bandwidth above 0")


@pytest.mark.parametrize(
    ("what", "text", "bits", "nbytes"),
    [
        ("bandwidth", "32 Gb/s", "32 Gbit/s", "4 GB/s"),
        ("bandwidth", "256 Gbit/s", "256 Gbit/s", "32 GB/s"),
        ("bandwidth", "256 Gbits/s", "256 Gbits/s", "32 GB/s"),
        ("bandwidth", "32 Gbps", "32 Gbit/s", "4 GB/s"),
        ("bandwidth", "100 Mbit", "100 Mbit", "12.5 MB/s"),
        ("bandwidth", "8 Gib/s", "8 Gibit/s", "1 GiB/s"),
        ("bandwidth", "1_000 Kb/s", "1_000 kbit/s", "125 kB/s"),
        ("size", "80 Gb", "80 Gbit", "10 GB"),
        ("size", "12 bit", "12 bit", "1.5 B"),
    ],
)
def test_bits_are_refused_with_what_they_are_in_bytes(what: str, text: str, bits: str, nbytes: str) -> None:
    said = refused(what, text)
    assert said.startswith(f"{text!r} is no {what}; bits are not taken: {bits} is {nbytes} (units: ")
    # It is an eighth: of units that have eight bits to the byte, whatever the words.
    number, unit = nbytes.split(" ")
    assert PARSERS[what](f"{float(number) * 8} {unit}") == PARSERS[what](f"{text.split(' ')[0]} {unit}")


@pytest.mark.parametrize(
    ("what", "text", "meant"),
    [
        ("bandwidth", "32 gb/s", "32 GB/s? (if bits were meant, 32 Gbit/s is 4 GB/s)"),
        ("bandwidth", "32 gbps", "32 GB/s? (if bits were meant, 32 Gbit/s is 4 GB/s)"),
        ("size", "80 gib", "80 GiB? (if bits were meant, 80 Gibit is 10 GiB)"),
        ("size", "80 kb", "80 kB? (if bits were meant, 80 kbit is 10 kB)"),
        ("bandwidth", "32 GBps", "32 GB/s?"),
        ("bandwidth", "32 GB", "32 GB/s?"),
        ("bandwidth", "32G", "32 GB/s or 32 GiB/s?"),
        ("bandwidth", "32 gigabytes/s", "32 GB/s?"),
        ("size", "80G", "80 GB or 80 GiB?"),
        ("size", "80 giB", "80 GiB?"),
        ("size", "80 GB/s", "80 GB?"),
        ("size", "80 GBytes", "80 GB?"),
        ("duration", "1 m", "1 ms or 1 min?"),
        ("duration", "1 MS", "1 ms?"),
        ("duration", "1 msec", "1 ms?"),
        ("duration", "2 seconds", "2 s?"),
        ("duration", "20 \N{GREEK SMALL LETTER MU}s", "20 µs?"),
        ("speed", "989 TFLOPS", "989 TFLOP/s?"),
        ("speed", "989 tflop/s", "989 TFLOP/s?"),
    ],
)
def test_another_spelling_gets_the_nearest_unit(what: str, text: str, meant: str) -> None:
    said = refused(what, text)
    assert said.startswith(f"{text!r} is no {what}; did you mean {meant} (units: ")
    for answer in said.partition("did you mean ")[2].partition("?")[0].split(" or "):
        PARSERS[what](answer)


@pytest.mark.parametrize(
    ("what", "text", "example"),
    [
        ("bandwidth", "32", "32 GB/s"),
        ("size", "80", "80 GB"),
        ("size", "80000000000", "80000000000 B"),
        ("duration", "1.5", "1.5 ms"),
        ("speed", "989", "989 TFLOP/s"),
    ],
)
def test_a_text_without_a_unit(what: str, text: str, example: str) -> None:
    assert refused(what, text).startswith(f'{text!r} is no {what}; {text} has no unit; write e.g. "{example}" (units: ')


@pytest.mark.parametrize("what", PARSERS)
@pytest.mark.parametrize("text", ["", "GB", "1 furlong", "1 2 GB", "nan", "0x10 B", "1 GB!"])
def test_what_is_no_quantity_gets_an_example(what: str, text: str) -> None:
    assert refused(what, text).startswith(f"{text!r} is no {what}; write a non-negative {what} such as ")


@pytest.mark.parametrize("amount", [1, 999_999, 10**6, 32 * 10**9, 80 * 2**30, 123_456_789, 3 * 2**20])
@pytest.mark.parametrize(("smallest", "parse"), [("B", parse_bytes), ("B/s", parse_rate)])
def test_a_large_number_is_written_as_itself_and_a_small_one_in_gb(amount: int, smallest: str, parse: object) -> None:
    assert callable(parse)
    text = written(amount, smallest)
    assert parse(text) == (amount if amount >= 10**6 else amount * 10**9)


@pytest.mark.parametrize(
    ("flops", "text"),
    [(0, "0 FLOP"), (999, "999 FLOP"), (1000, "1 kFLOP"), (134_217_728, "134.2 MFLOP"), (3 * 10**15, "3 PFLOP")],
)
def test_flops_have_four_digits_and_units_of_1000(flops: int, text: str) -> None:
    assert format_flops(flops) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.0, "0"), (0.54419, "0.5442"), (99_999.0, "99999"), (1e5, "1e5"), (333_333_334.0, "3.3e8"), (2.51e-7, "2.5e-7")],
)
def test_a_ratio_that_is_very_large_or_small_is_short(ratio: float, text: str) -> None:
    assert format_ratio(ratio) == text
