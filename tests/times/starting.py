"""What it takes until Loadahead answers: whole processes, beside Python's own."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.times.figure import Figure

ROUNDS = 9
HELP_LIMIT_S = 0.5
IMPORT_LIMIT = 3.0
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import loadahead'": ["-c", "import loadahead"],
    "loadahead --help": ["-m", "loadahead", "--help"],
}


def process_ns(arguments: Sequence[str]) -> int:
    began = time.perf_counter_ns()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return time.perf_counter_ns() - began


def starting() -> Sequence[Figure]:
    """In turns, so that what else the machine does is shared by all."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            times[name].append(process_ns(arguments))
    bare, imported, helped = times.values()
    ratio = statistics.median(imported) / statistics.median(bare)
    return [
        Figure(name="python -c pass", measured=bare),
        Figure(name="python -c 'import loadahead'", measured=imported),
        Figure(
            name="importing, in starts of Python alone",
            measured=[one / other for one, other in zip(imported, bare, strict=True)],
            wanted=f"the medians' ratio, {ratio:.2f}, is at most {IMPORT_LIMIT}",
            holds=ratio <= IMPORT_LIMIT,
            show=lambda share: f"{share:.2f}",
        ),
        Figure(
            name="loadahead --help",
            measured=helped,
            wanted=f"median at most {HELP_LIMIT_S} s",
            holds=statistics.median(helped) <= HELP_LIMIT_S * 1e9,
        ),
        Figure(
            name="--help, in starts of Python alone",
            measured=[one / other for one, other in zip(helped, bare, strict=True)],
            show=lambda share: f"{share:.2f}",
        ),
    ]
