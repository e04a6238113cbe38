"""The dictionaries of a Python file, which may change in ways that reading the file does not tell.

A dictionary is held once, whatever names it has, so that what changes it under one name is seen under all. Where it may
have changed in an unknown way it holds :data:`CHANGED`, and with it nothing in it is known any more.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from loadahead.scenarios.smp.values import NotKnown


class _Mark(Enum):
    CHANGED = "changed"


# The key under which a dictionary says what may have changed it.
CHANGED = _Mark.CHANGED


def tables_of(value: Any) -> list[dict[Any, Any]]:
    """Return the dictionaries that a value is, holds, or may be, each once."""
    out: list[dict[Any, Any]] = []
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, dict | list | NotKnown) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, NotKnown):
            waiting.extend(one.may_be)
        elif isinstance(one, list):
            waiting.extend(one)
        else:
            out.append(one)
            waiting.extend(one.values())
    return out


def settled(value: Any) -> Any:
    """Return a copy of a value as it is now; a dictionary that may have changed is a value that is not known."""
    return _settled(value, {})


def _settled(value: Any, made: dict[int, Any]) -> Any:
    if isinstance(value, NotKnown):
        return NotKnown(value.line, value.text)
    if not isinstance(value, dict | list):
        return value
    if id(value) not in made:
        if isinstance(value, list):
            made[id(value)] = [_settled(part, made) for part in value]
        elif CHANGED in value:
            made[id(value)] = _settled(value[CHANGED], made)
        else:
            made[id(value)] = {key: _settled(part, made) for key, part in value.items()}
    return made[id(value)]
