"""Points of a sweep whose decisions tuning makes, beside those of horizons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.reports.run_directory import SWEEP_CSV, SWEEP_JOURNAL, SWEEP_POINTS
from loadahead.sim.sweep import evaluate_point
from loadahead.sweeps.axes import axes_of
from loadahead.sweeps.grid import Grid, Sweep

Captured = pytest.CaptureFixture[str]
AXES: dict[str, Any] = {
    "offload.boundary_memory": ["10 MB", "20 MB"],
    "horizon": [2, 6],
    "decisions": ["horizon", "auto"],
}


@pytest.fixture(scope="module")
def table() -> la.SweepTable:
    return la.sweep("slow-link", AXES)


def test_a_tuned_point_is_the_step_of_its_scenario(table: la.SweepTable) -> None:
    assert len(table) == 8 and [row["decisions"] for row in table.rows] == ["horizon", "auto"] * 4
    for row in table.rows:
        keys = {
            "offload.decisions": row["decisions"],
            "offload.boundary_memory": row["offload.boundary_memory"],
            "offload.activation_loading_horizon": row.horizon,
        }
        step = la.simulate("slow-link", keys).metrics
        assert (row.step_time_ns, row.peak_device_bytes) == (step.step_time_ns, step.peak_device_bytes)
        assert (row.peak_boundary_bytes, row.offloaded) == (step.peak_boundary_bytes, step.offloaded)
        assert row.is_tuned == (row["decisions"] == "auto")
    tuned = [row for row in table.rows if row.is_tuned]
    assert all(row.peak_boundary_bytes <= int(row["offload.boundary_memory"].split()[0]) * 10**6 for row in tuned)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_every_way_to_a_row_finds_the_same(engine: str, table: la.SweepTable) -> None:
    assert la.sweep("slow-link", AXES, engine=engine).rows == table.rows
    grid = Grid(Sweep("slow-link"), axes_of(AXES))
    assert [evaluate_point(point, engine) for _, point in grid.points()] == [*table.rows]


def test_workers_find_the_same(table: la.SweepTable) -> None:
    assert la.sweep("slow-link", AXES, workers=2).rows == table.rows


def test_points_of_one_budget_are_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from loadahead.sim import sweep

    searched: list[int | None] = []
    own = sweep.tune

    def tune(*given: Any) -> Any:
        searched.append(given[3].boundary_memory)
        return own(*given)

    monkeypatch.setattr(sweep, "tune", tune)
    la.sweep("slow-link", AXES)
    assert searched == [10_000_000, 20_000_000]


def test_keys_of_either_have_an_effect_where_both_decide(table: la.SweepTable) -> None:
    assert table.warnings == ()
    budgets = {"offload.boundary_memory": ["10 MB"], "horizon": [1, 2]}
    (warning,) = la.sweep("slow-link", budgets).warnings
    assert warning.startswith("offload.boundary_memory has no effect: a horizon decides")


def test_no_horizon_is_advised_where_tuning_decided(table: la.SweepTable) -> None:
    best = table.best()
    assert best is not None and best.is_tuned and table.advice is None
    assert {each.axes["decisions"] for each in table.advice_by_axes} == {"horizon"}
    (choice,) = table.choices()
    assert "decisions auto" in choice.sentence and "horizon" not in choice.sentence


def test_a_budget_that_no_plan_keeps_is_told_and_the_nearest_stands_there() -> None:
    axes = {"offload.boundary_memory": ["1 MB", "12 MB"], "decisions": ["auto"]}
    table = la.sweep("slow-link", axes)
    about_horizons, warning = table.warnings
    assert about_horizons.startswith("offload.activation_loading_horizon has no effect")
    assert warning.startswith("no plan that was found keeps the budget of 1 of 2 tuned points, and the row of the near")
    nearest = la.tune("slow-link", boundary_memory="1 MB")
    assert table.rows[0].step_time_ns == nearest.step.metrics.step_time_ns
    # Whether it fits the device is another question.
    assert table.rows[0].fits


def test_a_scenario_that_is_tuned_is_swept_over_other_axes() -> None:
    table = la.sweep("slow-link", {"microbatches": [4, 8]}, overrides={"offload.decisions": "auto"})
    assert [row["decisions"] for row in table.rows] == ["auto", "auto"] and table.advice_by_axes == ()
    for row in table.rows:
        alone = la.tune("slow-link", microbatches=row.microbatches)
        assert (row.step_time_ns, row.offloaded) == (alone.step.metrics.step_time_ns, alone.step.metrics.offloaded)


def test_a_directory_keeps_them_and_goes_on(tmp_path: Path, capsys: Captured) -> None:
    arguments = ["sweep", "slow-link", "--decisions", "horizon,auto", "--horizon", "2"]
    arguments += ["--set-range", "offload.boundary_memory=10 MB,20 MB", "-o", str(tmp_path)]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert "decisions auto" in out and "\n               8        –  auto" in out
    assert "--set offload.decisions=auto" in out and "--set offload.activation_loading_horizon" not in out
    before = (tmp_path / SWEEP_CSV).read_bytes()
    lines = (tmp_path / SWEEP_JOURNAL).read_text().splitlines(keepends=True)
    (tmp_path / SWEEP_JOURNAL).write_text("".join(lines[:-1]))
    assert run([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (tmp_path / SWEEP_CSV).read_bytes() == before
    assert [point["decisions"] for point in answer["points"]] == ["horizon", "auto"] * 2
    points = json.loads((tmp_path / SWEEP_POINTS).read_text())["points"]
    rows = answer["points"]
    assert all(point["step"]["step_time_ns"] == rows[point["row"]]["step_time_ns"] for point in points)
    assert run(["report", str(tmp_path)]) == 0
