"""Says what a sweep's axes and their values are called in figures, which are numbers, and in which order they stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.units import parse_bytes, parse_duration_ns, parse_rate, parse_speed

T = TypeVar("T")

# A value with its axis reads so in a title or a label; other axes read as their name and the value.
_WITH_VALUE: dict[str, Callable[[Any], str]] = {
    "pipeline": str,
    "microbatches": lambda value: counted_microbatches(int(value)),
    "horizon_unit": lambda value: f"horizon in {value}",
    "model.preset": str,
    "hardware.preset": str,
    "hardware.machine": str,
}
_PARSERS: tuple[Callable[[object], int], ...] = (parse_rate, parse_bytes, parse_duration_ns, parse_speed)


def counted_microbatches(count: int) -> str:
    """Return a number of microbatches in words."""
    return f"{count} microbatch{'' if count == 1 else 'es'}"


def axis_name(axis: str) -> str:
    """Return what an axis is called in a figure: the key's last part, in words."""
    return axis.rsplit(".", 1)[-1].replace("_", " ")


def value_text(axis: str, value: Any) -> str:
    """Return a value with its axis, e.g. ``horizon 3`` or ``16 microbatches``."""
    if value is None:
        return f"no {axis_name(axis)}"
    return _WITH_VALUE.get(axis, lambda shown: f"{axis_name(axis)} {shown}")(value)


def values_text(axes: Mapping[str, Any]) -> str:
    """Return the values of several axes, e.g. ``16 microbatches, horizon 3``."""
    return ", ".join(value_text(axis, value) for axis, value in axes.items())


def varying(rows: Sequence[SweepRow]) -> list[str]:
    """Return the axes that have more than one value in the rows."""
    axes = list(rows[0].axes) if rows else []
    return [axis for axis in axes if len({row.axes[axis] for row in rows}) > 1]


def numbers(values: Iterable[Any]) -> dict[Any, float] | None:
    """Return each value as a number, those with units in the least one; None where any is none, or units differ."""
    given = list(values)
    for read in (_number, *_PARSERS):
        try:
            found = {value: float(read(value)) for value in given}
        except (InputError, ValueError, TypeError):
            continue
        if all(map(math.isfinite, found.values())):
            return found
    return None


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    return float(value)


def in_order(values: Iterable[Any]) -> list[Any]:
    """Return distinct values by size where they are numbers, else as they come first."""
    known = list(dict.fromkeys(values))
    sizes = numbers(known)
    return known if sizes is None else sorted(known, key=lambda value: sizes[value])


def some(values: Sequence[T], most: int, wanted: Iterable[T] = ()) -> list[T]:
    """Return at most ``most`` of the values in their order: the wanted ones first of all, then spread-out ones."""
    if len(values) <= most:
        return list(values)
    places = [round(i * (len(values) - 1) / max(most - 1, 1)) for i in range(most)]
    fixed = list(dict.fromkeys(values.index(one) for one in wanted if one in values))[:most]
    for place in fixed:
        if place not in places:
            free = [known for known in places if known not in fixed]
            places[places.index(min(free, key=lambda known: abs(known - place)))] = place
    return [values[place] for place in sorted(places)]


def capital(text: str) -> str:
    """Return a text as a sentence begins; a name such as ``d2h`` stays as it is."""
    first = text.split(" ", 1)[0]
    return text if any(letter.isdigit() for letter in first) else text[:1].upper() + text[1:]


def not_drawn(shown: int, every: int, what: str) -> str:
    """Return a sentence about how many of some are left out of a figure, e.g. ``1 of 5 models is not drawn.``"""
    left = every - shown
    return f"{left} of {every} {what} {'is' if left == 1 else 'are'} not drawn."
