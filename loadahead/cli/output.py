"""What goes where: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from loadahead.sim.errors import one_line


def emit(result: dict[str, Any]) -> None:
    """Print the command's one JSON object, on stdout. NaN and infinity are no JSON and must not occur."""
    print(json.dumps(result, indent=1, allow_nan=False))


def say(text: str) -> None:
    """Print a line for people, on stdout; it is not used with --json."""
    print(text)


def note(text: str) -> None:
    """Print a line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def warn(warnings: Iterable[str]) -> None:
    """Print each warning as a line on stderr."""
    for text in warnings:
        note(f"warning: {one_line(text, None)}")


def note_calibration(name: str) -> None:
    """Say how the costs that a command calibrates by itself can be kept, on stderr."""
    note(f"{name}: keep what is calibrated with `loadahead calibrate -o`, and give it with --costs")
