"""Prints how long the parts of gpu-check take, and whether each half fits its limit: exit 1 where one does not.

Usage: gpu_time_plan.py LIMIT HALF...
"""

from __future__ import annotations

import os
import sys

from loadahead.validation.estimate import estimate
from loadahead.validation.grids import GRIDS

# Stated, not computed: seconds on an H100 with 16 cores. Compiling is done anew on a machine that never ran this tree.
PROBE_S, COMPILING_S, TESTS_S, TIMES_S, FIGURES_S = 75, 60, 180, 60, 15


def parts_of(half: str) -> dict[str, float]:
    """Return the seconds of a half's parts."""
    if half == "tests":
        probe = {"probe": PROBE_S} if os.environ.get("PROBE") else {}
        return {**probe, "start and compile": COMPILING_S, "GPU tests": TESTS_S, "check times": TIMES_S}
    found = estimate(GRIDS["gpu"])
    return {
        "start and compile": COMPILING_S,
        "calibrations": found.calibrations,
        "runs": found.configurations,
        "gradients": found.gradients,
        "peers": found.peers,
        "tables and figures": FIGURES_S,
    }


def main(limit: float, halves: list[str]) -> int:
    """Print the plan and return the exit status."""
    fits = True
    for half in halves:
        parts = parts_of(half)
        total = sum(parts.values())
        for name, seconds in parts.items():
            print(f"{half:>9}  {name:<20}{seconds:6.0f} s")
        fits = fits and total <= limit
        says = "fits" if total <= limit else "does not fit"
        print(f"{half:>9}  {'together':<20}{total:6.0f} s of {limit:.0f} s: {says}")
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
