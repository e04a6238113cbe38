"""A sweep's axes: which options make them, their order, and the points that come of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.cli.axes import parse_axes
from loadahead.scenarios.loader import SHIPPED, load_scenario
from loadahead.sim.costs import save_costs
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import Room, SweepRow
from loadahead.sweeps.axes import Axis, axes_of, policy_axis
from loadahead.sweeps.grid import Grid, Sweep
from loadahead.sweeps.workers import Chunks


def columns(axes: tuple[Axis, ...]) -> dict[str, tuple[Any, ...]]:
    return {axis.column: axis.values for axis in axes}


def test_an_option_that_is_not_given_is_no_axis() -> None:
    axes = parse_axes({"horizon": "1:2", "release_window": None, "pipeline": "gpipe", "horizon_unit": None})
    assert columns(axes) == {"pipeline": ("gpipe",), "horizon": (1, 2)}


def test_axes_stand_in_one_order_however_they_are_given() -> None:
    axes = parse_axes(
        {"release_window": "1", "horizon": "1", "pipeline": "gpipe"},
        [
            "offload.receive_ahead=0",
            "parallel.active_microbatches=2",
            "offload.horizon_unit=layers",
            "hardware.h2d=1 GB/s",
            "hardware.d2h=1 GB/s",
            "parallel.microbatches=4",
        ],
    )
    assert [axis.column for axis in axes] == [
        "hardware.h2d",
        "hardware.d2h",
        "microbatches",
        "pipeline",
        "horizon_unit",
        "active_microbatches",
        "horizon",
        "release_window",
        "receive_ahead",
    ]


def test_a_short_option_and_its_key_are_the_same_axis() -> None:
    assert parse_axes({"horizon": "1:3"}) == parse_axes({}, ["offload.activation_loading_horizon=1:3"])
    assert parse_axes({"pipeline": "gpipe"}) == parse_axes({}, ["parallel . pipeline = gpipe"])


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        ('1 GB/s,"2 GB/s"', ("1 GB/s", "2 GB/s")),
        ("0:2", (0, 1, 2)),
        ("true,false", (True, False)),
        ("0.5,1.5", (0.5, 1.5)),
        ("0.5,1", ("0.5", "1")),
        ("1,true", ("1", "true")),
        ("nan,1.0", ("nan", "1.0")),
        ("1,9223372036854775808", ("1", "9223372036854775808")),
        ("{ width = 8 },{ width = 16 }", ("{ width = 8 }", "{ width = 16 }")),
    ],
)
def test_a_column_holds_one_type(values: str, cells: tuple[Any, ...]) -> None:
    assert parse_axes({}, [f"model.x={values}"])[0].values == cells


@pytest.mark.parametrize(
    ("short", "ranges", "says"),
    [
        ({"horizon_unit": "layer"}, [], "--horizon-unit is 'layer'; 'layer' must be one of tasks, layers"),
        ({"release_window": "0"}, [], "--release-window is '0'; values must be at least 1"),
        ({}, ["offload.release_window=0"], "--set-range offload.release_window is '0'; values must be at least 1"),
        ({}, ["parallel.pipeline=zigzag"], "--set-range parallel.pipeline is 'zigzag'"),
        ({}, ["offload.receive_ahead=-1"], "--set-range offload.receive_ahead is '-1'; write whole numbers"),
        ({}, ["offload.receive_ahead=2:0"], "--set-range offload.receive_ahead is '2:0'; the range 2:0 is empty"),
        ({"horizon": "1"}, ["offload.activation_loading_horizon=2"], "this axis is given already by --horizon"),
        ({}, ["a.b=1", "a.b=2"], "--set-range a.b: this axis is given already by --set-range a.b"),
        ({}, ["parallel.partitions=1", "parallel.pipeline_parallel_degree=2"], "given already by --set-range parallel"),
        ({}, ["model.options={}", "model.options.width=1"], "holds the other"),
        ({}, ["a.b"], "--set-range is 'a.b'; it must be KEY=VALUES"),
        ({}, [".b=1"], "must be KEY=VALUES"),
        ({}, ["hardware.d2h="], "--set-range hardware.d2h is ''; write values as a list"),
    ],
)
def test_bad_axes_are_one_line(short: dict[str, str | None], ranges: list[str], says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_axes(short, ranges)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_axes_from_python_are_those_of_the_command_line() -> None:
    values = {"horizon": range(1, 4), "hardware.d2h": ["1 GB/s", "2 GB/s"], "parallel.pipeline": ["gpipe"]}
    given = parse_axes({"horizon": "1:3", "pipeline": "gpipe"}, ["hardware.d2h=1 GB/s,2 GB/s"])
    assert axes_of(values) == given


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"foo": [1]}, "sweep axis 'foo' is unknown; it must be one of microbatches"),
        (
            {"horizn": [1]},
            "sweep axis 'horizn' is unknown; did you mean horizon (offload.activation_loading_horizon)? It",
        ),
        ({"activation_loading_horizon": [1]}, "did you mean horizon (offload.activation_loading_horizon)? It must be"),
        ({"window": [1]}, "did you mean release_window (offload.release_window)?"),
        ({"d2h": ["1 GB/s"]}, "sweep axis 'd2h' is unknown; did you mean hardware.d2h?"),
        ({"seed": [1]}, "did you mean jitter.seed or model.seed?"),
        ({"horizon": []}, "horizon has no values"),
        ({"horizon": 4}, "the values of horizon are 4; give a list of them"),
        ({"horizon": "1:4"}, "the values of horizon are '1:4'; give a list of them"),
        ({"horizon": [1, 0]}, "horizon has the value 0; it must be a whole number of at least 1"),
        ({"receive_ahead": [0, -1]}, "receive_ahead has the value -1; it must be a whole number of at least 0"),
        ({"receive_ahead": [True]}, "receive_ahead has the value True; it must be a whole number of at least 0"),
        ({"horizon": [1.5]}, "horizon has the value 1.5"),
        ({"pipeline": ["zigzag"]}, "pipeline has the value 'zigzag'; it must be one of"),
        ({"horizon": [1], "offload.activation_loading_horizon": [2]}, "this axis is given already by horizon"),
        ({"model.options": [{}], "model.options.width": [1]}, "holds the other"),
        ({"horizon": range(10_001)}, "has more than 10000 values"),
        ({"hardware.": [1]}, "'hardware.' is not a key's full path"),
    ],
)
def test_bad_axes_from_python_are_one_line(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        axes_of(values)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def uniform(*ranges: str) -> Grid:
    return Grid(Sweep("uniform"), parse_axes({}, ranges))


def test_points_are_numbered_in_the_axes_order_and_finished_ones_left_out() -> None:
    grid = uniform("offload.release_window=1,2", "hardware.d2h=1 GB/s,2 GB/s", "parallel.microbatches=2,4")
    made = list(grid.points())
    assert [number for number, _ in made] == list(range(8)) == list(range(len(grid)))
    assert [(p.axes["hardware.d2h"], p.axes["microbatches"], p.axes["release_window"]) for _, p in made] == [
        (d2h, microbatches, window) for d2h in ("1 GB/s", "2 GB/s") for microbatches in (2, 4) for window in (1, 2)
    ]
    assert [(p.costs.d2h_bandwidth, p.policy.microbatches, p.policy.release_window) for _, p in made] == [
        (d2h, microbatches, window) for d2h in (10**9, 2 * 10**9) for microbatches in (2, 4) for window in (1, 2)
    ]
    assert list(grid.points({0, 1, 2, 5, 6, 7})) == [made[3], made[4]]


def test_each_value_is_tried_before_the_first_point_and_combinations_are_not() -> None:
    grid = uniform("hardware.d2h=1 GB/s,0 GB/s", "parallel.microbatches=1:100", "model.static=0:99")
    with pytest.raises(InputError, match=r"^uniform: hardware.d2h = '0 GB/s'|^uniform: hardware.d2h"):
        grid.try_out()


def test_an_axis_may_give_what_the_scenario_lacks(tmp_path: Any) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        '[model]\nkind = "uniform"\nforward = "1 ms"\nbackward = "2 ms"\nboundary = "1 MB"\n'
        '[hardware]\nh2d = "1 GB/s"\n'
    )
    grid = Grid(Sweep(str(path)), parse_axes({}, ["hardware.d2h=1 GB/s,2 GB/s"]))
    grid.try_out()
    assert len(list(grid.points())) == 2


def test_a_sweep_that_no_memory_holds_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="the sweep has 4000000 points; at most 1000000"):
        Grid(Sweep("uniform"), (policy_axis("horizon", range(1, 2001)), policy_axis("release_window", range(1, 2001))))


def test_chunks_grow_until_they_take_a_tenth_of_a_second() -> None:
    chunks = Chunks(iter([(number, None) for number in range(100)]))  # type: ignore[misc]
    sizes = []
    for chunk in chunks:
        sizes.append(len(chunk))
        chunks.learn(len(chunk), 0.01 * len(chunk))
    assert sizes == [1, 2, 4, 8, 10, 10, 10, 10, 10, 10, 10, 10, 5]


def test_an_error_in_the_stream_of_points_ends_it_and_is_kept() -> None:
    def points() -> Any:
        yield 0, None
        raise InputError("no more")

    chunks = Chunks(points())
    assert len(list(chunks)) == 1
    assert str(chunks.error) == "no more"


def test_points_that_differ_in_links_share_workload_and_units() -> None:
    grid = uniform("hardware.d2h=1 GB/s,2 GB/s", "parallel.microbatches=2,4", "offload.release_window=1,2")
    grid.try_out()
    made = [point for _, point in grid.points()]
    assert len(made) == 8
    assert len({id(point.workload) for point in made}) == len({id(point.costs.units) for point in made}) == 1
    assert {point.costs.d2h_bandwidth for point in made} == {10**9, 2 * 10**9}


def test_points_are_the_same_whether_values_were_tried_before_or_not() -> None:
    ranges = ["hardware.d2h=1 GB/s,2 GB/s", "model.boundary=1 MB,2 MB", "offload.release_window=1,2"]
    tried, fresh = uniform(*ranges), uniform(*ranges)
    tried.try_out()
    assert list(tried.points()) == list(fresh.points())


def test_a_costs_file_is_read_once(tmp_path: Path) -> None:
    first, path = next(uniform("hardware.d2h=1 GB/s").points())[1], tmp_path / "costs.json"
    save_costs(first.costs, path)
    (tmp_path / "s.toml").write_text('costs = "costs.json"\n' + (SHIPPED / "uniform.toml").read_text())
    grid = Grid(Sweep(str(tmp_path / "s.toml")), parse_axes({}, ["parallel.microbatches=1:3"]))
    grid.try_out()
    path.unlink()
    assert [point.costs for _, point in grid.points()] == [first.costs] * 3
    assert len({id(point.costs) for _, point in grid.points()}) == 1


def test_a_mistake_is_told_before_the_first_point_as_by_loading_the_scenario() -> None:
    with pytest.raises(InputError) as swept:
        uniform("hardware.gpus_per_switch=2", "hardware.uplink_d2h=1 GB/s,0 GB/s").try_out()
    with pytest.raises(InputError) as loaded:
        load_scenario("uniform", {"hardware.gpus_per_switch": 2, "hardware.uplink_d2h": "0 GB/s"})
    assert str(swept.value) == str(loaded.value.about("uniform"))


def test_a_sweep_over_caps_warns_as_its_points_do() -> None:
    """The file's own cap, which is none of those swept over, is not warned of."""
    caps, counts = [1, 3, 9], [2, 4]
    own = {"parallel.active_microbatches": 77}
    table = la.sweep("uniform", {"active_microbatches": caps, "microbatches": counts}, overrides=own)
    expected = {}
    for count in counts:
        for cap in caps:
            overrides = {"parallel.microbatches": count, "parallel.active_microbatches": cap}
            expected |= dict.fromkeys(la.simulate("uniform", overrides).header["warnings"])
    assert set(table.warnings) == set(expected)
    assert any("only one microbatch in flight" in warning for warning in expected)
    assert any("is 9 and there are 4" in warning for warning in expected)


@pytest.mark.parametrize("engine", ["compiled", "simpy"])
def test_receive_ahead_is_an_axis_whose_rows_are_those_of_its_plans(engine: str) -> None:
    """Sends take 700 us: memory that is taken later keeps them waiting longer, and holds less."""
    own = {"hardware.p2p": "700 us", "parallel.microbatches": 6}
    for axes in ({"receive_ahead": range(3), "horizon": [1, 3]}, {"offload.receive_ahead": [2, 0, 1]}):
        table = la.sweep("uniform", axes, overrides=own, engine=engine)
        for row in table.rows:
            overrides = own | {"offload.receive_ahead": row["receive_ahead"]}
            if "horizon" in axes:
                overrides["offload.activation_loading_horizon"] = row.horizon
            step = la.simulate("uniform", overrides)
            room = Room(capacity_bytes=step.header["capacity_bytes"], gpus=4, replicas=1)
            assert row == SweepRow.of(row.axes, step.metrics, room)
        steps = {row["receive_ahead"]: row.step_time_ns for row in table.rows}
        assert steps[0] > steps[1] and len(table.rows) == (6 if "horizon" in axes else 3)


def test_receive_ahead_is_a_column_only_where_it_is_swept_over() -> None:
    assert "receive_ahead" not in la.sweep("uniform", {"horizon": [1]}).rows[0].axes
    assert parse_axes({}, ["offload.receive_ahead=0:2"]) == axes_of({"receive_ahead": range(3)})
