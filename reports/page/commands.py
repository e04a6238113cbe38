"""Holds command lines that a page shows: the command line passes them in, as no other module knows its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loadahead.reports.answer import Words, plain_words
from loadahead.reports.page.point_command import PointCommand
from loadahead.reports.run_data import RunData


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCommands:
    """Holds command lines to be given in a run's directory.

    Attributes:
        again: make the run's files again, or look at them.
        traces: write traces of its timelines.
        next_words: says what to do next in the answer.
        point: makes a point of its sweep whose memory and operations the page does not hold; None for none.
    """

    again: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    next_words: Words = plain_words
    point: PointCommand | None = None


CommandsOf = Callable[[RunData], PageCommands]


def no_commands(data: RunData) -> PageCommands:
    """Return none: what calls the library has no command line."""
    del data
    return PageCommands()
