"""The first run after an installation says that it compiles, once, on stderr; later ones have nothing to compile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import loadahead

LINE = "compiling the simulator, once for this version: some 15 s"
# Commands of all kinds in one process, plans of several shapes among them.
LATER = """
import loadahead as la
from loadahead.cli.main import run

lines = []
for arguments in (
    ["plan", "uniform", "-o", "plan.json", "--json"],
    ["verify", "plan.json", "--json"],
    ["show", "plan.json", "--json"],
    ["simulate", "plan.json", "--draws", "3", "--json"],
    ["plan", "uniform", "--decisions", "plan.json", "--json"],
    ["plan", "uniform", "--order", "simple", "--json"],
    ["simulate", "shared-switch", "--set", "hardware.duplex=1 GB/s", "--draws", "3", "--json"],
    ["simulate", "uniform", "--set", "parallel.pipeline=simple", "--set", "offload.horizon_unit=layers", "--json"],
    ["simulate", "uniform", "--set", "offload.activation_loading_horizon=400", "--json"],
    ["sweep", "uniform", "--horizon", "1:4", "--microbatches", "2,4", "--pipeline", "simple,interleaved", "--json"],
    ["sweep", "uniform", "--horizon", "1:2", "--set-range", "hardware.d2h=1 GB/s,8 GB/s", "--json"],
):
    assert run(arguments) == 0, arguments
la.simulate("uniform", progress=lambda report: lines.append(report.what))
la.sweep("uniform", {"horizon": [1, 2]}, progress=lambda report: lines.append(report.what))
assert not any("compiling" in line for line in lines), lines
"""


def python(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    root = str(Path(loadahead.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root, "NUMBA_CACHE_DIR": str(folder / "cache")}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_first_run_says_that_it_compiles_and_later_ones_compile_nothing(tmp_path: Path) -> None:
    wrong = python(["-m", "loadahead", "sweep", "uniform", "--horizon", "0", "--json"], tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1), "a slip of the pen does not wait for compiling"

    first = python(["-m", "loadahead", "sweep", "uniform", "--horizon", "1:3", "--jobs", "2", "--json"], tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stderr.splitlines()[0] == LINE
    assert first.stderr.count("compiling") == 1  # no worker says it again
    assert len(json.loads(first.stdout)["points"]) == 3
    kept = compiled_files(tmp_path)
    assert kept

    later = python(["-c", LATER], tmp_path)
    assert later.returncode == 0, later.stderr
    assert "compiling" not in later.stderr + later.stdout
    assert compiled_files(tmp_path) == kept


def compiled_files(folder: Path) -> set[str]:
    """Names of what numba keeps, one for each function and types of arguments."""
    return {path.name for path in (folder / "cache").rglob("*.nbc")}
