"""Remembers the command line that is being worked on, so that the files it makes can say it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

PROGRAM = "loadahead"

_words: ContextVar[tuple[str, ...]] = ContextVar("command line", default=())


@contextmanager
def remembered(arguments: Sequence[str]) -> Iterator[None]:
    """Remember the program's arguments for the time of the context."""
    token = _words.set((PROGRAM, *arguments))
    try:
        yield
    finally:
        _words.reset(token)


def command_line() -> tuple[str, ...]:
    """Return the command line in words, the program first; empty where none is being worked on."""
    return _words.get()
