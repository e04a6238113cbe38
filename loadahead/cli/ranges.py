"""Values on the command line, and lists of them: ``1:16``, ``1:16:4``, ``2,4,8``, ``1:4,8``; words; any TOML values."""

from __future__ import annotations

import re
from pathlib import Path

from loadahead.sim.errors import InputError
from loadahead.sim.units import parse_duration_ns
from loadahead.sweeps.axes import MOST_VALUES

_RANGE = re.compile(r"(\d{1,9})(?::(\d{1,9})(?::(\d{1,9}))?)?", re.ASCII)
# A quoted TOML text, or one character.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|.', re.DOTALL)


def parse_ints(option: str, text: str, lowest: int = 1) -> tuple[int, ...]:
    """Return whole numbers, ranges inclusive at both ends; InputError, naming the option, for one below the lowest."""
    values: dict[int, None] = {}
    for part in text.split(","):
        values |= dict.fromkeys(_range(option, part.strip(), text, lowest))
        if len(values) > MOST_VALUES:
            raise InputError(f"{option} {text!r:.60} has more than {MOST_VALUES} values; give a step: 1:100000:1000")
    return tuple(values)


def _range(option: str, part: str, text: str, lowest: int) -> range:
    match = _RANGE.fullmatch(part)
    if match is None:
        raise InputError(
            f"{option} is {text!r:.60}; write whole numbers as a range 1:16 (ends included), with a step 1:16:4, "
            "or a list 2,4,8"
        )
    first = int(match[1])
    last, step = int(match[2] or first), int(match[3] or 1)
    if first < lowest or step < 1:
        raise InputError(f"{option} is {text!r:.60}; values must be at least {lowest} and steps at least 1")
    if last < first:
        raise InputError(f"{option} is {text!r:.60}; the range {part} is empty, write the smaller end first")
    # One more than is allowed is enough to refuse it, without making a huge list first.
    return range(first, last + 1, step)[: MOST_VALUES + 1]


def parse_limit_s(option: str, text: str) -> float:
    """Return seconds, above 0, from ``9m``, ``9 min`` or ``540 s``; InputError, naming the option, otherwise."""
    minutes = re.fullmatch(r"\s*([0-9.]+)\s*m\s*", text, re.ASCII)
    try:
        limit = parse_duration_ns(f"{minutes[1]} min" if minutes else text)
    except InputError as error:
        raise InputError(f"{option} is {text!r:.60}; write a time such as 9m or 540 s") from error
    if limit == 0:
        raise InputError(f"{option} is {text!r:.60}; nothing can be done in no time, write e.g. 9m")
    return limit / 1e9


def parse_names(option: str, text: str, allowed: list[str]) -> tuple[str, ...]:
    """Return the names of a comma-separated list; InputError when one is unknown."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in allowed:
            raise InputError(f"{option} is {text!r:.60}; {name!r:.40} must be one of {', '.join(allowed)}")
    return names


def parse_texts(option: str, text: str) -> tuple[str, ...]:
    """Return any values, as ``--set`` takes each: ranges ``0:8:2`` of whole numbers, TOML values, words without quotes.

    Commas inside quotes and brackets do not part values.
    """
    values: dict[str, None] = {}
    for part in _split(option, text):
        match = _RANGE.fullmatch(part)
        if match is not None and match[2] is not None:
            values |= dict.fromkeys(map(str, _range(option, part, text, lowest=0)))
        else:
            values[part] = None
        if len(values) > MOST_VALUES:
            raise InputError(f"{option} {text!r:.60} has more than {MOST_VALUES} values; give a step: 0:100000:1000")
    return tuple(values)


def _split(option: str, text: str) -> list[str]:
    parts, open_brackets = [""], 0
    for token in _TOKEN.findall(text):
        if token == "," and open_brackets == 0:
            parts.append("")
            continue
        open_brackets += (token in "[{") - (token in "]}")
        parts[-1] += token
        if open_brackets < 0:
            break
    if open_brackets or any(token in ("'", '"') for part in parts for token in _TOKEN.findall(part)):
        raise InputError(f"{option} is {text!r:.60}; a quote or a bracket has no partner (quote it for the shell)")
    stripped = [part.strip() for part in parts]
    if not all(stripped):
        raise InputError(
            f"{option} is {text!r:.60}; write values as a list 2,4,8 or simple,interleaved or '1 GB/s','2 GB/s', or as "
            "a range 0:16 or 0:16:4"
        )
    return stripped


def directory_named(option: str, text: str) -> Path:
    """Return the directory that an option names; InputError for none and for a file."""
    if not text.strip():
        raise InputError(f"{option} is empty; give a directory")
    if Path(text).is_file():
        raise InputError(f"{option} {text}: is a file; give a directory")
    return Path(text)
