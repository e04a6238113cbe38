"""These are the types of a scenario's values; the error of each says what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from loadahead.sim.errors import InputError
from loadahead.sim.schema_errors import SAYS_VALUE
from loadahead.sim.units import parse_bytes, parse_duration_ns, parse_rate, parse_share, parse_speed, written

# Larger counts are taken for typing errors; a plan's columns hold 32 bits.
LARGEST_COUNT = 2**31 - 1


class Table(BaseModel):
    """Is the base of a scenario file's tables: it takes no unknown keys, converts nothing and cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def not_allowed(message: str) -> PydanticCustomError:
    """Return an error whose text is shown as it stands, after key and value."""
    return PydanticCustomError("not_allowed", "{text}", {"text": message})


def _quantity(parse: Callable[[object], int]) -> BeforeValidator:
    """Return a validator that turns a text such as ``"80 GiB"`` into an int of the smallest unit; it takes ints too."""

    return BeforeValidator(lambda value: _parsed(parse, value))


def _quantities(parse: Callable[[object], int]) -> BeforeValidator:
    """Return a validator of one quantity, which comes back as an int, or of a list of them, which does as a tuple."""

    def validate(value: object) -> int | tuple[int, ...]:
        if not isinstance(value, list | tuple):
            return _parsed(parse, value)
        if not value:
            raise not_allowed("it must have at least one value; give one value per unit of a stage")
        return tuple([_parsed(parse, one, f"value {number}: ") for number, one in enumerate(value)])

    return BeforeValidator(validate)


def _parsed(parse: Callable[[object], int], value: object, which: str = "") -> int:
    try:
        return parse(value)
    except InputError as error:
        raise PydanticCustomError(SAYS_VALUE, "{text}", {"text": f"{which}{error}"}) from error


@dataclass(frozen=True, slots=True)
class InDoubt:
    """Marks a type of quantities whose numbers without a unit are mostly meant in another than the smallest.

    Attributes:
        unit: the smallest, as it is written; ``words`` says it in words.
    """

    unit: str
    words: str

    def caution(self, key: str, value: int) -> str:
        """Return the warning about a number that was written for a key, its full path, without a unit."""
        example = written(value, self.unit)
        return f'{key} = {value} was taken for {value} {self.words}; write the unit, e.g. "{example}"'


@dataclass(frozen=True, slots=True)
class Bare:
    """Holds the keys of a table that had a number without a unit; tables that say the same are equal in spite of it."""

    keys: tuple[str, ...] = field(default=(), compare=False)


def in_doubt(fields: Mapping[str, FieldInfo]) -> dict[str, InDoubt]:
    """Return the mark of each field whose type has one."""
    return {name: mark for name, info in fields.items() for mark in _marks(info.annotation, *info.metadata)}


def _marks(*parts: Any) -> Iterator[InDoubt]:
    for part in parts:
        if isinstance(part, InDoubt):
            yield part
        else:
            yield from _marks(*get_args(part))


def _told_with_unit(unit: str) -> PlainSerializer:
    """Return a serializer to a text that is exactly this amount, so that reading it again leaves no doubt."""
    return PlainSerializer(lambda amount: f"{amount} {unit}", return_type=str, when_used="json")


def _integer(lowest: int) -> BeforeValidator:
    def validate(value: object) -> int:
        if type(value) is not int or not lowest <= value <= LARGEST_COUNT:
            raise not_allowed(f"it must be an integer of at least {lowest} and at most {LARGEST_COUNT}")
        return value

    return BeforeValidator(validate)


def _number(value: object) -> float:
    """Return a number as a float, infinite if too large; return nan, which is in no range, for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _fraction(value: object) -> float:
    number = _number(value)
    if not 0 < number <= 1:
        raise not_allowed("it must be a number above 0 and at most 1")
    return number


def _variation(value: object) -> float:
    number = _number(value)
    if not 0 <= number <= 1:
        raise not_allowed("it must be a number from 0 to 1")
    return number


def _share(value: object) -> float:
    """Return a share that is a number, or a text in percent."""
    try:
        return parse_share(value)
    except InputError as error:
        raise PydanticCustomError(SAYS_VALUE, "{text}", {"text": str(error)}) from error


def _positive(value: object) -> float:
    number = _number(value)
    if not 0 < number < math.inf:
        raise not_allowed("it must be a finite number above 0")
    return number


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 200:
        raise not_allowed("it must be a text of 1 to 200 printable characters")
    return value


def _plain(value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or not _is_plain(value):
        raise not_allowed("it must be a table of texts, finite numbers, booleans, lists and tables")
    return value


def _is_plain(value: object) -> bool:
    """Return whether JSON can hold the value, as a plan file has to."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(part) for part in value)
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def one_of(*allowed: str) -> Any:
    """Return the type of a text that is one of the allowed words."""

    def validate(value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise not_allowed(f"it must be one of {', '.join(allowed)}")
        return value

    return Annotated[str, BeforeValidator(validate)]


Bytes = Annotated[int, _quantity(parse_bytes)]
# The memory of a device: as Bytes, and written out with its unit.
Memory = Annotated[int, _quantity(parse_bytes), _told_with_unit("B"), InDoubt("B", "bytes")]
# A budget of memory: as Bytes, and written out with its unit.
Budget = Annotated[int, _quantity(parse_bytes), _told_with_unit("B")]
Duration = Annotated[int, _quantity(parse_duration_ns)]
# One value for all units of a stage, or a list with one for each.
BytesPerUnit = Annotated[int | tuple[int, ...], _quantities(parse_bytes)]
DurationPerUnit = Annotated[int | tuple[int, ...], _quantities(parse_duration_ns)]
Rate = Annotated[int, _quantity(parse_rate), _told_with_unit("B/s"), InDoubt("B/s", "bytes per second")]
Speed = Annotated[int, _quantity(parse_speed)]
Count = Annotated[int, _integer(1)]
Natural = Annotated[int, _integer(0)]
Fraction = Annotated[float, BeforeValidator(_fraction)]
Share = Annotated[float, BeforeValidator(_share)]
Variation = Annotated[float, BeforeValidator(_variation)]
Positive = Annotated[float, BeforeValidator(_positive)]
Plain = Annotated[dict[str, Any], BeforeValidator(_plain)]
Name = Annotated[str, BeforeValidator(_name)]
