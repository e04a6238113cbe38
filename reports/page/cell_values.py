"""Reads the number that a cell of a table shows, by which its column is sorted.

Cells that show the same keep the order that the table has.
"""

from __future__ import annotations

import math
import re

from loadahead.reports.tables import NOTHING
from loadahead.sim.errors import InputError
from loadahead.sim.units import parse_bytes, parse_duration_ns

# What stands for a number, and after one.
_WORDS = {"exact": 0.0, "unlimited": math.inf}
_NUMBER = re.compile(r"([+−-]?)([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)(?: ?(%|points)| ?/ ?[0-9]+)?")


def cell_value(text: str) -> float | None:
    """Return a cell's number: a size in bytes, a duration in ns, a share in percent; None for what is none.

    ``12/16`` is 12, and a ``!`` behind a number says nothing about it.
    """
    shown = text.strip().removesuffix("!").strip()
    if not shown or shown == NOTHING:
        return None
    if shown in _WORDS:
        return _WORDS[shown]
    match = _NUMBER.fullmatch(shown)
    if match is not None:
        return -float(match[2]) if match[1] in ("−", "-") else float(match[2])
    for parse in (parse_bytes, parse_duration_ns):
        try:
            return float(parse(shown))
        except InputError:
            continue
    return None
