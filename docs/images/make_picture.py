"""Makes the README's picture: `.venv/bin/python docs/images/make_picture.py [FILE]`; FILE may end in .svg or .png.

It draws the numbers of `loadahead sweep shared-switch --horizon 1:8` with the plot that a report has of any sweep.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import loadahead as la
from loadahead.reports.plots import PLOTS, Drawing
from loadahead.reports.run_data import load_run

SCENARIO, HORIZONS = "shared-switch", range(1, 9)
PICTURE = Path(__file__).with_name("horizons.svg")


def draw() -> Drawing:
    """Sweep the scenario's horizons and return the plot of step time and memory."""
    with TemporaryDirectory() as folder:
        la.sweep(SCENARIO, {"horizon": HORIZONS}, directory=folder)
        drawing = PLOTS["axis_time_memory"](load_run(folder))
    assert isinstance(drawing, Drawing), drawing
    return drawing


def main(path: Path) -> None:
    """Draw the picture into a file."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")  # the same numbers give the same file, whatever the day
    draw().save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
