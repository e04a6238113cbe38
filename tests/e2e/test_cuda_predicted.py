"""Calibrate, predict and run on the stand-in for CUDA: time within 3 %, peak memory to the byte.

The stand-in's figures are its own; calibration has to find them from outside, through the backend.
"""

from __future__ import annotations

from functools import cache

import pytest

from executor.calibration.run import calibrate
from executor.execute import ExecutionResult, execute
from sim.costs import Costs
from sim.engines.simulate import simulate
from sim.ir.kinds import Queue
from sim.ir.plan import Plan
from sim.planner import Policy, build_plan
from sim.workload import Workload
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_kernels import FakeGpu
from tests.support.models import HARDWARE, TINY, link_costs, tiny_spec, workload_of

# Boundaries of whole multiples of the allocator's 512 bytes: a plan counts bytes, not what they are rounded up to.
SPEC = tiny_spec(options=TINY | {"batch": 8})
GPUS = {
    "the host is behind": FakeGpu(kernel_ns=1_000),
    "the device is behind": FakeGpu(kernel_ns=20_000),
    "the link is behind": FakeGpu(kernel_ns=20_000, d2h_bandwidth=4_000_000, h2d_bandwidth=3_000_000),
}
MOST_OFF = 0.03


@cache
def workload() -> Workload:
    return workload_of(SPEC)


@cache
def calibrated(gpu: FakeGpu) -> Costs:
    fake = FakeCuda(gpu)
    with fake.using(fake.stream(Queue.COMPUTE)):
        return calibrate(workload(), SPEC, hardware=HARDWARE, device="cuda", repeats=4, driver=fake)


def run(plan: Plan, gpu: FakeGpu) -> ExecutionResult:
    fake = FakeCuda(gpu)
    with fake.using(fake.stream(Queue.COMPUTE)):
        return execute(
            plan, workload(), SPEC, costs=link_costs(workload()), steps=4, device="cuda", driver=fake
        )


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("pipeline", ["simple", "interleaved"])
@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS)
def test_time_and_memory_are_as_predicted(gpu: FakeGpu, pipeline: str, horizon: int) -> None:
    plan = build_plan(workload(), Policy(ranks=1, microbatches=4, horizon=horizon, pipeline=pipeline))
    predicted = simulate(plan, calibrated(gpu)).header["summary"]
    result = run(plan, gpu)
    measured = result.timeline.header["summary"]
    assert measured["step_time_ns"] == pytest.approx(predicted["step_time_ns"], rel=MOST_OFF)
    for peak in ("peak_device_bytes", "peak_boundary_bytes", "peak_host_bytes"):
        assert measured["ranks"][0][peak] == predicted["ranks"][0][peak]
    assert result.max_grad_error == 0.0


def test_calibration_finds_the_link() -> None:
    """Within 1 %: one latency and one bandwidth are fitted to copies whose times are whole ns."""
    gpu = GPUS["the link is behind"]
    found = calibrated(gpu)
    assert found.d2h_bandwidth == pytest.approx(gpu.d2h_bandwidth, rel=0.01)
    assert found.h2d_bandwidth == pytest.approx(gpu.h2d_bandwidth, rel=0.01)
    assert found.memory_bytes == gpu.memory_bytes


def test_a_slow_link_slows_the_step_and_the_prediction_alike() -> None:
    """Or else the agreement above would say nothing about copies."""
    plan = build_plan(workload(), Policy(ranks=1, microbatches=4, horizon=1, pipeline="simple"))
    fast, slow = GPUS["the device is behind"], GPUS["the link is behind"]
    times = [run(plan, gpu).step_times_ns[0] for gpu in (fast, slow)]
    forecasts = [simulate(plan, calibrated(gpu)).header["summary"]["step_time_ns"] for gpu in (fast, slow)]
    assert times[1] > 1.1 * times[0] and forecasts[1] > 1.1 * forecasts[0]
