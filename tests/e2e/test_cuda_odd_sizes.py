"""Peaks are predicted to the byte where no tensor fills the blocks of the GPU's allocator, at every horizon.

On the stand-in, whose allocator rounds sizes up and hands out blocks whole that are not worth splitting, as torch's
does. What tensors ask for is what a plan knows and what is measured; the blocks take more.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import pytest

from loadahead.executor.calibration import calibrate
from loadahead.executor.execute import execute
from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.training.results import ExecutionResult
from loadahead.sim.costs import CheckpointWay, Costs
from loadahead.sim.engines import simulate
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.fake_allocator import GRAIN, MIB
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_kernels import FakeGpu
from tests.support.models import HARDWARE, tiny_spec, workload_of
from tests.support.ways import checkpointed

GPU = FakeGpu(launch_ns=100, call_ns=50)
MICROBATCHES = 3
ODD: dict[str, dict[str, Any]] = {
    "small": {"blocks": 2, "width": 36, "heads": 3, "context": 7, "batch": 3, "dropout": 0.2},
    # Its weights, and their gradients, are above 1 MiB: 300 x 900 and 300 x 1200 numbers.
    "large": {"blocks": 1, "width": 300, "heads": 2, "context": 7, "batch": 3, "dropout": 0.2},
}


@cache
def spec(name: str) -> ModelSpec:
    return tiny_spec(options=ODD[name])


@cache
def workload(name: str) -> Workload:
    return workload_of(spec(name))


@cache
def costs_of(name: str) -> Costs:
    return calibrate(
        workload(name),
        spec(name),
        hardware=HARDWARE,
        device="cuda",
        driver=FakeCuda(GPU),
        link_sizes=(1 << 12,),
        repeats=1,
        microbatches=MICROBATCHES,
    )


def plans(name: str, pipeline: str, unit: str) -> Iterator[tuple[int, Plan]]:
    """At every horizon up to the number of tasks; of those with equal plans, the first."""
    known, horizon, tasks = set(), 1, 1
    while horizon <= tasks:
        policy = Policy(ranks=1, microbatches=MICROBATCHES, pipeline=pipeline, horizon=horizon, horizon_unit=unit)
        plan = build_plan(workload(name), policy)
        tasks = sum(op.kind in (Kind.FORWARD, Kind.BACKWARD) for op in plan)
        body = tuple((op.name, op.after) for op in plan)
        if body not in known:
            known.add(body)
            yield horizon, plan
        horizon += 1


def run(name: str, plan: Plan, costs: Costs) -> ExecutionResult:
    return execute(
        plan,
        workload(name),
        spec(name),
        costs=costs,
        device="cuda",
        driver=FakeCuda(GPU),
        steps=3,
        check_gradients=False,
    )


@pytest.mark.parametrize("name", ODD)
def test_sizes_are_odd(name: str) -> None:
    """No boundary fills the allocator's blocks."""
    sizes = [unit.boundary_bytes for unit in workload(name).stages[0]]
    assert all(size % GRAIN for size in sizes)


@pytest.mark.parametrize("way", get_args(CheckpointWay))
@pytest.mark.parametrize("unit", ["tasks", "layers"])
@pytest.mark.parametrize("pipeline", ["simple", "interleaved"])
@pytest.mark.parametrize("name", ODD)
def test_peaks_are_as_predicted_at_every_horizon(name: str, pipeline: str, unit: str, way: CheckpointWay) -> None:
    costs = checkpointed(costs_of(name), way)
    for horizon, plan in plans(name, pipeline, unit):
        done = run(name, plan, costs)
        measured = done.timeline.metrics.ranks[0].peak_device_bytes
        assert simulate(plan, costs).metrics.ranks[0].peak_device_bytes == measured, horizon
        figures = done.timeline.header["allocator"]
        assert measured == max(figures["max_requested"])
        more = max(figures["max_memory_allocated"]) - measured
        assert more > (MIB // 8 if name == "large" else GRAIN), horizon  # blocks that are not split are MiB
