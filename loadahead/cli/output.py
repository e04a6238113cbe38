"""What goes where: results to stdout, everything else to stderr.

A model's own code may print, at import, while it runs, and when the process ends. With --json that goes to stderr too,
so that stdout holds the one JSON object alone: :func:`results_alone`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

from loadahead.sim.errors import one_line

STDOUT, STDERR = 1, 2  # the process' descriptors, whatever stands in sys.stdout
# Where results go while they are kept apart; None: to sys.stdout.
_results: TextIO | None = None
# Whether a result was kept apart in this process.
_kept_apart = False


class NobodyReads(Exception):
    """Raised when whoever read the results has gone: a BrokenPipeError, which typer would take for its own."""


def emit(result: dict[str, Any]) -> None:
    """Print the command's one JSON object, on stdout. NaN and infinity are no JSON and must not occur."""
    _print(json.dumps(result, indent=1, allow_nan=False) + "\n")


def say(text: str, end: str = "\n") -> None:
    """Print a line for people, on stdout; it is not used with --json."""
    _print(text + end)


def _print(text: str) -> None:
    try:
        print(text, end="", file=_results, flush=_results is not None)
    except BrokenPipeError as error:
        raise NobodyReads from error


@contextmanager
def results_alone() -> Iterator[None]:
    """Let only results reach stdout inside: what anybody else prints there goes to stderr, as text or as bytes.

    Afterwards sys.stdout and the process' standard output are what they were.
    """
    global _results, _kept_apart
    before, stdout = _results, sys.stdout
    _kept_apart = True
    with _descriptor_to_stderr(stdout) as own, redirect_stdout(sys.stderr):
        _results = before or own or stdout
        try:
            yield
        finally:
            _results = before


@contextmanager
def _descriptor_to_stderr(stdout: TextIO) -> Iterator[TextIO | None]:
    """Let the process' standard output lead to its standard error inside.

    Yield a file that leads where it led before, where sys.stdout stands for it; None where something else takes what is
    printed, as in a notebook.
    """
    try:
        saved = os.dup(STDOUT)
    except OSError:  # it is closed
        yield None
        return
    stands_for_it = _descriptor(stdout) == STDOUT
    own = os.fdopen(os.dup(saved), "w", encoding=stdout.encoding, errors=stdout.errors) if stands_for_it else None
    try:
        stdout.flush()
        _lead_to_stderr()
        yield own
    finally:
        with suppress(OSError, ValueError):
            stdout.flush()  # what was printed to the very object, not by its name
        os.dup2(saved, STDOUT)
        os.close(saved)
        if own is not None:
            with suppress(OSError):  # what could not be written was told when it was printed
                own.close()


def _lead_to_stderr() -> None:
    """Make the process' standard output lead to its standard error, or nowhere where that is closed."""
    try:
        os.dup2(STDERR, STDOUT)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STDOUT)
        os.close(nowhere)


def _descriptor(stream: TextIO) -> int | None:
    """Return the descriptor that a stream writes to; None for one in memory."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def end_results() -> None:
    """Keep what is printed from now on, as the process ends, off a stdout that has its JSON object."""
    if _kept_apart:
        sys.stdout.flush()
        sys.stdout = sys.stderr
        _lead_to_stderr()


def note(text: str) -> None:
    """Print a line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def warn(warnings: Iterable[str]) -> None:
    """Print each warning as a line on stderr."""
    for text in warnings:
        note(f"warning: {one_line(text, None)}")


def note_earlier_files(directory: Path, written: Sequence[str]) -> None:
    """Say, on stderr, which files of an earlier run are in a directory that is about to be written to."""
    from loadahead.reports.run_directory import earlier_files

    told = earlier_files(directory, written)
    if told is not None:
        note(told)


def note_calibration(name: str) -> None:
    """Say how the costs that a command calibrates by itself can be kept, on stderr."""
    note(f"{name}: keep what is calibrated with `loadahead calibrate -o`, and give it with --costs")
