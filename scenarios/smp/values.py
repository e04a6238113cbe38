"""What a value of SageMaker's options may be, and a value that only running its file would tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loadahead.scenarios.fields import LARGEST_COUNT
from loadahead.sim.errors import one_line
from loadahead.sim.schema_errors import shown_value


@dataclass(frozen=True, slots=True)
class Allowed:
    """Says which values a key takes: ``text`` in words, after "it must be"."""

    text: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class NotKnown:
    """Stands for a value that a Python file computes: the line that has it, and its text there.

    ``may_be`` holds dictionaries that it may be or hold: what changes it changes them.
    """

    line: int
    text: str
    may_be: tuple[Any, ...] = field(default=(), compare=False, repr=False)


def shown(value: Any) -> str:
    """Return a value as one writes it in JSON, or a computed one as it stands in its file, cut to 60 characters."""
    if isinstance(value, NotKnown):
        return one_line(value.text, 60)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):  # a text of JSON may hold what no terminal can show
        value = "".join(letter if letter.isprintable() else " " for letter in value[:60])
        return one_line(f'"{value}"', 60)
    return one_line(shown_value(value), 60)


def one_of(*words: str) -> Allowed:
    """Return that a value is one of the words."""
    return Allowed(f"one of {', '.join(words)}", lambda value: isinstance(value, str) and value in words)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _is_whole(value: Any) -> bool:
    """Return whether a number is whole and above 0; JSON and the documentation write 5e8 for some."""
    return _is_number(value) and value >= 1 and value == int(value)


FLAG = Allowed("true or false", lambda value: isinstance(value, bool))
COUNT = Allowed(
    f"an integer of at least 1 and at most {LARGEST_COUNT}",
    lambda value: type(value) is int and 1 <= value <= LARGEST_COUNT,
)
NATURAL = Allowed(
    f"an integer of at least 0 and at most {LARGEST_COUNT}",
    lambda value: type(value) is int and 0 <= value <= LARGEST_COUNT,
)
INTEGER = Allowed("an integer", lambda value: type(value) is int)
WHOLE = Allowed("a whole number of at least 1", _is_whole)
FRACTION = Allowed("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
POSITIVE = Allowed("a number above 0", lambda value: _is_number(value) and value > 0)
TEXT = Allowed("a text", lambda value: isinstance(value, str))
TEXTS = Allowed(
    "a text or a list of texts",
    lambda value: (
        isinstance(value, str) or (isinstance(value, list | tuple) and all(isinstance(part, str) for part in value))
    ),
)
ANYTHING = Allowed("anything", lambda value: True)
