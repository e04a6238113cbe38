"""A text file that an editor has put a byte order mark in front of is read as the file without it."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.reports.run_data import read_sweep

Captured = pytest.CaptureFixture[str]
Answer = Callable[..., Any]
SCENARIO = """
[model]
kind = "uniform"
units_per_stage = 2
forward = "1 ms"
recompute = "1 ms"
backward = "2 ms"
boundary = "1 MB"
[hardware]
d2h = "1 GB/s"
h2d = "1 GB/s"
memory = "1 GB"
[parallel]
microbatches = 4
"""


@pytest.fixture
def answer(capsys: Captured) -> Answer:
    """Run a command that ends well and return its JSON without the names of files in it."""

    def ask(*arguments: str | Path) -> Any:
        status = run([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        assert status == 0, err
        found = json.loads(out)
        return {key: value for key, value in found.items() if key not in ("scenario", "plan", "decisions", "order")}

    return ask


def marked(path: Path) -> Path:
    """Return a copy of the file with a mark in front."""
    copy = path.with_name(f"marked-{path.name}")
    assert not path.read_bytes().startswith(BOM_UTF8)
    copy.write_bytes(BOM_UTF8 + path.read_bytes())
    return copy


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO)
    return path


def test_scenarios(scenario: Path, answer: Answer) -> None:
    assert answer("simulate", marked(scenario)) == answer("simulate", scenario)


@pytest.mark.parametrize("form", ["plan.json", "plan.txt"])
def test_plans(form: str, scenario: Path, tmp_path: Path, answer: Answer) -> None:
    path = tmp_path / form
    answer("plan", scenario, "-o", path, *(["--text"] if form == "plan.txt" else []))
    for command in ("simulate", "verify", "show") if form == "plan.json" else ("verify", "show"):
        assert answer(command, marked(path)) == answer(command, path)


def test_decisions(scenario: Path, tmp_path: Path, answer: Answer) -> None:
    decisions, whole = tmp_path / "decisions.json", tmp_path / "plan.json"
    answer("plan", scenario, "-o", whole)
    decisions.write_text(json.dumps({"decisions": json.loads(whole.read_text())["decisions"][:2]}))
    for path in (decisions, whole):
        assert answer("plan", scenario, "--decisions", marked(path)) == answer("plan", scenario, "--decisions", path)


def test_costs(scenario: Path, tmp_path: Path, answer: Answer) -> None:
    answer("simulate", scenario, "-o", tmp_path / "run")
    costs = tmp_path / "run" / "costs.json"
    assert answer("simulate", scenario, "--costs", marked(costs)) == answer("simulate", scenario, "--costs", costs)


def test_orders(scenario: Path, tmp_path: Path, answer: Answer) -> None:
    order = tmp_path / "order.csv"
    order.write_text("0F0,0F1,0F2,0F3,0B3,0B2,0B1,0B0\n")
    of_marked = answer("plan", scenario, "--order", marked(order))
    assert of_marked == answer("plan", scenario, "--order", order)


def test_tables_of_a_sweep(scenario: Path, tmp_path: Path) -> None:
    la.sweep(scenario, {"horizon": [1, 2]}, directory=tmp_path / "sweep")
    table = tmp_path / "sweep" / "sweep.csv"
    assert read_sweep(marked(table)) == read_sweep(table)


def test_timelines_and_results(scenario: Path, tmp_path: Path, answer: Answer) -> None:
    answer("simulate", scenario, "-o", tmp_path / "run")
    predicted = tmp_path / "run" / "predicted.jsonl"
    of_marked, found = (answer("compare", file, predicted) for file in (marked(predicted), predicted))
    assert Path(of_marked["a"].pop("name")).name != Path(found["a"].pop("name")).name
    assert of_marked == found
