"""Errors that are meant for the person at the command line.

Every error a user can cause is a :class:`LoadaheadError`; the command line prints it as one line and
exits with :attr:`LoadaheadError.exit_code`. Everything else is a bug in Loadahead and keeps its traceback.
"""

from __future__ import annotations


class LoadaheadError(Exception):
    """Something the user can mend. The message is one line: what, the value, what is allowed, what to do."""

    exit_code = 2


class InputError(LoadaheadError):
    """A file, an option or a key holds something that is not allowed (exit 2)."""


class CheckFailed(LoadaheadError):
    """The input was understood and a check on it failed, e.g. a plan with a race (exit 1)."""

    exit_code = 1


class Interrupted(LoadaheadError):
    """Ctrl-C; the message says what is kept and how to go on (exit 130, 128 + SIGINT, as a shell has it)."""

    exit_code = 130
