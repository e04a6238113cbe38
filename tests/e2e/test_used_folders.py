"""A command that writes into a folder of an earlier run says so in one line: what is replaced, and what stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadahead.cli.main import run
from loadahead.reports.run_directory import FILES, PAGE
from tests.support.refusals import refused

Captured = pytest.CaptureFixture[str]
# A run of the smallest model that comes along, without waiting for a calibration of many repeats.
TINY = ["--set", "model.options.blocks=1", "--set", "model.options.width=8", "--set", "model.options.heads=1"]
TINY += ["--set", "model.options.context=8", "--set", "model.options.batch=1"]
TUNED = ["--set", "offload.decisions=auto", "--set", "offload.boundary_memory=3 MB"]
COMMANDS = {
    "simulate": ["simulate", "uniform"],
    "tune": ["tune", "uniform", "--boundary-memory", "3MB", "--budgets", "3"],
    "simulate, tuned": ["simulate", "uniform", *TUNED],
    "sweep": ["sweep", "uniform", "--horizon", "1:2"],
    "execute": ["execute", "demo", *TINY, "--steps", "2", "--set", "parallel.microbatches=2"],
    "demo": ["demo", *TINY, "--steps", "2", "--horizons", "1", "--microbatches", "2"],
}


def said(arguments: list[str], capsys: Captured) -> list[str]:
    """Run a command that ends well; return what it said of earlier files, on stderr."""
    assert run(arguments) == 0
    return [line for line in capsys.readouterr().err.splitlines() if "holds files of an earlier run" in line]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_replaced_and_what_stays_is_told(command: str, tmp_path: Path, capsys: Captured) -> None:
    arguments = [*COMMANDS[command], "-o", str(tmp_path)]
    assert said(arguments, capsys) == [], "a folder of its own"
    written = [name for name in FILES if (tmp_path / name).exists()]
    assert written
    before = {}
    for name in FILES:  # now all of them are another's
        (tmp_path / name).write_text("earlier")
        before[name] = (tmp_path / name).read_bytes()
    (tmp_path / "sweep.journal").unlink(missing_ok=True)
    if command == "demo":
        (tmp_path / PAGE).unlink()
    (line,) = said(arguments, capsys)
    # What is about a plan does not stay beside another one.
    removed = [name for name in ("advice.json", "tuning.json") if name not in written and "plan.json" in written]
    gone = f", {removed[0]} removed" if removed else ""
    assert line == (
        f"{tmp_path}: holds files of an earlier run ({', '.join(FILES)}): those of the same names will be replaced "
        f"({', '.join(written)}){gone}, others stay"
    )
    left = [name for name in FILES if (tmp_path / name).exists()]
    assert sorted(set(FILES) - set(left)) == removed
    replaced = [name for name in left if (tmp_path / name).read_bytes() != before[name]]
    assert replaced == written


def test_its_own_kind_of_output_is_told_too(tmp_path: Path, capsys: Captured) -> None:
    arguments = [*COMMANDS["simulate"], "-o", str(tmp_path)]
    said(arguments, capsys)
    files = "plan.json, costs.json, advice.json, predicted.jsonl, keep_all.jsonl"
    assert said(arguments, capsys) == [
        f"{tmp_path}: holds files of an earlier run ({files}): those of the same names will be replaced ({files}), "
        "others stay"
    ]


def test_what_is_none_of_a_run_is_not_told(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert said([*COMMANDS["simulate"], "-o", str(tmp_path)], capsys) == []


def test_a_sweep_that_goes_on_has_its_own_line(tmp_path: Path, capsys: Captured) -> None:
    arguments = [*COMMANDS["sweep"], "-o", str(tmp_path)]
    assert run(arguments) == 0
    capsys.readouterr()
    assert run(arguments) == 0
    err = capsys.readouterr().err
    assert "2 of 2 points were finished before and are taken over" in err
    assert "earlier run" not in err
    (line,) = said([*arguments, "--fresh"], capsys)
    files = "sweep.csv, sweep.parquet, sweep.json, sweep_command.json, points.json"
    assert f"({files}): those of the same names will be replaced ({files})" in line
    assert run([*COMMANDS["simulate"], "-o", str(tmp_path)]) == 0
    capsys.readouterr()
    (line,) = said(arguments, capsys)
    files = "plan.json, costs.json, advice.json, predicted.jsonl, keep_all.jsonl"
    assert f"({files}): those of the same names will be replaced (none of these)" in line


def test_files_of_plans_and_costs_are_overwritten_silently(tmp_path: Path, capsys: Captured) -> None:
    for _ in range(2):
        assert run(["plan", "uniform", "-o", str(tmp_path / "plan.json")]) == 0
        assert capsys.readouterr().err == ""


def test_a_refused_command_says_one_line_and_no_more(tmp_path: Path, capsys: Captured) -> None:
    said([*COMMANDS["simulate"], "-o", str(tmp_path)], capsys)
    for command in COMMANDS.values():
        refused([*command, "--set", "offload.release_window=0", "-o", str(tmp_path)], capsys)
