"""The explorer's section holds what its script reads, in not too many bytes, and says how to get the rest."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields, replace
from html import unescape
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.cli.hints import point_command
from loadahead.cli.main import run
from loadahead.reports.page.explorer import content, explorer
from loadahead.reports.page.point_command import PointCommand
from loadahead.reports.points import MOST_BINS, MOST_BOXES, MOST_POINTS, MOST_RANKS, MOST_SAMPLES, StepExcerpt
from loadahead.reports.run_data import HorizonPoint, RunData, load_run
from loadahead.reports.stalls import STALL_LOOKS
from loadahead.reports.sweep_facts import CostsFacts
from loadahead.reports.views import front
from loadahead.reports.views.base import Missing
from loadahead.reports.views.explored import MOST_ROWS, Explored, ExploredStep, explored
from loadahead.sim.step_metrics import RankMetrics, StepMetrics
from tests.support import sweeps

AXES = {"hardware.h2d": ["0.5 GB/s", "4 GB/s"], "microbatches": [4, 8], "horizon": [1, 2, 3]}
OWN = {"hardware.memory": "7500 kB", "model.units_per_stage": 4}
LARGEST = 3_000_000


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    folder = tmp_path_factory.mktemp("swept")
    la.sweep("uniform", AXES, directory=folder, overrides=OWN)
    return load_run(folder)


def shown(data: RunData) -> Explored:
    found = explored(data)
    assert not isinstance(found, Missing)
    return found


def written(section: str) -> Any:
    """What the script reads."""
    (text,) = re.findall(r'<script type="application/json" id="explorer-data">(.*?)</script>', section, re.S)
    return json.loads(text)


def test_the_script_reads_every_row(swept: RunData) -> None:
    found = written(explorer(swept))
    assert [axis["name"] for axis in found["axes"]] == ["microbatches", "horizon", "hardware.h2d"]
    rows = found["rows"]
    assert rows["count"] == rows["of"] == len(swept.sweep) == 12
    for i, row in enumerate(swept.sweep):
        for axis, places in zip(found["axes"], rows["places"], strict=True):
            assert axis["values"][places[i]] == row.axes[axis["name"]]
        for name, column in rows["columns"].items():
            value = column[i] if isinstance(column, list) else column
            assert value == pytest.approx(getattr(row, name), abs=1e-6), name


def test_marks_are_those_of_the_choice(swept: RunData) -> None:
    (model,) = shown(swept).models
    rows = swept.sweep
    able = [row for row in rows if row.fits]
    assert 0 < len(able) < len(rows) and model.fits
    assert rows[model.leanest].peak_device_bytes == min(row.peak_device_bytes for row in able)
    assert rows[model.fastest].step_time_ns / rows[model.fastest].microbatches == min(
        row.step_time_ns / row.microbatches for row in able
    )
    assert {model.leanest, model.fastest, model.chosen} <= shown(swept).steps.keys()


def test_a_step_is_packed_without_loss(swept: RunData) -> None:
    view = shown(swept)
    found = content(view)["steps"]
    for row, step in view.steps.items():
        for packed, rank in zip(found[str(row)]["predicted"]["ranks"], step.predicted.ranks, strict=True):
            assert tuple(accumulate(packed["boxes"]["start_ns"])) == rank.boxes.start_ns
            assert tuple(accumulate(packed["boxes"]["op"])) == rank.boxes.op
            assert tuple(accumulate(packed["memory"]["t_ns"])) == rank.memory.t_ns
            assert tuple(packed["sizes"][place] for place in packed["boxes"]["nbytes"]) == rank.boxes.nbytes


def largest_step() -> StepExcerpt:
    """A step of as many numbers as there may be, each of as many digits as a long step of a large model has."""
    boxes = {
        "op": range(3_000_000, 3_000_000 + 7 * MOST_BOXES, 7),
        "kind": [10] * MOST_BOXES,
        "queue": [4] * MOST_BOXES,
        "stage": [127] * MOST_BOXES,
        "unit": [100] * MOST_BOXES,
        "microbatch": [1023] * MOST_BOXES,
        "start_ns": [90_000_000_000 + i % 2 * 90_000_000 + i for i in range(MOST_BOXES)],
        "duration_ns": [123_456_789] * MOST_BOXES,
        "nbytes": [10**9 + i % 20 for i in range(MOST_BOXES)],
        "wait_ns": [98_765_432] * MOST_BOXES,
        "cause": [12] * MOST_BOXES,
    }
    memory = {
        "t_ns": [300_000_000 * i for i in range(MOST_SAMPLES)],
        "device_bytes": [810_000_000_000 + i for i in range(MOST_SAMPLES)],
    }
    rank = {
        "rank": 1000,
        "why": "waits longest",
        "peak_device_bytes": 810_000_000_000,
        "stalled_ns": 10**11,
        "memory": {name: tuple(column) for name, column in memory.items()},
        "boxes": {name: tuple(column) for name, column in boxes.items()},
        "busy_percent": (100,) * MOST_BINS,
    }
    return StepExcerpt.model_validate(
        {
            "step_time_ns": 10**11,
            "window_ns": (9 * 10**10, 91 * 10**9),
            "whole": False,
            "ranks": tuple(rank | {"rank": 1000 + number} for number in range(MOST_RANKS)),
            "of_ranks": 1024,
        }
    )


def test_the_largest_there_can_be_is_small_enough(swept: RunData) -> None:
    view, step = shown(swept), ExploredStep(predicted=largest_step(), capacity_bytes=85_899_345_920)
    most = replace(view, steps=dict.fromkeys(range(MOST_POINTS), step))
    command = PointCommand(before="x" * 500, setting=lambda column, value: "x" * 60, after="")
    without = len(json.dumps(content(view, command)["rows"]))
    assert len(json.dumps(content(most, command), separators=(",", ":"))) < LARGEST - without
    # Numbers of many points, of as many digits: eleven times those of MOST_ROWS.
    many = tuple(
        replace(
            row,
            step_time_ns=10**11 + i,
            peak_device_bytes=810_000_000_000 + i,
            peak_boundary_bytes=10**10 + i,
            peak_host_bytes=10**11 + i,
            host_bytes=10**12 + i,
            stall_recv_ns=10**9 + i,
            stall_release_ns=10**9 + i,
            stall_prefetch_ns=10**9 + i,
            overlap=0.123456 + i % 2 / 1e6,
            offloaded=100_000 + i,
            kept=100_000 + i,
        )
        for i, row in enumerate(swept.sweep * (MOST_ROWS // 12))
    )
    all_rows = replace(view, rows=many, of_rows=len(many), model_of=(0,) * len(many), steps={})
    assert len(json.dumps(content(all_rows), separators=(",", ":"))) < 1_500_000


def test_of_very_many_rows_the_marked_are_kept(swept: RunData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadahead.reports.views.explored.MOST_ROWS", 8)
    view = shown(swept)
    assert len(view.rows) <= 8 and view.of_rows == 12
    chosen = shown(replace(swept, points=None)).models[0]
    assert view.rows[view.models[0].chosen] == swept.sweep[chosen.chosen] or chosen.chosen
    assert "of the sweep's 12 points" in explorer(swept)


def test_names_cannot_be_markup(swept: RunData) -> None:
    rows = tuple(replace(row, axes={**row.axes, "</script><b>": i}) for i, row in enumerate(swept.sweep))
    section = explorer(replace(swept, sweep=rows, points=None))
    assert "</script><b>" not in section
    assert any(axis["name"] == "</script><b>" for axis in written(section)["axes"])


def test_points_that_are_of_another_table_are_left_out(swept: RunData) -> None:
    slower = tuple(replace(row, step_time_ns=row.step_time_ns + 1) for row in swept.sweep)
    assert shown(replace(swept, sweep=slower)).steps == {}


def test_the_command_makes_the_very_point(swept: RunData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = written(explorer(swept, point_command(swept)))["command"]
    rows = written(explorer(swept))["rows"]
    assert swept.directory is not None
    monkeypatch.chdir(swept.directory)
    for i in (0, 7, 11):
        settings = [texts[places[i]] for texts, places in zip(command["settings"], rows["places"], strict=True)]
        simulate, report = " ".join([command["before"], *settings, command["after"]]).split(" && ")
        assert shlex.split(simulate)[0] == shlex.split(report)[0] == "loadahead"
        assert run([*shlex.split(simulate)[1:-1], str(tmp_path / str(i))]) == 0
        step = load_run(tmp_path / str(i)).predicted
        assert step is not None
        assert step.metrics.step_time_ns == swept.sweep[i].step_time_ns
        assert step.metrics.peak_device_bytes == swept.sweep[i].peak_device_bytes
        assert load_run(tmp_path / str(i)).capacity_bytes == 7_500_000


def test_costs_that_were_given_are_asked_for(tmp_path: Path) -> None:
    assert run(["simulate", "uniform", "-o", str(tmp_path / "one")]) == 0
    la.sweep("uniform", {"horizon": [1, 2]}, costs=tmp_path / "one/costs.json", directory=tmp_path / "many")
    command = point_command(load_run(tmp_path / "many"))
    assert command is not None and command.before.endswith("--costs COSTS") and "COSTS" in command.note


def test_costs_of_a_run_beside_the_sweep_are_not_taken_for_the_sweep_s(tmp_path: Path) -> None:
    la.sweep("uniform", {"horizon": [1, 2]}, directory=tmp_path)
    assert run(["simulate", "uniform", "--set", "model.forward=3 ms", "-o", str(tmp_path)]) == 0
    command = point_command(load_run(tmp_path))
    assert command is not None and "--costs" not in command.before and not command.note


def test_calibrated_costs_are_said_to_be_measured_anew(tmp_path: Path) -> None:
    la.sweep("uniform", {"horizon": [1, 2]}, directory=tmp_path)
    data = load_run(tmp_path)
    assert data.facts is not None
    one = CostsFacts(microbatches=4, source="calibrated on cpu", digest="0" * 64)
    command = point_command(replace(data, facts=data.facts.model_copy(update={"costs": (one,)})))
    assert command is not None and "--costs" not in command.before and "calibrates anew" in command.note


def test_a_scenario_in_memory_has_no_command(tmp_path: Path) -> None:
    la.sweep(la.load("uniform"), {"horizon": [1, 2]}, directory=tmp_path)
    data = load_run(tmp_path)
    assert point_command(data) is None
    assert "A sweep that is kept in a directory" in explorer(data)


def test_a_table_alone_is_explored_without_steps(tmp_path: Path) -> None:
    page = la.report(la.sweep("uniform", {"horizon": [1, 2]}), tmp_path).read_text()
    found = written(page)
    assert found["rows"]["count"] == 2 and found["steps"] == {} and found["command"] is None
    assert "A sweep that is kept in a directory has them" in page


def test_a_run_alone_is_one_step(tmp_path: Path) -> None:
    assert run(["simulate", "uniform", "-o", str(tmp_path)]) == 0
    data = load_run(tmp_path)
    view = shown(data)
    assert view.axes == () and view.rows == () and view.run is not None and view.run.waits_known
    assert data.predicted is not None
    assert view.run.predicted.step_time_ns == data.predicted.step_time_ns
    assert view.run.capacity_bytes == data.capacity_bytes
    assert 'type="range"' not in explorer(data)


def test_the_run_of_a_point_stands_in_its_place(swept: RunData, tmp_path: Path) -> None:
    (model,) = shown(swept).models
    row = swept.sweep[model.chosen]
    own = {
        "parallel.microbatches": row.microbatches,
        "offload.activation_loading_horizon": row.horizon,
        "hardware.h2d": row.axes["hardware.h2d"],
        **OWN,
    }
    step = la.simulate("uniform", own)
    view = shown(replace(swept, plan=step.plan, predicted=step, measured=replace(step, source="cpu"), points=None))
    assert list(view.steps) == [model.chosen] and view.run is None
    assert view.steps[model.chosen].measured is not None


def test_nothing_to_explore_is_no_section() -> None:
    assert explorer(RunData()) == ""


def test_every_stall_has_a_look_for_the_script(swept: RunData) -> None:
    found = written(explorer(swept))
    assert list(found["stalls"]) == list(STALL_LOOKS)
    assert {name for name in found["stallOf"] if name} == set(STALL_LOOKS)


STRANGE = '</script> "it\'s" & {{ x }} Ωμέγα 模型 \U0001f680 ' + "long " * 60


def test_strange_names_reach_the_script_whole(swept: RunData) -> None:
    """As an axis, as one of its values, and in the section's own markup."""
    rows = tuple(
        replace(row, axes={**row.axes, STRANGE: i % 2, "model.preset": STRANGE + str(i % 3)})
        for i, row in enumerate(swept.sweep)
    )
    section = explorer(replace(swept, sweep=rows, points=None))
    assert section.count("</script>") == 2 and STRANGE in unescape(section)
    axes = {axis["name"]: axis for axis in written(section)["axes"]}
    assert axes[STRANGE]["values"] == [0, 1]
    assert axes["model.preset"]["values"] == [STRANGE + str(i) for i in range(3)]


def test_names_are_chosen_and_amounts_slid(swept: RunData) -> None:
    own = {"model.preset": ["7b", "70b"], "model.layers": [2, 4], "offload.unit": ["layers", "tasks"]}
    rows = tuple(
        replace(row, axes={**row.axes, **{name: values[i % 2] for name, values in own.items()}})
        for i, row in enumerate(swept.sweep)
    )
    ordered = {axis.name: axis.has_order for axis in shown(replace(swept, sweep=rows, points=None)).axes}
    assert ordered == {
        "microbatches": True,
        "horizon": True,
        "hardware.h2d": True,
        "model.preset": False,
        "model.layers": True,
        "offload.unit": False,
    }


def test_the_script_knows_which_rows_have_no_horizon() -> None:
    rows = tuple(
        sweeps.row(8 + h, 9, horizon=h, decisions=decisions) for decisions in ("horizon", "auto") for h in (1, 2)
    )
    found = content(shown(RunData(sweep=rows)))
    assert found["rows"]["tuned"] == [False, False, True, True]
    assert {axis["name"]: axis["ofHorizons"] for axis in found["axes"]} == {"horizon": True, "decisions": False}


def test_time_is_that_of_the_figures(swept: RunData) -> None:
    """Of steps of 4 and of 8 microbatches it is a microbatch's."""
    found = written(explorer(swept))
    view = front.of(swept)
    assert not isinstance(view, Missing)
    assert found["time"]["name"] == view.time.name and not found["time"]["alone"]
    assert found["rows"]["time"] == [round(view.time.of(row)) for row in swept.sweep]
    assert found["rows"]["time"] == [
        round(row.step_time_ns * (row.gpus or 1) / row.microbatches) for row in swept.sweep
    ]
    alike = tuple(row for row in swept.sweep if row.microbatches == 4)
    found = written(explorer(replace(swept, sweep=alike, points=None)))
    assert found["time"] == {"name": "step time", "sentence": "", "alone": True}


def test_what_was_measured_stands_beside_the_row(swept: RunData) -> None:
    """A horizon that was run alone; where two rows are predicted alike, it is not known of which it is."""
    keys = [(row.horizon, row.microbatches, row.step_time_ns) for row in swept.sweep]
    place = next(i for i, key in enumerate(keys) if keys.count(key) == 1)
    twin = next(i for i, key in enumerate(keys) if keys.count(key) > 1)
    assert told_of(swept, place, 0) == {str(place): [swept.sweep[place].step_time_ns + 7, 1234]}
    assert told_of(swept, place, 1) == told_of(swept, twin, 0) == {}


def told_of(data: RunData, place: int, off: int) -> Any:
    """What stands beside rows, if a row's horizon took 7 ns longer than a prediction that is so much off the row's."""
    row = data.sweep[place]
    step = StepMetrics(step_time_ns=row.step_time_ns + off, ranks=(), offloaded=0, kept=1, host_bytes=0)
    ran = replace(step, step_time_ns=row.step_time_ns + 7, ranks=(rank_of(1234),))
    point = HorizonPoint(horizon=row.horizon, microbatches=row.microbatches, predicted=step, measured=ran)
    return written(explorer(replace(data, horizons=(point,))))["measuredRows"]


def rank_of(peak: int) -> RankMetrics:
    zeros = {field.name: 0 for field in fields(RankMetrics) if field.name != "peak_parts"}
    return RankMetrics(**zeros | {"peak_device_bytes": peak})  # type: ignore[arg-type]
