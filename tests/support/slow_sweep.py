"""The command line, with a sweep so slow that a test can kill it anywhere: in a point, between points, in a write."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from loadahead.cli.main import main
from loadahead.sim.sweep import Point, evaluate_points
from loadahead.sweeps import workers as workers_module

POINT_SECONDS, WRITE_SECONDS = 0.001, 0.002
WHOLE_BYTES = 300  # writes of more are torn into two

_write = os.write


def slow_points(points: Sequence[Point], engine: str) -> list[dict[str, Any]]:
    time.sleep(POINT_SECONDS * len(points))
    return evaluate_points(points, engine)


def slow_write(descriptor: int, data: memoryview) -> int:
    """Write a part, as write() may, and let some time pass before the rest."""
    written = _write(descriptor, data if len(data) <= WHOLE_BYTES else data[: len(data) // 2])
    time.sleep(WRITE_SECONDS)
    return written


if __name__ == "__main__":
    # A test run that a shell started in the background has Ctrl-C switched off.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    workers_module.evaluate_points = slow_points  # type: ignore[attr-defined]
    workers_module.MOST_IN_CHUNK = 8
    os.write = slow_write  # type: ignore[assignment]
    sys.argv[0] = "loadahead"
    main()
