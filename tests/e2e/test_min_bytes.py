"""`offload.min_bytes` on the command line, from Python, in a sweep and in a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import loadahead as la
from loadahead.cli.main import run
from loadahead.executor.calibration import calibrate
from loadahead.executor.execute import execute
from loadahead.scenarios.loader import load_scenario, scenario_from_dict, scenario_to_dict
from loadahead.sim.engines import simulate
from loadahead.sim.ir.decisions import decisions_of
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.planner import HORIZON_UNITS, Policy, build_plan
from tests.support.models import HARDWARE, tiny_spec, workload_of

Captured = pytest.CaptureFixture[str]
# Two units a stage, of 16 KiB and 1 MB, on two ranks.
TWO_SIZES: dict[str, Any] = {
    "model.units_per_stage": 2,
    "model.boundary": ["16 KiB", "1 MB"],
    "parallel.pipeline_parallel_degree": 2,
    "parallel.pipeline": "simple",
    "offload.activation_loading_horizon": 2,
}
KEEPS_ALL = (
    "nothing is offloaded: every boundary is smaller than offload.min_bytes (2 MiB), the largest has 976.6 KiB; set a "
    "smaller min_bytes"
)


def test_a_size_is_read_and_round_trips() -> None:
    scenario = load_scenario("uniform", {"offload.min_bytes": "64 KiB"})
    assert scenario.offload.min_bytes == 65536
    assert scenario_from_dict(scenario_to_dict(scenario), "echo") == scenario
    assert load_scenario("uniform").offload.min_bytes == 0


def test_plan_and_simulate_say_what_stays_and_why(tmp_path: Path, capsys: Captured) -> None:
    sets = [f"--set={key}={json.dumps(value)}" for key, value in TWO_SIZES.items()]
    sets.append("--set=offload.min_bytes=64 KiB")
    path = tmp_path / "plan.json"
    assert run(["plan", "uniform", *sets, "-o", str(path), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["offloaded"], planned["kept_because"]) == (16, {"smaller_than_min_bytes": 16})
    sentence = (
        "16 of 32 boundaries are offloaded; 16 boundaries of 16 KiB stay on the GPU because they are smaller than "
        "offload.min_bytes (64 KiB)."
    )
    assert planned["sentence"] == sentence
    assert json.loads(path.read_text())["policy"]["min_bytes"] == 65536
    for source in (["uniform", *sets], [str(path)]):
        assert run(["simulate", *source]) == 0
        out, err = capsys.readouterr()
        assert sentence in " ".join(out.split()) and err == ""
        assert "min_bytes 64 KiB)" in " ".join(out.split()), "the advice names it"


def test_what_keeps_all_is_warned_of(capsys: Captured) -> None:
    too_much = TWO_SIZES | {"offload.min_bytes": "2 MiB"}
    predicted = la.simulate("uniform", too_much)
    assert predicted.metrics.offloaded == 0
    assert predicted.header["warnings"] == [KEEPS_ALL]
    advice = la.advise("uniform", too_much)
    assert advice is not None and advice.obstacles == ("min_bytes",) and advice.best is None
    assert advice.sentence == (
        "No horizon (tasks, release window 1) offloads anything: every boundary is smaller than offload.min_bytes "
        "(2 MiB)."
    )
    for off in ({"offload.offload_activations": False}, {"checkpoint.enabled": False}, {"offload.min_bytes": "1 MB"}):
        assert not any("min_bytes" in one for one in la.simulate("uniform", too_much | off).header["warnings"])


def test_decisions_that_are_given_stand_for_it_too() -> None:
    given = decisions_of(la.plan("uniform", TWO_SIZES))
    assert given.offloaded == 32
    plan = la.plan("uniform", TWO_SIZES | {"offload.min_bytes": "2 MiB"}, decisions=given)
    assert plan.policy["offloaded"] == 32 and "min_bytes" not in plan.policy
    assert la.simulate(plan).header["warnings"] == []


def test_a_few_tasks_are_told_of_large_boundaries_alone() -> None:
    """Of a stage's two units the first, small one is the furthest apart; 1 microbatch, the last stage's large one."""
    changes = TWO_SIZES | {"parallel.pipeline_parallel_degree": 1, "parallel.microbatches": 1}
    advice = la.advise("uniform", changes | {"offload.min_bytes": "64 KiB"})
    assert advice is not None and advice.furthest == 1
    assert advice.sentence == (
        "No horizon (tasks, release window 1, min_bytes 64 KiB) offloads anything: there are too few tasks between "
        "FORWARD and BACKWARD of boundaries of at least 64 KiB, none, for a release window of 1 and a horizon of 1. No "
        "release window from 1 to 4, in tasks or in layers, saves memory in such a step with min_bytes 64 KiB."
    )
    without = la.advise("uniform", changes)
    assert without is not None and without.furthest == 3


@pytest.mark.parametrize("unit", HORIZON_UNITS)
def test_a_sweep_over_it_has_each_points_own_figures(unit: str) -> None:
    values = ["0 B", "64 KiB", "2 MiB"]
    overrides = TWO_SIZES | {"offload.horizon_unit": unit}
    table = la.sweep("uniform", {"offload.min_bytes": values, "horizon": [1, 3]}, overrides=overrides)
    assert [(row["offload.min_bytes"], row["horizon"]) for row in table.rows] == [
        (v, h) for v in values for h in (1, 3)
    ]
    assert len({row["offloaded"] for row in table.rows}) == 3
    for row in table.rows:
        own = overrides | {
            "offload.min_bytes": row["offload.min_bytes"],
            "offload.activation_loading_horizon": row["horizon"],
        }
        assert la.plan("uniform", own).policy["offloaded"] == row["offloaded"]
        metrics = la.simulate("uniform", own, engine="simpy").metrics
        for name in ("step_time_ns", "peak_device_bytes", "peak_boundary_bytes", "peak_host_bytes", "kept"):
            assert getattr(metrics, name) == row[name], name


def test_an_axis_of_the_command_line(capsys: Captured) -> None:
    axis = ["--set-range", "offload.min_bytes=0 B,2 MiB"]
    assert run(["sweep", "uniform", *axis, "--horizon", "1:2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [point["offload.min_bytes"] for point in found["points"]] == ["0 B", "0 B", "2 MiB", "2 MiB"]
    assert found["warnings"] == [KEEPS_ALL]


@pytest.mark.parametrize("unit", HORIZON_UNITS)
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_keeps_the_ids_and_is_plain_training(ranks: int, unit: str) -> None:
    """The ids of a microbatch are 128 bytes, all other boundaries 1024; peaks are exact, gradients bit for bit."""
    spec = tiny_spec()
    workload = workload_of(spec, ranks)
    assert sorted(set(workload.boundary_bytes().tolist())) == [128, 1024]
    costs = calibrate(workload, spec, hardware=HARDWARE, repeats=1)
    choices: dict[str, Any] = {"ranks": ranks, "microbatches": 6, "horizon": 1, "horizon_unit": unit}
    plan = build_plan(workload, Policy(pipeline="simple", min_bytes=1024, **choices))
    assert plan.policy["kept_because"]["smaller_than_min_bytes"] == 6
    moved = {(op.stage, op.unit) for op in plan if op.kind == Kind.OFFLOAD}
    assert moved and (0, 0) not in moved
    done = execute(plan, workload, spec, costs=costs, steps=2)
    assert done.max_grad_error == 0.0
    predicted = simulate(plan, costs)
    for name in ("peak_device_bytes", "peak_boundary_bytes", "peak_host_bytes"):
        ours, theirs = ([getattr(r, name) for r in side.metrics.ranks] for side in (done.timeline, predicted))
        assert ours == theirs, name


def test_execute_of_a_shipped_scenario_keeps_the_ids(tmp_path: Path, capsys: Captured) -> None:
    """The demo's ids are 8 KiB for a microbatch, what its blocks read 256 KiB."""
    command = ["execute", "demo", "--set", "offload.min_bytes=64 KiB", "--set", "model.steps=2", "--json"]
    assert run([*command, "-o", str(tmp_path / "run")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["offloaded"], found["kept"], found["max_grad_error"]) == (40, 8, 0.0)
    assert (
        "8 boundaries of 8 KiB stay on the GPU because they are smaller than offload.min_bytes (64 KiB)"
        in (json.loads((tmp_path / "run" / "plan.json").read_text())["policy"]["sentence"])
    )
