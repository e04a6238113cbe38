"""A sweep over microbatches of a module whose data cut a global batch: each number has shapes and costs of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import loadahead as la
from loadahead import jobs
from loadahead.scenarios.prepare import Prepared
from loadahead.sim.costs import Costs

ROWS = 16
TABLES = {
    "name": "cut",
    "hardware": {"d2h": "1 GB/s", "h2d": "1 GB/s", "memory": "64 MiB"},
    "parallel": {"microbatches": 2},
}


def scenario(cuts: bool = True, odd: int = 0) -> la.Scenario:
    """``odd`` microbatches get one row more."""

    def data(step: int, microbatch: int, microbatches: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = ROWS // microbatches if cuts else ROWS
        x = torch.randn(rows + (microbatches == odd), 8, generator=torch.Generator().manual_seed(step))
        return x, x

    layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(3)))
    return la.load(TABLES, model=layers, data=data, loss=nn.functional.mse_loss)


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The calibrations that are asked for: microbatches, and bytes of the first boundary."""
    asked: list[tuple[int, int]] = []
    true = jobs.calibrate_prepared

    def calibrate(prepared: Prepared, *args: Any, **settings: Any) -> Costs:
        asked.append((prepared.policy.microbatches, prepared.workload.stages[0][0].boundary_bytes))
        return true(prepared, *args, **settings)

    monkeypatch.setattr(jobs, "calibrate_prepared", calibrate)
    return asked


def test_other_shapes_are_calibrated_for_each_number(calibrated: list[tuple[int, int]]) -> None:
    table = la.sweep(scenario(), {"microbatches": [2, 4, 8], "horizon": [1, 2]})
    assert calibrated == [(2, 256), (4, 128), (8, 64)]
    assert table.warnings == () or not any("calibrated" in text for text in table.warnings)
    for row in table.rows:
        own = la.plan(scenario(), {"parallel.microbatches": row.microbatches})
        assert {own.buffer(number).nbytes for number in range(len(own.buffers.nbytes))} == {512 // row.microbatches}


def test_equal_shapes_are_calibrated_once(calibrated: list[tuple[int, int]]) -> None:
    la.sweep(scenario(cuts=False), {"microbatches": [2, 4, 8], "horizon": [1, 2]})
    assert calibrated == [(2, 512)]


def test_costs_that_fit_one_number_are_told_for_the_others(calibrated: list[tuple[int, int]]) -> None:
    costs = la.calibrate(scenario(), repeats=1)
    table = la.sweep(scenario(), {"microbatches": [2, 4, 8]}, costs=costs)
    told = [text for text in table.warnings if "the costs given were calibrated with" in text]
    assert [text.partition(" and ")[0] for text in told] == [
        f"unit 0.0 has a boundary of {nbytes} bytes" for nbytes in (128, 64)
    ]


def test_a_sweep_in_a_directory_knows_every_numbers_shapes(tmp_path: Path) -> None:
    axes = {"microbatches": [2, 4], "horizon": [1]}
    first = la.sweep(scenario(), axes, directory=tmp_path)
    assert la.sweep(scenario(), axes, directory=tmp_path).rows == first.rows
    # Only the second number's shapes are others: the model and the functions look the same.
    assert scenario().model.objects.fingerprint() == scenario(odd=4).model.objects.fingerprint()  # type: ignore[attr-defined]
    reports: list[la.Progress] = []
    other = la.sweep(scenario(odd=4), axes, directory=tmp_path, progress=reports.append)
    assert any("starts anew" in report.what for report in reports)
    assert other.rows[1].peak_device_bytes > first.rows[1].peak_device_bytes


def test_a_module_is_calibrated_once_for_all_links(calibrated: list[tuple[int, int]], tmp_path: Path) -> None:
    """Its compute is measured once, and each point is the step of that compute over the point's own link."""
    links = {"hardware.d2h": ["1 MB/s", "900 TB/s", "1000 TB/s"], "hardware.link_latency": ["0 us", "1 ms"]}
    choices = {"offload.activation_loading_horizon": 1, "parallel.pipeline": "simple"}
    table = la.sweep(scenario(), links | {"microbatches": [2, 4]}, overrides=choices, directory=tmp_path)
    assert calibrated == [(2, 256), (4, 128)]
    assert table.warnings == ()
    records = [json.loads(line) for line in (tmp_path / "sweep.journal").read_text().splitlines()]
    known = [Costs.model_validate_json(json.dumps(one["costs"])) for one in records if "calibrated" in one]
    assert [costs.evidence["microbatches"] for costs in known] == [2, 4]
    for row in table.rows:
        own = choices | {key: row[key] for key in links} | {"parallel.microbatches": row.microbatches}
        step = la.simulate(scenario(), own, costs=known[row.microbatches == 4])
        assert step.metrics.step_time_ns == row.step_time_ns
        assert step.metrics.peak_host_bytes == row.peak_host_bytes
    for slower, faster in zip(table.rows[4:8], table.rows[8:], strict=True):
        assert slower.to_dict() | {"hardware.d2h": ""} == faster.to_dict() | {"hardware.d2h": ""}
    assert table.rows[0].step_time_ns != table.rows[4].step_time_ns


def test_a_run_goes_over_the_links_that_its_scenario_states() -> None:
    costs = la.calibrate(scenario(), repeats=1)
    run = la.execute(scenario(), {"hardware.d2h": "2 GB/s", "hardware.link_latency": "3 ms"}, costs=costs, steps=3)
    # Of one rank there is no link between ranks.
    assert run.measured.header["link"].endswith(" Here: d2h 2 GB/s after 3 ms, h2d 1 GB/s after 3 ms.")
    assert (run.costs.d2h_bandwidth, run.costs.units) == (2_000_000_000, costs.units)
    assert run.costs.d2h_latency_ns == 3_000_000 + costs.d2h_latency_ns
    assert (
        "hardware.d2h = 2 GB/s, as the scenario states, stands in place of the costs' 1 GB/s"
        in (run.measured.header["warnings"])
    )
    assert run.check.equal


def test_a_sweep_of_more_values_calibrates_the_new_numbers_alone(
    calibrated: list[tuple[int, int]], tmp_path: Path
) -> None:
    first = la.sweep(scenario(), {"microbatches": [2, 4], "horizon": [1]}, directory=tmp_path)
    del calibrated[:]
    reports: list[la.Progress] = []
    more = {"microbatches": [8, 4, 2], "horizon": [1, 2]}
    table = la.sweep(scenario(), more, directory=tmp_path, progress=reports.append)
    assert calibrated == [(8, 64)]
    assert f"{tmp_path}: 2 of 6 points were finished before and are taken over" in [report.what for report in reports]
    assert [table.rows[4], table.rows[2]] == list(first.rows)
