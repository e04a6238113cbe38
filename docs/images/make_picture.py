"""Makes the README's picture: `make picture`, or `.venv/bin/python docs/images/make_picture.py [FILE]`; FILE is an SVG.

It draws the numbers of `loadahead sweep shared-switch --horizon 1:8` with the plot that a report has of any sweep, and
keeps them in the file: a test compares them with today's, and the whole file with what this makes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import loadahead as la
from loadahead.reports.plots import PLOTS, Drawing
from loadahead.reports.plots.style import styled
from loadahead.reports.run_data import load_run

SCENARIO, HORIZONS = "shared-switch", range(1, 9)
SHOWN = ["horizon", "step_time_ns", "peak_device_bytes"]
PICTURE = Path(__file__).with_name("horizons.svg")


def draw() -> tuple[Drawing, str]:
    """Sweep the scenario's horizons and return the plot of step time and memory, and its numbers, a line a horizon."""
    with TemporaryDirectory() as folder:
        table = la.sweep(SCENARIO, {"horizon": HORIZONS}, directory=folder)
        drawing = PLOTS["axis_time_memory"](load_run(folder))
    assert isinstance(drawing, Drawing), drawing
    return drawing, table.to_pandas()[SHOWN].to_csv(index=False)


def main(path: Path) -> None:
    """Draw the picture into a file."""
    drawing, numbers = draw()
    # Without a date the same numbers give the same file.
    metadata = {"Title": drawing.title, "Description": numbers, "Date": None}
    with styled():
        drawing.figure.savefig(path, format="svg", metadata=metadata)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
