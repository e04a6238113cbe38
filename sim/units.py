"""Quantities with units are parsed and printed here and nowhere else.

The library itself counts in integer bytes, nanoseconds, bytes per second and FLOPs per second.

"32 GB" is 1000-based, "24 GiB" is 1024-based (DESIGN, section 3). Arithmetic is exact; a value that is no whole number
of bytes or nanoseconds is rounded to the nearest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from loadahead.sim.errors import InputError
from loadahead.sim.unit_hints import LARGE, meant

# The largest single amount that is accepted, 8 PiB or 104 days, so that sums over a step stay within int64.
LARGEST_AMOUNT = 2**53

_MOST_BITS = 256

BYTES: dict[str, int] = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "PiB": 2**50,
}
DURATIONS: dict[str, int] = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}
RATES: dict[str, int] = {f"{name}/s": factor for name, factor in BYTES.items()}
SPEEDS: dict[str, int] = {"FLOP/s": 1, "GFLOP/s": 10**9, "TFLOP/s": 10**12, "PFLOP/s": 10**15}

_QUANTITY = re.compile(
    r"\s*([+-]?[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)\s*([^\W\d_][^\W\d_/]*(?:/[^\W\d_]+)?|)\s*"
)

_SHARE = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]+)?(?:[eE]-?[0-9]{1,3})?)\s*(%?)\s*")


def _parse(value: object, units: Mapping[str, int], what: str, example: str) -> int:
    allowed = f"write a non-negative {what} such as {example}"
    smallest = next(iter(units))
    if isinstance(value, float):
        value = _whole(value, units, what, allowed)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{value!r} is no {what}; {allowed}")
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:  # Python may refuse to write it out
        largest = f"{LARGEST_AMOUNT} {smallest}"
        raise InputError(f"an integer of {value.bit_length()} bits is too large; at most {largest} is allowed")
    text = f"{value} {smallest}" if isinstance(value, int) else value
    match = _QUANTITY.fullmatch(text[:100])
    if match is None or match[2] not in units:
        hint = meant(match[1], match[2], units) if match is not None else ""
        raise InputError(f"{value!r:.60} is no {what}; {hint or allowed} (units: {', '.join(units)})")
    try:
        exact = Decimal(match[1].replace("_", "")) * units[match[2]]
    except InvalidOperation as error:
        raise InputError(f"{value!r:.60} is no {what}; {allowed}") from error
    if exact < 0:
        raise InputError(f"{value!r:.60} is negative; {allowed}")
    if exact > LARGEST_AMOUNT:
        raise InputError(f"{value!r:.60} is too large; at most {LARGEST_AMOUNT} {smallest} is allowed")
    return round(exact)


def _whole(value: float, units: Mapping[str, int], what: str, allowed: str) -> int:
    """Return a float such as 32e9 as the int that it is; InputError where it is none."""
    if abs(value) > LARGEST_AMOUNT and value < math.inf:
        raise InputError(f"{value!r} is too large; at most {LARGEST_AMOUNT} {next(iter(units))} is allowed")
    if value.is_integer():
        return int(value)
    raise InputError(
        f"{value!r} is no {what}; a bare number must be whole, as it counts {next(iter(units))}; {allowed}"
    )


def parse_bytes(value: object) -> int:
    """Return the bytes that "1 MB", "24 GiB" or a plain int means; raise InputError for anything else."""
    return _parse(value, BYTES, "size", '"80 GiB" or "1 MB"')


def parse_duration_ns(value: object) -> int:
    """Return the nanoseconds that "1.5 ms" or a plain int means; raise InputError for anything else."""
    return _parse(value, DURATIONS, "duration", '"1.5 ms" or "20 us"')


def _above_zero(value: object, units: dict[str, int], what: str, example: str) -> int:
    amount = _parse(value, units, what, example)
    if amount < 1:
        raise InputError(f"{value!r:.60} is no {what}; write a {what} above 0 such as {example}")
    return amount


def parse_rate(value: object) -> int:
    """Return the bytes per second, at least 1, that "32 GB/s" or a plain int means; raise InputError otherwise."""
    return _above_zero(value, RATES, "bandwidth", '"32 GB/s"')


def parse_speed(value: object) -> int:
    """Return the FLOPs per second, at least 1, that "989 TFLOP/s" or a plain int means; raise InputError otherwise."""
    return _above_zero(value, SPEEDS, "speed", '"989 TFLOP/s"')


def parse_share(value: object) -> float:
    """Return the share from 0 to 1 that "1 %", "0.01" or a plain number means; raise InputError for anything else."""
    allowed = 'write a share from 0 to 1, or in percent, e.g. "1 %" or 0.01'
    match = _SHARE.fullmatch(value[:100]) if isinstance(value, str) else None
    if match is not None:
        share = float(match[1]) / (100 if match[2] else 1)
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        share = float(value)
    else:
        raise InputError(f"{value!r:.60} is no share; {allowed}")
    if not share <= 1:
        raise InputError(f"{value!r:.60} is more than the whole; {allowed}")
    return share


def _format(amount: int, steps: list[tuple[str, int]], smallest: str) -> str:
    for name, factor in steps:
        if abs(amount) >= factor:
            return f"{amount / factor:.4g} {name}" if abs(amount) < 9999 * factor else f"{amount / factor:.0f} {name}"
    return f"{amount} {smallest}"


def format_bytes(nbytes: int) -> str:
    """Return bytes as text such as ``1.5 MiB``: four significant digits, 1024-based."""
    return _format(nbytes, [(name, BYTES[name]) for name in ("PiB", "TiB", "GiB", "MiB", "KiB")], "B")


def bytes_apart(*amounts: int) -> list[str]:
    """Return several sizes as texts such as ``1.5 MiB``, exact ones where two that differ would read alike."""
    texts = [format_bytes(amount) for amount in amounts]
    alike = len({parse_bytes(text) for text in texts}) < len(set(amounts))  # 1024 KiB is 1 MiB
    return [f"{amount} B" for amount in amounts] if alike else texts


def part_of(part: int, whole: int) -> str:
    """Return two sizes as ``8.8 of 25.1 GiB``, the unit once where both have the same."""
    small, large = format_bytes(part), format_bytes(whole)
    if small == large and part != whole:
        return f"all but {format_bytes(whole - part)} of {large}"
    number, _, unit = small.partition(" ")
    return f"{number} of {large}" if unit == large.partition(" ")[2] else f"{small} of {large}"


def format_duration(ns: int) -> str:
    """Return nanoseconds as text such as ``12.5 ms``: four significant digits."""
    return _format(ns, [(name, DURATIONS[name]) for name in ("s", "ms", "us")], "ns")


def format_rate(rate: int) -> str:
    """Return bytes per second as text such as ``32 GB/s``: four significant digits, 1000-based."""
    return _format(rate, [(f"{name}/s", BYTES[name]) for name in ("TB", "GB", "MB", "kB")], "B/s")


def format_flops(flops: int) -> str:
    """Return FLOPs as text such as ``1.5 TFLOP``: four significant digits, 1000-based."""
    steps = {"PFLOP": 10**15, "TFLOP": 10**12, "GFLOP": 10**9, "MFLOP": 10**6, "kFLOP": 10**3}
    return _format(flops, list(steps.items()), "FLOP")


def written(amount: int, smallest: str) -> str:
    """Return what was probably meant by a bare number of bytes, or of bytes per second, as a text with a unit.

    ``smallest`` is ``"B"`` or ``"B/s"``. A small number is meant in GB; a large one is itself, exactly.
    """
    per = smallest.removeprefix("B")
    if amount < LARGE:
        return f"{amount} GB{per}"
    units = ("TiB", "GiB", "MiB", "TB", "GB", "MB")
    whole = next((name for name in units if amount % BYTES[name] == 0), None)
    return f"{amount} {smallest}" if whole is None else f"{amount // BYTES[whole]} {whole}{per}"


def format_number(number: float) -> str:
    """Return a number that is not negative as text such as ``12.5``: four significant digits, without exponent."""
    return f"{number:.0f}" if number >= 9999 else f"{Decimal(f'{number:.3e}').normalize():f}"


def format_ratio(ratio: float) -> str:
    """Return a ratio as :func:`format_number` does, one that is very large or small as text such as ``3.3e8``."""
    if ratio == 0 or 1e-4 <= ratio < 1e5:
        return format_number(ratio)
    digits, exponent = f"{ratio:.1e}".split("e")
    return digits.removesuffix(".0") + "e" + str(int(exponent))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, e.g. ``1 pair`` or ``2 pairs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


# Shares above this are told as multiples, and those below as none.
_MANY, _NOTHING = 10, 0.00005
# A float's share of a percent has no more digits behind the point that tell anything.
_MOST_DIGITS = 14


def format_change(share: float) -> str:
    """Return a signed share in percent, with a second digit where the first would be 0; a large one as a multiple."""
    if abs(share) < _NOTHING:
        return "+0 %"
    if share > _MANY:
        return f"×{1 + share:.3g}"
    shown = f"{100 * share:+.1f}" if abs(share) >= 0.001 else f"{100 * share:+.2f}"
    return f"{shown} %".replace("-", "−")


def format_beyond(share: float, limit: float) -> str:
    """Return a signed share as :func:`format_change` does, with digits more where it is beyond a limit and reads as it.

    The limit is one of the share's size.
    """
    shown, size = format_change(share), abs(share)
    if size <= limit or shown.lstrip("+−") != format_change(limit).lstrip("+"):
        return shown
    texts = (f"{100 * share:+.{digits}f}" for digits in range(2, _MOST_DIGITS))
    told = next((text for text in texts if abs(float(text)) > 100 * limit), None)
    return shown if told is None else f"{told} %".replace("-", "−")
