"""Users' own modules and other people's packages may be called sim, executor, reports, scenarios, cli or model."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import chdir, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import loadahead
from loadahead import jobs
from loadahead.cli.main import run

ROOT = str(Path(loadahead.__file__).parents[1])
JUNK = "raise RuntimeError('imported by mistake')\n"
MODEL = """
from pathlib import Path

import {sizes}
from torch import nn

assert Path({sizes}.__file__).is_relative_to(Path(__file__).parent), {sizes}.__file__


def build():
    return nn.Sequential(*(nn.Linear({sizes}.WIDTH, {sizes}.WIDTH) for _ in range(3)))
"""
SCENARIO = """
name = "own"
[model]
kind = "module"
python = "model:build"
input_shape = [4, 24]
loss = "mean"
[hardware]
d2h = "1 GB/s"
h2d = "1 GB/s"
[parallel]
microbatches = 3
[offload]
activation_loading_horizon = 1
"""


def user_folder(folder: Path, sizes: str = "sizes", width: int = 24) -> Path:
    """A scenario beside its model, whose width stands in a module of the user's own."""
    (folder / sizes).mkdir(parents=True)
    (folder / sizes / "__init__.py").write_text(f"WIDTH = {width}\n")
    (folder / "model.py").write_text(MODEL.format(sizes=sizes))
    (folder / "own.toml").write_text(SCENARIO.replace("24", str(width)))
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder without any such name, with costs."""
    folder = user_folder(tmp_path_factory.mktemp("plain") / "user")
    answer_here(["calibrate", "own.toml", "--repeats", "1", "-o", "costs.json"], folder)
    return folder


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the user's own ``sim``, which the model needs, and others that must not be imported."""
    folder = user_folder(tmp_path_factory.mktemp("crowded") / "user", sizes="sim")
    (folder / "reports").mkdir()
    for name in ("reports/__init__", "executor", "scenarios", "cli", "sweeps", "units"):
        (folder / f"{name}.py").write_text(JUNK)
    return folder


def answer(arguments: list[str], folder: Path, path: Path | None = None) -> Any:
    """What ``python -m loadahead`` answers in a folder, with another in front of ``sys.path``."""
    done = subprocess.run(
        [sys.executable, "-m", "loadahead", *arguments, "--json"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*([str(path)] if path else []), ROOT])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def answer_here(arguments: list[str], folder: Path) -> Any:
    """What this process answers in a folder."""
    with chdir(folder), redirect_stdout(io.StringIO()) as printed:
        assert run([*arguments, "--json"]) == 0
    return json.loads(printed.getvalue())


IN_THE_FOLDER, ON_THE_PATH, ELSEWHERE = "in the folder", "with the folder on PYTHONPATH", "from elsewhere"


@pytest.fixture(scope="module")
def expected(plain: Path) -> dict[str, dict[str, Any]]:
    """What the commands answer where nothing collides."""
    commands = ("plan", "simulate", "execute")
    return {command: untimed(answer_here(arguments(command, plain), plain)) for command in commands}


def arguments(command: str, plain: Path, scenario: str = "own.toml") -> list[str]:
    costs = ["--costs", str(plain / "costs.json")]
    return [command, scenario, *{"plan": [], "simulate": costs, "execute": [*costs, "--steps", "2"]}[command]]


# What execute does, it does after planning and simulating.
@pytest.mark.parametrize(
    ("command", "where"),
    [
        ("plan", IN_THE_FOLDER),
        ("simulate", ON_THE_PATH),
        ("execute", IN_THE_FOLDER),
        ("execute", ON_THE_PATH),
        ("execute", ELSEWHERE),
    ],
)
def test_a_users_own_modules(
    command: str, where: str, plain: Path, crowded: Path, expected: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """They are what his model imports, and results are those of a folder without such names."""
    if where == IN_THE_FOLDER:
        found = answer(arguments(command, plain), crowded)
    else:
        path = crowded if where == ON_THE_PATH else None
        found = answer(arguments(command, plain, str(crowded / "own.toml")), tmp_path, path)
    assert untimed(found) == expected[command]
    if command == "execute":
        assert found["max_grad_error"] == 0.0


def untimed(result: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the machine's clock: all of a plan and a simulation, a run's losses and memory."""
    if "losses" not in result:
        return result
    keys = ("losses", "max_grad_error", "offloaded", "kept", "predicted")
    peaks = [{key: rank[key] for key in rank if key.startswith("peak_")} for rank in result["ranks"]]
    return {key: result[key] for key in keys} | {"peaks": peaks}


def test_a_users_modules_are_what_he_wrote(tmp_path: Path) -> None:
    """The model's width is that of his ``sim``: with another there, the boundaries are larger."""
    small, large = user_folder(tmp_path / "a", "sim", 8), user_folder(tmp_path / "b", "sim", 16)
    sizes = [
        jobs.prepared_of(str(folder / "own.toml")).workload.stages[0][0].boundary_bytes for folder in (small, large)
    ]
    assert sizes == [4 * 8 * 4, 4 * 16 * 4]


def test_other_peoples_packages(tmp_path: Path) -> None:
    """Packages called executor, reports and scenarios in front of everything that is installed."""
    for name in ("executor", "reports", "scenarios"):
        (tmp_path / "packages" / name).mkdir(parents=True)
        (tmp_path / "packages" / name / "__init__.py").write_text(JUNK)
    simulate = ["simulate", "uniform"]
    assert answer(simulate, tmp_path, tmp_path / "packages") == answer_here(simulate, tmp_path)


def test_two_scenarios_with_a_model_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process, and the caller has a module of that name too."""
    theirs = ModuleType("model")
    monkeypatch.setitem(sys.modules, "model", theirs)
    folders = [user_folder(tmp_path / str(width), "sizes", width) for width in (8, 32)]
    path = list(sys.path)
    for folder, width in [*zip(folders, (8, 32), strict=True), (folders[0], 8)]:
        prepared = jobs.prepared_of(str(folder / "own.toml"))
        boundaries = {unit.boundary_bytes for unit in prepared.workload.stages[0]}
        assert boundaries == {4 * width * 4}
        assert sys.path == path
        assert sys.modules["model"] is theirs
        assert "sizes" not in sys.modules
