"""What goes where: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any


def emit(result: dict[str, Any]) -> None:
    """The command's one JSON object, on stdout. NaN and infinity are no JSON and must not occur."""
    print(json.dumps(result, indent=1, allow_nan=False))


def say(text: str) -> None:
    """A line for people, on stdout; not used with --json."""
    print(text)


def note(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def warn(warnings: Iterable[str]) -> None:
    """Each warning as a line on stderr."""
    for text in warnings:
        note(f"warning: {one_line(text)}")


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())
