"""Holds the command line that makes a sweep's point: only the command line's own modules know its words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PointCommand:
    """Holds a command line in parts, to be given in the sweep's directory.

    Attributes:
        before: how it begins.
        setting: returns what sets an axis, which is given by its column, to a value of the table.
        after: how it ends.
        note: what else to know, in a sentence; empty for nothing.
    """

    before: str
    setting: Callable[[str, Any], str]
    after: str
    note: str = ""
