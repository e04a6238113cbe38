"""How long work reports what it does: through a callback, as the library prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of long work.

    Attributes:
        what: what is being done, in words; reports about the same work have the same text.
        done: how many of its parts are done.
        total: how many parts it has; 0 for a message that has none.
    """

    what: str
    done: int = 0
    total: int = 0


ProgressCallback = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Take a report and do nothing with it: what functions call where no callback is given."""
