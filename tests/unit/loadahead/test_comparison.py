"""Which comparison two arguments mean, of the command line and in Python, and what is written of one of sweeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.reports.compare import Comparison
from loadahead.reports.sweep_comparison import SweepComparison
from loadahead.sim.timeline import write_timeline

Captured = pytest.CaptureFixture[str]
HORIZONS = {"horizon": [1, 2, 3]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sweeps, a run, and two directories that hold a sweep and a run each."""
    root = tmp_path_factory.mktemp("comparison")
    la.sweep("slow-link", HORIZONS, directory=root / "a")
    la.sweep("slow-link", HORIZONS, overrides={"hardware.d2h": "2 GB/s"}, directory=root / "b")
    step = la.simulate("slow-link")
    (root / "run").mkdir()
    write_timeline(step, root / "run" / "predicted.jsonl")
    for name in ("both-a", "both-b"):
        shutil.copytree(root / name[-1], root / name)
        write_timeline(step, root / name / "predicted.jsonl")
        write_timeline(step, root / name / "measured.jsonl")
    return root


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "b"), ("a/sweep.csv", "b/sweep.parquet"), ("a", "both-b"), ("both-a", "b"), ("both-a/sweep.csv", "both-b")],
)
def test_two_sweeps_are_compared_as_sweeps(folder: Path, first: str, second: str) -> None:
    found = la.compare(folder / first, folder / second)
    assert isinstance(found, SweepComparison)
    assert len(found.points) == 3 and [one.what for one in found.differences] == ["hardware.d2h"]


@pytest.mark.parametrize(
    ("first", "second"), [("both-a", "both-b"), ("run/predicted.jsonl", "both-b/measured.jsonl"), ("run", "both-b")]
)
def test_where_both_have_timelines_these_are_compared(folder: Path, first: str, second: str) -> None:
    assert isinstance(la.compare(folder / first, folder / second), Comparison)


def test_tables_and_paths_are_compared_alike(folder: Path) -> None:
    table = la.sweep("slow-link", HORIZONS)
    faster = la.sweep("slow-link", HORIZONS, overrides={"hardware.d2h": "2 GB/s"})
    whole = la.compare(folder / "a", folder / "b")
    assert isinstance(whole, SweepComparison)
    for found in (la.compare(table, faster), la.compare(table, folder / "b"), la.compare(str(folder / "a"), faster)):
        assert isinstance(found, SweepComparison)
        assert found.to_dict()["points"] == whole.to_dict()["points"]
        assert found.sentences == whole.sentences


@pytest.mark.parametrize(
    ("compare", "says"),
    [
        (lambda root: la.compare(root / "a", root / "run"), r"a is a sweep and .*run is none; give two sweeps"),
        (lambda root: la.compare(root / "run", root / "a" / "sweep.csv"), r"sweep.csv is a sweep and .*run is none"),
        (lambda root: la.compare(root / "a", root / "no.csv"), r"no.csv: there is no such file"),
        (
            lambda root: la.compare(la.sweep("slow-link", {"horizon": [1]}), la.simulate("slow-link")),
            "of type Timeline",
        ),
    ],
)
def test_a_sweep_and_a_run_are_refused(folder: Path, compare: Callable[[Path], object], says: str) -> None:
    with pytest.raises(la.InputError, match=says):
        compare(folder)


def test_the_command_says_writes_and_has_json(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    paths = [str(folder / "a"), str(folder / "b")]
    assert run(["compare", *paths, "-o", str(tmp_path / "moved")]) == 0
    out = capsys.readouterr().out
    found = la.compare(*paths)
    assert isinstance(found, SweepComparison)
    for sentence in found.sentences:
        assert sentence in out
    assert out.index(found.sentences[0]) < out.index("step time, A")
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == ["fronts.svg", "sweep_comparison.json"]
    assert run(["compare", *paths, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "moved" / "sweep_comparison.json").read_text())
    assert (
        len(shown["points"]) == 3 and shown["points"][0]["a"]["step_time_ns"] > shown["points"][0]["b"]["step_time_ns"]
    )


def test_a_directory_for_timelines_is_refused(folder: Path, capsys: Captured) -> None:
    path = str(folder / "run" / "predicted.jsonl")
    assert run(["compare", path, path, "-o", "x"]) == 2
    assert "for what two sweeps write; leave it out for timelines (-o DIR)" in capsys.readouterr().err
