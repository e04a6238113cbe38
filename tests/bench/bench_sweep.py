"""Points per second of a sweep of 10,000 points through the command line: python tests/bench/bench_sweep.py [OPTIONS].

24 layers on 4 ranks, 32 microbatches; process start, journal, CSV and Parquet included. OPTIONS go to `loadahead
sweep`, e.g. --jobs 2.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SWEEP = [
    "sweep",
    "uniform",
    "--engine",
    "compiled",
    "--set",
    "model.units_per_stage=6",
    "--set",
    "parallel.partitions=4",
    "--set",
    "parallel.microbatches=32",
    "--horizon",
    "1:50",
    "--release-window",
    "1:50",
    "--pipeline",
    "simple,interleaved",
    "--horizon-unit",
    "tasks,layers",
]
POINTS = 50 * 50 * 2 * 2


def timed(arguments: list[str]) -> float:
    """Seconds of one run of the command line, start included."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "loadahead.cli.main", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        command = [*SWEEP, "-o", directory, *sys.argv[1:]]
        first, again = timed(command), timed(command)
        rows = (Path(directory) / "sweep.csv").read_text().count("\n") - 1
    assert rows == POINTS
    print(f"{POINTS} points of 24 layers, 4 ranks, 32 microbatches: {first:.1f} s, {POINTS / first:.0f} points/s")
    print(f"the same again, all taken over from the journal: {again:.1f} s")


if __name__ == "__main__":
    main()
