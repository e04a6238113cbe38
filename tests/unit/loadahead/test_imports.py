"""What importing Loadahead and using it loads: nothing heavy before it is needed, and nothing under others' names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import loadahead

HEAVY = {"numpy", "numba", "torch", "pandas", "matplotlib", "simpy", "pyarrow", "joblib"}
# Names of the checkout's folders, which are other people's packages on the registry or in a user's own folder.
OTHERS = {"sim", "executor", "scenarios", "reports", "cli", "sweeps", "validation"}
HELP = """
import runpy, sys
sys.argv = ["loadahead", "--help"]
try:
    runpy.run_module("loadahead", run_name="__main__")
except SystemExit as end:
    assert not end.code
"""
REPORT = "import json, sys; print(json.dumps([sorted(sys.modules), sys.path]), file=sys.stderr)"


def loaded_by(code: str, folder: Path) -> tuple[set[str], list[str]]:
    """Modules and ``sys.path`` of a fresh Python after the code, run in a folder."""
    root = str(Path(loadahead.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{REPORT}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules, path = json.loads(done.stderr.splitlines()[-1])
    return set(modules), path


def tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_what_an_import_loads(tmp_path: Path) -> None:
    """Nothing but the standard library and these modules of ours."""
    modules, _ = loaded_by("import loadahead", tmp_path)
    bare, _ = loaded_by("pass", tmp_path)
    added = modules - bare
    assert {name for name in added if name.startswith("loadahead")} == {"loadahead", "loadahead.version"}
    assert tops(added) - {"loadahead"} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "code",
    [
        "import loadahead",
        "from loadahead import LoadaheadError, InputError, CheckFailed",
        HELP,
        "from loadahead.cli.main import run; assert run(['--version']) == 0",
        "from loadahead.cli.main import COMMANDS, run\nfor name in COMMANDS: assert run([name, '--help']) == 0",
    ],
    ids=["import", "errors", "--help", "--version", "every command's --help"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code: str, tmp_path: Path) -> None:
    modules, _ = loaded_by(code, tmp_path)
    assert tops(modules) & HEAVY == set()
    assert (
        modules & {"loadahead.executor", "loadahead.reports", "loadahead.scenarios", "loadahead.sim.engines"} == set()
    )


def test_using_it_takes_no_name_but_its_own(tmp_path: Path) -> None:
    """Scenarios, planner, engine, tracer, report: ``sys.path`` and the names of others are left alone."""
    before = loaded_by("pass", tmp_path)
    code = (
        "from loadahead.cli.main import run\n"
        "for arguments in (['simulate', 'uniform'], ['plan', 'demo', '-o', 'plan.json'],\n"
        "                  ['sweep', 'uniform', '--horizon', '1:2', '-o', 'sweep'], ['report', 'sweep']):\n"
        "    assert run(arguments) == 0"
    )
    modules, path = loaded_by(code, tmp_path)
    assert {"loadahead.sim", "loadahead.scenarios", "loadahead.executor", "loadahead.reports"} <= modules
    assert tops(modules) & (OTHERS | {"tests"}) == set()
    assert path == before[1]


def test_the_lists_can_fail(tmp_path: Path) -> None:
    modules, path = loaded_by("import sys, numpy; sys.path.append('x')", tmp_path)
    assert "numpy" in tops(modules) & HEAVY
    assert path[-1] == "x"


def test_every_public_name_is_there() -> None:
    found: dict[str, Any] = {name: getattr(loadahead, name) for name in loadahead.__all__}
    assert None not in found.values()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = loadahead.nothing  # type: ignore[attr-defined]
