"""On a GPU: memory as predicted, and what calibration and a timeline hold. Times: tests/times/gpu.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadahead.executor.calibration import calibrate
from loadahead.executor.execute import execute
from loadahead.executor.model.spec import ModelSpec
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.planner import Policy, build_plan
from tests.gpu.test_cuda_gradients import workload_of
from tests.support.gpu import NEEDS_GPU
from tests.support.models import BIG, HARDWARE, tiny_spec

pytestmark = NEEDS_GPU


@pytest.fixture(scope="module")
def big() -> tuple[ModelSpec, Costs]:
    spec = tiny_spec(python="byte-gpt-cached", options=BIG, autocast="bfloat16")
    return spec, calibrate(workload_of(spec), spec, hardware=HARDWARE, device="cuda", deterministic=False)


def test_costs_have_counts_and_spreads(big: tuple[ModelSpec, Costs]) -> None:
    costs = big[1]
    assert costs.source == "calibrated on cuda"
    for figure in [*costs.evidence["operations"].values(), *costs.evidence["issue"].values()]:
        assert figure["count"] >= 3
        assert figure["spread"] >= 0
    # PCIe 3 x16 to the links of today; NVLink-C2C is the fastest.
    for rate in (costs.d2h_bandwidth, costs.h2d_bandwidth):
        assert 3e9 < rate < 1e12


@pytest.mark.parametrize("horizon", [1, 2, 4])
@pytest.mark.parametrize("pipeline", ["simple", "interleaved"])
def test_peak_memory_is_as_predicted(big: tuple[ModelSpec, Costs], pipeline: str, horizon: int) -> None:
    spec, costs = big
    workload = workload_of(spec)
    plan = build_plan(workload, Policy(ranks=1, microbatches=4, horizon=horizon, pipeline=pipeline))
    run = execute(plan, workload, spec, costs=costs, steps=6, device="cuda", check_gradients=False)
    predicted = simulate(plan, costs).header["summary"]["ranks"][0]["peak_device_bytes"]
    measured = run.timeline.header["summary"]["ranks"][0]["peak_device_bytes"]
    assert abs(predicted / measured - 1) <= 0.005


def test_a_measured_timeline_is_in_order(big: tuple[ModelSpec, Costs]) -> None:
    spec, costs = big
    workload = workload_of(spec)
    plan = build_plan(workload, Policy(ranks=1, microbatches=4, horizon=2, pipeline="simple"))
    timeline = execute(plan, workload, spec, costs=costs, steps=6, device="cuda", check_gradients=False).timeline
    # Events tell times to half a microsecond.
    for op in plan:
        for edge in op.after:
            assert timeline.start_ns[op.index] >= timeline.end_ns[edge] - 2_000
    assert (timeline.end_ns >= timeline.start_ns).all()
    figures = timeline.header["allocator"]
    allocator = {"memory_allocated", "max_memory_allocated", "max_memory_reserved"}
    assert set(figures) == {"op", "requested", "max_requested"} | allocator
    assert timeline.header["bare_step_times_ns"]


def test_torchs_sanitizer_finds_no_race(tmp_path: Path) -> None:
    """torch watches every kernel's reads and writes for other streams' that are not ordered with them."""
    script = tmp_path / "sanitized.py"
    script.write_text(
        "from tests.gpu.test_cuda_gradients import plan_for, workload_of\n"
        "from tests.support.models import link_costs, tiny_spec\n"
        "from loadahead.executor.execute import execute\n"
        "spec = tiny_spec()\n"
        "workload = workload_of(spec)\n"
        "plan = plan_for(workload, horizon=2, pipeline='simple')\n"
        "execute(plan, workload, spec, costs=link_costs(workload), steps=4, device='cuda', check_gradients=False)\n"
    )
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"TORCH_CUDA_SANITIZER": "1", "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "CSAN" not in done.stderr
    assert "data race" not in done.stderr  # "race" alone is in "trace" and in "traceback" too
