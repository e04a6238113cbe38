"""A sweep keeps memory and operations of its chosen point, that one's neighbours, and the front."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.reports.pareto import front_of
from loadahead.reports.points import MOST_POINTS, Points, read_points
from loadahead.reports.views.excerpt import excerpt
from loadahead.sim.choice import choices
from loadahead.sim.step_metrics import SweepRow
from loadahead.sweeps import points as module
from loadahead.sweeps.axes import KEY_OF_COLUMN, axes_of
from loadahead.sweeps.grid import Grid, Sweep
from loadahead.sweeps.points import operations, points_of, wanted_points
from loadahead.sweeps.run import rows_of

AXES = {"hardware.h2d": ["0.5 GB/s", "4 GB/s"], "microbatches": [4, 8, 12], "horizon": [1, 2, 3]}


def swept(axes: dict[str, Any], **overrides: Any) -> tuple[Grid, list[SweepRow]]:
    grid = Grid(Sweep("uniform", overrides), axes_of(axes))
    return grid, rows_of(grid, "compiled")


def kept(axes: dict[str, Any], folder: Path, **overrides: Any) -> Points:
    grid, rows = swept(axes, **overrides)
    return points_of(grid, rows, choices(rows, model_axes=grid.model_axes), folder)


def test_every_number_is_that_of_the_point_simulated_alone(tmp_path: Path) -> None:
    table = la.sweep("uniform", AXES, overrides={"offload.release_window": 2}, directory=tmp_path)
    found = read_points(tmp_path / "points.json")
    assert found.source == "uniform" and found.overrides == {"offload.release_window": 2}
    assert found.left_out == 0 and len(found.points) >= 4
    for point in found.points:
        assert point.axes == dict(table.rows[point.row].axes)
        own = {KEY_OF_COLUMN.get(axis, axis): point.axes[axis] for axis in AXES}
        step = la.simulate("uniform", {"offload.release_window": 2, **own})
        assert point.step.step_time_ns == table.rows[point.row].step_time_ns == step.step_time_ns
        assert point.step == excerpt(step)
        assert point.step.ranks[0].peak_device_bytes == table.rows[point.row].peak_device_bytes


def test_the_chosen_one_first_then_its_neighbours_then_the_front(tmp_path: Path) -> None:
    grid, rows = swept(AXES)
    (choice,) = choices(rows)
    wanted = wanted_points(grid, rows, [choice])
    reasons = list(wanted.values())
    assert reasons == sorted(reasons, key=["chosen", "neighbour", "front"].index)
    assert [place for place, why in wanted.items() if why == "chosen"] == [choice.index]

    def apart(row: SweepRow) -> list[int]:
        places = {axis: list(values) for axis, values in AXES.items()}
        return sorted(
            abs(values.index(row.axes[axis]) - values.index(choice.row.axes[axis])) for axis, values in places.items()
        )

    beside = {i for i, row in enumerate(rows) if apart(row) == [0, 0, 1]}
    assert {place for place, why in wanted.items() if why == "neighbour"} == beside
    assert set(front_of(rows, range(len(rows)))) <= set(wanted)


def test_no_more_than_there_may_be_the_front_thinned_evenly(tmp_path: Path) -> None:
    axes = {"hardware.h2d": [f"{n} GB/s" for n in (1, 2, 4)], "horizon": range(1, 31)}
    grid, rows = swept(axes, **{"parallel.microbatches": 40})
    chosen = choices(rows)
    every = list(range(len(rows)))
    old = module.front_of
    try:
        module.front_of = lambda rows, places: tuple(places)  # type: ignore[assignment]
        wanted = wanted_points(grid, rows, chosen)
    finally:
        module.front_of = old
    front = sorted(place for place, why in wanted.items() if why == "front")
    assert len(wanted) == MOST_POINTS
    others = [place for place in every if wanted.get(place, "front") == "front"]
    assert (front[0], front[-1]) == (others[0], others[-1])
    gaps = [others.index(b) - others.index(a) for a, b in zip(front[:-1], front[1:], strict=True)]
    assert max(gaps) - min(gaps) <= 1


def test_each_model_has_its_own(tmp_path: Path) -> None:
    found = kept({"model.units_per_stage": [1, 2], "horizon": [1, 2]}, tmp_path)
    chosen = [point.axes["model.units_per_stage"] for point in found.points if point.why == "chosen"]
    assert chosen == [1, 2]


def test_plans_that_would_take_long_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid, rows = swept(AXES)
    (choice,) = choices(rows)
    whole = len(la.plan("uniform", {"parallel.microbatches": choice.row.microbatches}))
    monkeypatch.setattr(module, "MOST_OPERATIONS", 2 * whole + 10)
    found = points_of(grid, rows, [choice], tmp_path)
    assert 1 <= len(found.points) <= 3 and found.points[0].why == "chosen"
    assert found.left_out == len(wanted_points(grid, rows, [choice])) - len(found.points)
    monkeypatch.setattr(module, "MOST_OPERATIONS", 10)
    assert points_of(grid, rows, [choice], tmp_path).points == ()


def test_how_many_operations_a_point_has_at_least() -> None:
    one_rank = {"parallel.pipeline_parallel_degree": 1, "offload.activation_loading_horizon": 2}
    _, (row,) = swept({"horizon": [2]}, **one_rank)
    plan = la.plan("uniform", one_rank)
    # One rank sends nothing; it has one OPTIMIZER_STEP besides.
    assert operations(row) <= len(plan) <= operations(row) + 1


def test_the_same_sweep_keeps_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        la.sweep("uniform", AXES, directory=tmp_path / name)
    assert (tmp_path / "a/points.json").read_bytes() == (tmp_path / "b/points.json").read_bytes()


def test_a_scenario_of_ones_own_is_named_from_the_directory(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "scenarios" / "uniform.toml").read_text()
    (tmp_path / "mine.toml").write_text(text)
    la.sweep(tmp_path / "mine.toml", {"horizon": [1, 2]}, directory=tmp_path / "out")
    assert read_points(tmp_path / "out/points.json").source == "../mine.toml"


def test_points_of_another_table_do_not_stay(tmp_path: Path) -> None:
    table = la.sweep("uniform", {"horizon": [1, 2]}, directory=tmp_path)
    la.report(table, tmp_path)
    assert not (tmp_path / "points.json").exists()


def boxes(content: Any) -> Any:
    return content["points"][0]["step"]["ranks"][0]["boxes"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.update(version=2), "version"),
        (lambda content: content.update(pionts=[]), "pionts"),
        (lambda content: content["points"][0]["step"]["ranks"][0]["boxes"]["op"].pop(), "one length"),
        (lambda content: content["points"][0].update(row=-1), "row"),
        (lambda content: content.update(points=content["points"] * 50), "points"),
        (lambda content: boxes(content)["kind"].__setitem__(0, 99), "boxes.kind.0 = 99"),
        (lambda content: boxes(content)["queue"].__setitem__(0, 5), "boxes.queue.0 = 5"),
        (lambda content: boxes(content)["cause"].__setitem__(0, 14), "boxes.cause.0 = 14"),
        (lambda content: boxes(content)["stage"].__setitem__(0, -2), "boxes.stage.0 = -2"),
        (lambda content: boxes(content)["start_ns"].__setitem__(0, -1), "boxes.start_ns.0 = -1"),
        (lambda content: boxes(content)["duration_ns"].__setitem__(0, -1), "boxes.duration_ns.0 = -1"),
        (lambda content: content["points"][0]["step"].update(window_ns=[5, 4]), "before its start"),
        (lambda content: content["points"][0]["step"]["ranks"][0].update(rank=7), "below of_ranks"),
        (lambda content: content["points"][0]["step"]["ranks"][0]["memory"]["t_ns"].reverse(), "must not fall"),
    ],
)
def test_a_malformed_file_is_told_in_one_line(change: Any, said: str, tmp_path: Path) -> None:
    la.sweep("uniform", {"horizon": [1, 2]}, directory=tmp_path)
    path = tmp_path / "points.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(la.LoadaheadError) as caught:
        la.report(tmp_path)
    assert said in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
