"""One process runs all ranks: in one of several that a launcher started nothing is run, and a line says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.demo import Demo

Captured = pytest.CaptureFixture[str]
SMALL = {"model.options": {"blocks": 1, "width": 8, "heads": 1, "context": 4, "batch": 1}}
WORDS = "WORLD_SIZE is 4, as torchrun sets it"


def demo(directory: Path) -> None:
    Demo(source="demo", overrides=SMALL, directory=directory, horizons=(1,), microbatches=(2,)).run()


CALLS: dict[str, Callable[[Path], Any]] = {
    "execute": lambda _: la.execute("demo", SMALL),
    "calibrate": lambda _: la.calibrate("demo", SMALL),
    "simulate, which calibrates": lambda _: la.simulate("demo", SMALL),
    "sweep, which calibrates": lambda _: la.sweep("demo", {"horizon": [1]}, overrides=SMALL),
    "demo": demo,
}


@pytest.fixture(autouse=True)
def four_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("rank", ["0", "3"])
def test_python(call: str, rank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(la.InputError) as caught:
        CALLS[call](tmp_path / "out")
    assert WORDS in str(caught.value) and "without torchrun" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command",
    [["execute", "demo", "-o"], ["calibrate", "demo", "-o"], ["demo", "-o"], ["validate", "--device", "cpu", "-o"]],
)
def test_the_command_line(command: list[str], capsys: Captured, tmp_path: Path) -> None:
    assert run([*command, str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and WORDS in err
    assert not (tmp_path / "out").exists()


def test_what_runs_no_tensors_goes_on() -> None:
    assert la.simulate("uniform").step_time_ns > 0


@pytest.mark.parametrize("size", ["1", "", "0", "01", "many", "-2", "1.5"])
def test_other_values_say_nothing(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    assert la.calibrate("demo", SMALL, repeats=1).units


@pytest.mark.parametrize("size", ["2", "016", "9" * 5000])
def test_every_number_above_one_counts(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(la.InputError, match=rf"WORLD_SIZE is {size.lstrip('0')[:20]}"):
        la.calibrate("demo", SMALL)
