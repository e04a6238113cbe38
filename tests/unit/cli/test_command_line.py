"""Run directories keep the command line that made them; what the library writes has none."""

from __future__ import annotations

from pathlib import Path

import pytest

import loadahead as la
from loadahead.cli.command_line import command_line, remembered
from loadahead.cli.main import run
from loadahead.reports.run_data import load_run

SWEEP = ["sweep", "uniform", "--horizon", "1,2"]


def test_a_prediction_keeps_its_command_line(tmp_path: Path) -> None:
    words = ["simulate", "uniform", "--set", "offload.release_window=1", "-o", str(tmp_path / "a folder")]
    assert run(words) == 0
    assert load_run(tmp_path / "a folder").made_by == (("loadahead", *words),)


def test_a_sweep_that_goes_on_keeps_the_last_command_line(tmp_path: Path) -> None:
    for more in ((), ("--microbatches", "4,8")):
        assert run([*SWEEP, *more, "-o", str(tmp_path)]) == 0
        assert load_run(tmp_path).made_by == (("loadahead", *SWEEP, *more, "-o", str(tmp_path)),)


def test_what_the_library_writes_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadahead.reports.page.figures.PLOTS", {})
    la.report(la.sweep("uniform", {"horizon": [1, 2]}), tmp_path)
    assert load_run(tmp_path).made_by == ()


def test_a_command_line_is_forgotten_after_its_command() -> None:
    with remembered(["plan", "demo"]):
        assert command_line() == ("loadahead", "plan", "demo")
    assert command_line() == ()
