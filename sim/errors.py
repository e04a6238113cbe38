"""Errors that are meant for people: whoever calls the library, or sits at the command line.

Every error a user can cause is a :class:`LoadaheadError`; the command line prints it as one line. Everything else is a
bug in Loadahead and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self


class LoadaheadError(Exception):
    """Something the user can mend. The message is one line: what, the value, what is allowed, what to do.

    ``parameters`` names the parameters of the library's functions that would help, which a front end may show under
    its own names for them.
    """

    def __init__(self, message: str = "", *, parameters: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.parameters = tuple(parameters)

    def about(self, source: str) -> Self:
        """Return the same error with a message that starts with what it is about."""
        message = str(self)
        return self if message.startswith(source) else type(self)(f"{source}: {message}", parameters=self.parameters)


class InputError(LoadaheadError, ValueError):
    """A file, an argument or a key holds something that is not allowed."""


class CheckFailed(LoadaheadError):
    """The input was understood and a check on it failed, e.g. a plan with a race."""


class Interrupted(LoadaheadError):
    """The user interrupted long work; the message says what is kept and how to go on."""


class InternalError(Exception):
    """Says that Loadahead itself failed while it ran a user's code: it is nobody's mistake but ours, and a bug."""


def one_line(text: object, most: int | None = 200) -> str:
    """Return a text, or an error's message, without line breaks and of at most so many characters (None: all)."""
    return " ".join(str(text).split())[:most]
