"""Times that were calibrated on a CPU say nothing about a GPU: that is told wherever they are used for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import loadahead as la
from loadahead.jobs import prepared_of
from loadahead.sim.costs import save_costs

WARNING = (
    'hardware.preset is "h100-sxm" and compute times were calibrated on a CPU: they are that CPU\'s and say nothing '
    "about the GPU; calibrate on that GPU"
)
TABLES: dict[str, Any] = {
    "name": "layers",
    "model": {"input_shape": [4, 8], "steps": 2},
    "hardware": {"preset": "h100-sxm"},
    "parallel": {"microbatches": 2},
}
OWN = {"d2h": "1 GB/s", "h2d": "1 GB/s", "memory": "64 MiB"}


def scenario(**hardware: Any) -> la.Scenario:
    layers = nn.Sequential(*(nn.Linear(8, 8, dtype=torch.float32) for _ in range(3)))
    return la.load(TABLES | {"hardware": hardware or TABLES["hardware"]}, model=layers)


@pytest.fixture(scope="module")
def costs() -> la.Costs:
    return la.calibrate(scenario(), repeats=1)


def of(warnings: Any) -> list[str]:
    return [text for text in warnings if "calibrated on a CPU" in text]


def test_a_simulation_that_calibrates_says_it_once() -> None:
    assert of(la.simulate(scenario()).header["warnings"]) == [WARNING]


def test_a_sweep_that_calibrates_says_it_once() -> None:
    assert of(la.sweep(scenario(), {"horizon": [1, 2], "parallel.microbatches": [2, 4]}).warnings) == [WARNING]


def test_a_finished_sweep_says_it_again(tmp_path: Path) -> None:
    for _ in range(2):
        table = la.sweep(scenario(), {"horizon": [1, 2]}, directory=tmp_path)
        assert of(table.warnings) == [WARNING]


def test_costs_that_are_given(costs: la.Costs, tmp_path: Path) -> None:
    save_costs(costs, tmp_path / "costs.json")
    for given in (costs, tmp_path / "costs.json"):
        assert of(la.simulate(scenario(), costs=given).header["warnings"]) == [WARNING]
        assert of(la.sweep(scenario(), {"horizon": [1, 2]}, costs=given).warnings) == [WARNING]


def test_a_plan_whose_scenario_names_costs(costs: la.Costs, tmp_path: Path) -> None:
    save_costs(costs, tmp_path / "costs.json")
    named = scenario().model_copy(update={"costs": str(tmp_path / "costs.json")})
    assert of(prepared_of(named).warnings) == [WARNING]


def test_a_run_says_it_of_its_prediction(costs: la.Costs) -> None:
    assert of(la.execute(scenario(), costs=costs, steps=2).result()["warnings"]) == [WARNING]


def test_a_machine_is_named_as_it_was_written(costs: la.Costs) -> None:
    named = WARNING.replace('preset is "h100-sxm"', 'machine is "p5.48xlarge"')
    assert of(la.simulate(scenario(machine="p5"), costs=costs).header["warnings"]) == [named]


def test_no_preset_or_a_gpus_times_are_as_they_should_be(costs: la.Costs) -> None:
    assert of(la.simulate(scenario(**OWN), costs=costs).header["warnings"]) == []
    on_gpu = costs.model_copy(update={"source": "calibrated on cuda"})
    assert of(la.simulate(scenario(), costs=on_gpu).header["warnings"]) == []
    assert of(la.simulate("four-rank").header["warnings"]) == []
