"""Lists of values on the command line: ``1:16``, ``1:16:4``, ``2,4,8``, ``1:4,8``."""

from __future__ import annotations

import re

from sim.errors import InputError

# More values than this on one axis are a slip of the pen, not a sweep.
MOST_VALUES = 10_000
_RANGE = re.compile(r"(\d{1,9})(?::(\d{1,9})(?::(\d{1,9}))?)?")


def parse_ints(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1, ranges inclusive at both ends; InputError, naming the option, otherwise."""
    values: dict[int, None] = {}
    for part in text.split(","):
        values |= dict.fromkeys(_range(option, part.strip(), text))
        if len(values) > MOST_VALUES:
            raise InputError(f"{option} {text!r:.60} has more than {MOST_VALUES} values; give a step: 1:100000:1000")
    return tuple(values)


def _range(option: str, part: str, text: str) -> range:
    match = _RANGE.fullmatch(part)
    if match is None:
        raise InputError(
            f"{option} is {text!r:.60}; write whole numbers as a range 1:16 (ends included), with a step 1:16:4, "
            "or a list 2,4,8"
        )
    first = int(match[1])
    last, step = int(match[2] or first), int(match[3] or 1)
    if first < 1 or step < 1:
        raise InputError(f"{option} is {text!r:.60}; values and steps must be at least 1")
    if last < first:
        raise InputError(f"{option} is {text!r:.60}; the range {part} is empty, write the smaller end first")
    # One more than is allowed is enough to refuse it, without making a huge list first.
    return range(first, last + 1, step)[: MOST_VALUES + 1]


def parse_names(option: str, text: str, allowed: list[str]) -> tuple[str, ...]:
    """Names from a comma-separated list; InputError when one is unknown."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in allowed:
            raise InputError(f"{option} is {text!r:.60}; {name!r:.40} must be one of {', '.join(allowed)}")
    return names


def parse_axes(numbers: dict[str, str | None], names: dict[str, str | None]) -> dict[str, tuple[int | str, ...]]:
    """A sweep's axes from its options; an option that is not given is no axis."""
    from sim.planner import HORIZON_UNITS, order_names

    allowed = {"pipeline": order_names(), "horizon_unit": list(HORIZON_UNITS)}
    axes: dict[str, tuple[int | str, ...]] = {}
    for axis, text in names.items():
        if text is not None:
            axes[axis] = parse_names(_option(axis), text, allowed[axis])
    for axis, text in numbers.items():
        if text is not None:
            axes[axis] = parse_ints(_option(axis), text)
    return axes


def _option(axis: str) -> str:
    return "--" + axis.replace("_", "-")
