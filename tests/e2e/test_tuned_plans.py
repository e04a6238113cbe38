"""A tuned plan on its way: tuned, proven, shown, predicted, run on real tensors beside plain training, and reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

import loadahead as la
from loadahead.cli.main import run
from loadahead.sim.ir.decisions import Decisions

Captured = pytest.CaptureFixture[str]
COSTS = Path(__file__).parents[1] / "golden" / "costs" / "two-rank.json"
CAP = 1_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of `tune`, of the model that comes along with its calibrated costs."""
    path = tmp_path_factory.mktemp("tuned")
    arguments = ["tune", "two-rank", "--boundary-memory", "1MB", "--budgets", "3", "--costs", str(COSTS)]
    assert run([*arguments, "-o", str(path)]) == 0
    return path


def test_its_plan_is_proven_and_shown(folder: Path, capsys: Captured) -> None:
    plan = folder / "plan.json"
    assert run(["verify", str(plan)]) == 0
    capsys.readouterr()
    assert run(["show", str(plan)]) == 0
    assert '"decisions": "auto"' in capsys.readouterr().out
    assert json.loads(plan.read_text())["policy"]["goal"] == {"boundary_memory": CAP}


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_it_is_predicted_as_it_was_tuned(engine: str, folder: Path, capsys: Captured) -> None:
    assert run(["simulate", str(folder / "plan.json"), "--costs", str(COSTS), "--engine", engine, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    told = json.loads((folder / "tuning.json").read_text())
    assert answer["step_time_ns"] == told["chosen"]["step_time_ns"] and answer["advice"] is None
    assert max(rank["peak_boundary_bytes"] for rank in answer["ranks"]) <= CAP
    assert answer["offloaded"] > 0


def test_it_is_run_and_keeps_the_budget_to_the_byte(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    arguments = ["execute", str(folder / "plan.json"), "--costs", str(folder / "costs.json"), "--steps", "2"]
    assert run([*arguments, "-o", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["max_grad_error"] == 0
    told = json.loads((folder / "tuning.json").read_text())["chosen"]
    assert max(rank["peak_boundary_bytes"] for rank in answer["ranks"]) == told["peak_boundary_bytes"] <= CAP
    assert max(rank["peak_device_bytes"] for rank in answer["ranks"]) == told["peak_device_bytes"]
    assert run(["report", str(tmp_path)]) == 0


def test_its_directory_has_a_page(folder: Path, capsys: Captured) -> None:
    assert run(["report", str(folder)]) == 0
    assert (folder / "report.html").exists()


def test_it_is_exported(folder: Path, tmp_path: Path) -> None:
    plan, trace = str(folder / "plan.json"), str(tmp_path / "trace.json")
    assert run(["export", plan, "--to", "chrome", "-o", trace, "--costs", str(COSTS)]) == 0


def test_execute_and_calibrate_take_the_scenario_itself(tmp_path: Path, capsys: Captured) -> None:
    sets = ["--set", "offload.decisions=auto", "--set", "offload.boundary_memory=1 MB"]
    assert run(["execute", "two-rank", *sets, "--costs", str(COSTS), "--steps", "2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["max_grad_error"] == 0
    assert max(rank["peak_boundary_bytes"] for rank in answer["ranks"]) <= CAP
    assert run(["calibrate", "demo", "--repeats", "1", *sets, "-o", str(tmp_path / "costs.json")]) == 0


def test_a_training_step_takes_it_with_costs() -> None:
    layers = [nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)]
    tables = {
        "name": "own",
        "hardware": {"d2h": "1 GB/s", "h2d": "1 GB/s", "memory": "1 GiB"},
        "parallel": {"microbatches": 4, "pipeline": "simple"},
        "offload": {"decisions": "auto", "boundary_memory": "200 B"},
    }
    scenario = la.load({**tables, "model": {"input_shape": [2, 4]}}, model=nn.Sequential(*layers))
    costs = la.calibrate(scenario, repeats=1)

    import torch

    batches = [(torch.ones(2, 4), torch.zeros(2, 4)) for _ in range(4)]
    step = la.TrainingStep(layers, tables, loss=nn.functional.mse_loss, costs=costs)
    step(batches)
    assert step.plan.policy["decisions"] == "auto" and step.plan.policy["offloaded"] > 0
    assert Decisions.of(step.plan).offloaded == step.plan.policy["offloaded"]
    without = la.TrainingStep(layers, tables, loss=nn.functional.mse_loss)
    with pytest.raises(la.InputError, match="which boundaries leave follows from times, which are not known"):
        without(batches)


def test_the_demo_sweeps_horizons_all_the_same(tmp_path: Path, capsys: Captured) -> None:
    tiny = ["model.options.blocks=1", "model.options.width=8", "model.options.heads=1", "model.options.context=8"]
    own = (*tiny, "offload.decisions=auto", "offload.memory=20 MiB")
    sets = [word for text in own for word in ("--set", text)]
    sizes = ["--steps", "2", "--horizons", "1", "--microbatches", "2", "-o", str(tmp_path)]
    assert run(["demo", *sets, *sizes, "--json"]) == 0
    out, err = capsys.readouterr()
    assert 'offload.decisions = "auto" has no effect, nor has offload.memory: the demo sweeps horizons' in err
    # Nothing says again that it is a horizon that decides, or to set what was set.
    assert "offload.memory has no effect" not in err and json.loads(out)["warnings"] == []
    assert "decisions" not in json.loads(out)["chosen"]


def test_a_model_in_memory_is_tuned_and_run() -> None:
    layers = nn.Sequential(*(nn.Linear(16, 16) for _ in range(4)))
    tables = {
        "name": "own",
        "model": {"input_shape": [8, 16]},
        "hardware": {"d2h": "10 MB/s", "h2d": "10 MB/s", "memory": "1 GiB"},
        "parallel": {"microbatches": 4, "pipeline": "simple"},
    }
    scenario = la.load(tables, model=layers, loss=nn.functional.mse_loss, data=of_ones)
    tuned = la.tune(scenario, boundary_memory="4 KiB", budgets=0)
    assert tuned.fits and tuned.plan.policy["offloaded"] > 0
    done = la.execute(scenario, decisions=tuned.plan, costs=tuned.job.costs, steps=2)
    assert done.max_grad_error == 0
    assert done.metrics.peak_boundary_bytes == tuned.step.metrics.peak_boundary_bytes <= 4096


def of_ones(step: int, microbatch: int, microbatches: int) -> tuple[object, object]:
    """A batch that is the same each time."""
    import torch

    return torch.ones(8, 16), torch.zeros(8, 16)
