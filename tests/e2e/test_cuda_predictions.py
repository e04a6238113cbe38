"""Calibrate, predict, run, all on a stand-in for a GPU whose every figure is known: predictions have to hold there.

The stand-in's clock works kernel by kernel, and knows nothing of plans, operations or costs.
"""

from __future__ import annotations

import weakref
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
import torch

from loadahead.executor.calibration import MICROBATCHES, calibrate
from loadahead.executor.execute import execute
from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.training.results import ExecutionResult
from loadahead.executor.training.step import BoundStep, Taken
from loadahead.sim.costs import CheckpointWay, Costs
from loadahead.sim.engines import simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.step_metrics import RankMetrics
from loadahead.sim.timeline import Timeline
from loadahead.sim.workload import Workload
from loadahead.validation.links import slowed
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_kernels import FakeGpu
from tests.support.models import HARDWARE, TINY, tiny_spec, workload_of
from tests.support.ways import checkpointed

MB = 1_000_000
GPUS = {
    "device-bound": FakeGpu(launch_ns=100, call_ns=50),
    "link-bound": FakeGpu(launch_ns=100, call_ns=50, d2h_bandwidth=200 * MB, h2d_bandwidth=140 * MB),
    "slow device, slow link": FakeGpu(
        launch_ns=100, call_ns=50, d2h_bandwidth=150 * MB, h2d_bandwidth=120 * MB, flop_rate=100_000 * MB
    ),
    "launch-bound": FakeGpu(launch_ns=4_000, call_ns=1_000),
    "launch-bound, slow link": FakeGpu(launch_ns=4_000, call_ns=1_000, d2h_bandwidth=60 * MB, h2d_bandwidth=40 * MB),
    "about as fast": FakeGpu(launch_ns=2_000, call_ns=300, kernel_ns=2_000),
}


@cache
def spec() -> ModelSpec:
    return tiny_spec(options=TINY | {"width": 64, "context": 32, "blocks": 3})


@cache
def workload() -> Workload:
    return workload_of(spec())


@cache
def costs_of(name: str) -> Costs:
    """Nothing is random there, so that one run tells all."""
    return calibration(GPUS[name], repeats=1, microbatches=5)


def calibration(gpu: FakeGpu, model: ModelSpec | None = None, **more: Any) -> Costs:
    own, sizes = model or spec(), (1 << 12, 1 << 16, 1 << 20)
    shapes = workload() if model is None else workload_of(model)
    return calibrate(shapes, own, hardware=HARDWARE, device="cuda", driver=FakeCuda(gpu), link_sizes=sizes, **more)


def plan_of(**policy: Any) -> Plan:
    return build_plan(workload(), Policy(**{"ranks": 1, "microbatches": 5, "pipeline": "simple"} | policy))


def run(plan: Plan, name: str, **more: Any) -> ExecutionResult:
    settings: dict[str, Any] = {"costs": costs_of(name), "steps": 4, "check_gradients": False} | more
    return execute(plan, workload(), spec(), device="cuda", driver=FakeCuda(GPUS[name]), **settings)


@cache
def ran(name: str, **policy: Any) -> ExecutionResult:
    """A run of the plan of a policy; nothing is random there, so that one tells all."""
    return run(plan_of(**policy), name)


def rank(timeline: Timeline) -> RankMetrics:
    return timeline.metrics.ranks[0]


@pytest.mark.parametrize(("pipeline", "horizon"), [("simple", 1), ("interleaved", 1), ("interleaved", 4)])
@pytest.mark.parametrize("name", GPUS)
def test_step_time_and_memory_are_as_predicted(name: str, pipeline: str, horizon: int) -> None:
    plan = plan_of(pipeline=pipeline, horizon=horizon)
    done, predicted = ran(name, pipeline=pipeline, horizon=horizon), simulate(plan, costs_of(name))
    assert rank(predicted).peak_device_bytes == rank(done.timeline).peak_device_bytes
    assert len(set(done.bare_step_times_ns)) == 1  # nothing is random there
    assert predicted.step_time_ns == pytest.approx(done.bare_step_times_ns[0], rel=0.01)


@pytest.mark.parametrize("policy", [{"horizon": 1}, {"horizon": 2, "release_window": 3}])
@pytest.mark.parametrize("name", ["device-bound", "link-bound", "slow device, slow link"])
def test_each_stall_is_as_predicted(name: str, policy: dict[str, Any]) -> None:
    """The device's own time is known to the ns; the host's calls between operations are what is left."""
    plan, done = plan_of(**policy), ran(name, **{"pipeline": "simple"} | policy)
    measured, predicted = rank(done.timeline), rank(simulate(plan, costs_of(name)))
    for figure in ("stall_release_ns", "stall_prefetch_ns", "copy_ns", "compute_ns"):
        assert getattr(predicted, figure) == pytest.approx(getattr(measured, figure), rel=0.01, abs=2_000), figure


@pytest.mark.parametrize("name", ["link-bound", "launch-bound, slow link"])
def test_horizons_and_windows_are_ranked_as_measured(name: str) -> None:
    """And there are differences to rank."""
    times = []
    policies: list[dict[str, int]] = [
        {"horizon": 1},
        {"horizon": 3},
        {"horizon": 1, "release_window": 3},
        {"horizon": 3, "microbatches": 3},
    ]
    for policy in policies:
        plan, done = plan_of(pipeline="interleaved", **policy), ran(name, pipeline="interleaved", **policy)
        times.append((simulate(plan, costs_of(name)).step_time_ns, done.bare_step_times_ns[0]))
    assert np.argsort([a for a, _ in times]).tolist() == np.argsort([b for _, b in times]).tolist()
    assert max(b for _, b in times) > 1.05 * min(b for _, b in times)


def test_copies_made_several_times_stand_for_a_slower_link() -> None:
    plan, name, copies = plan_of(horizon=1), "device-bound", 40
    slower = slowed(costs_of(name), copies)
    done = run(plan, name, costs=slower, copies=copies)
    assert simulate(plan, slower).step_time_ns == pytest.approx(done.bare_step_times_ns[0], rel=0.01)
    assert rank(done.timeline).copy_ns > 20 * rank(ran(name, pipeline="simple", horizon=1).timeline).copy_ns


# ---- what the calibration finds ----


def test_the_devices_times_do_not_depend_on_the_host() -> None:
    """However slow the host: what the device takes is found while it is held back."""
    for way in get_args(CheckpointWay):
        assert checkpointed(costs_of("device-bound"), way).units == checkpointed(costs_of("launch-bound"), way).units
    slow = {name: evidence["median_ns"] for name, evidence in costs_of("launch-bound").evidence["issue"].items()}
    quick = {name: evidence["median_ns"] for name, evidence in costs_of("device-bound").evidence["issue"].items()}
    assert all(slow[name] > 5 * quick[name] for name in slow)


def test_both_ways_are_in_the_costs_and_the_quicker_one_in_front() -> None:
    """The stand-in's device takes longer the lean way, and its host has fewer operators to issue in a block."""
    ways = get_args(CheckpointWay)
    bound, waiting = costs_of("device-bound").units[0], costs_of("launch-bound").units[0]
    assert [unit.way for unit in bound] == ["sparing"] * len(bound)
    assert [unit.way for unit in waiting[1:]] == ["lean"] * len(waiting[1:])
    for name in GPUS:
        for sparing, lean in zip(*(checkpointed(costs_of(name), way).units[0] for way in ways), strict=True):
            assert {sparing.way, lean.way} == set(ways)
            assert sparing.recompute_ns <= lean.recompute_ns
            assert sparing.forward_ns == lean.forward_ns


def test_a_forward_takes_what_its_kernels_take() -> None:
    from loadahead.executor.tensors.values import Value
    from loadahead.executor.training.session import Session

    gpu = FakeGpu(launch_ns=0, call_ns=0)
    fake = FakeCuda(gpu)
    session = Session(spec(), workload(), (0,))
    ids = session.batches(0, 1)[0][0]
    fake.adopt([ids])
    with fake.using(fake.stream(Queue.COMPUTE)):
        before = fake.stream(Queue.COMPUTE).tail_ns
        x = session.in_units.units[0, 0].forward(0, Value((ids,)), 1, None).value
        first = fake.stream(Queue.COMPUTE).tail_ns
        session.in_units.units[0, 1].forward(0, x, 1, None)
        second = fake.stream(Queue.COMPUTE).tail_ns
    units = costs_of("device-bound").units[0]
    copied_in = gpu.kernel_ns + 2 * ids.numel() * ids.element_size() * 1_000_000_000 // gpu.memory_bandwidth
    assert units[0].forward_ns == pytest.approx(first - before + copied_in, abs=200)
    assert units[1].forward_ns == pytest.approx(second - first, abs=200)


def test_links_and_memory_are_the_devices() -> None:
    gpu, costs = GPUS["link-bound"], costs_of("link-bound")
    assert costs.d2h_bandwidth == pytest.approx(gpu.d2h_bandwidth, rel=1e-3)
    assert costs.h2d_bandwidth == pytest.approx(gpu.h2d_bandwidth, rel=1e-3)
    assert costs.d2h_latency_ns == pytest.approx(gpu.d2h_latency_ns, abs=50)
    assert costs.h2d_latency_ns == pytest.approx(gpu.h2d_latency_ns, abs=50)
    assert costs.memory_bytes == gpu.memory_bytes - gpu.taken_bytes
    assert costs.evidence["machine"]["gpu_memory_bytes"] == gpu.memory_bytes
    assert costs.shared is None


def test_every_figure_says_how_often_it_was_seen_and_its_spread() -> None:
    evidence = calibration(GPUS["launch-bound"]).evidence
    kinds = {Kind.FORWARD, Kind.RECOMPUTE, Kind.BACKWARD, Kind.OFFLOAD, Kind.PREFETCH, Kind.RELEASE, Kind.ACQUIRE}
    assert {kind.name for kind in kinds | {Kind.OPTIMIZER_STEP}} == set(evidence["issue"])
    for figure in [*evidence["operations"].values(), *evidence["issue"].values(), *evidence["latencies"].values()]:
        assert figure["count"] >= 3
        assert figure["spread"] >= 0.0
    for direction in ("d2h", "h2d"):
        found = evidence["links"][direction]
        assert {"pinned", "pageable", "both_at_once", "while_computing"} == set(found)
        assert all(point["count"] > 1 for point in found["pinned"]["points"])
        assert found["while_computing"] == pytest.approx({"keeps": 1.0, "compute_keeps": 1.0}, abs=0.01)
    assert evidence["machine"]["gpu"]
    assert evidence["deterministic"] is True


def test_a_steps_data_counts_for_its_microbatches() -> None:
    fewer = calibration(FakeGpu(), tiny_spec(), repeats=1)
    more = calibration(FakeGpu(), tiny_spec(), repeats=1, microbatches=MICROBATCHES + 3)
    ids_and_targets = 2 * TINY["batch"] * TINY["context"] * 8  # type: ignore[operator]
    assert more.static_bytes[0] - fewer.static_bytes[0] == 3 * ids_and_targets


# ---- what a run says of itself ----


def test_a_measured_timeline_holds_the_allocators_figures_and_what_measuring_costs() -> None:
    plan = plan_of(horizon=2)
    done = run(plan, "launch-bound")
    header = done.timeline.header
    figures = header["allocator"]
    computes = np.flatnonzero(plan.ops.queue == Queue.COMPUTE).tolist()
    assert figures["op"] == computes
    assert max(figures["max_requested"]) == rank(done.timeline).peak_device_bytes
    assert all(a <= b for a, b in zip(figures["requested"], figures["max_requested"], strict=True))
    assert all(a <= b for a, b in zip(figures["requested"], figures["memory_allocated"], strict=True))
    assert all(a <= b for a, b in zip(figures["memory_allocated"], figures["max_memory_allocated"], strict=True))
    assert all(a <= b for a, b in zip(figures["max_memory_allocated"], figures["max_memory_reserved"], strict=True))
    assert header["bare_step_times_ns"] == done.bare_step_times_ns
    # Two events per operation, and the host is the limit.
    assert 0 < done.step_times_ns[0] - done.bare_step_times_ns[0] <= 2 * len(plan) * GPUS["launch-bound"].call_ns
    assert len(header["issue_ns"]) == len(plan)
    assert done.timeline.source == "cuda"


def test_the_oracle_beside_it_does_not_count_as_the_runs_memory() -> None:
    plan = plan_of(horizon=2)
    alone, checked = run(plan, "device-bound"), run(plan, "device-bound", check_gradients=True)
    assert checked.max_grad_error == 0.0
    assert rank(alone.timeline).peak_device_bytes == rank(checked.timeline).peak_device_bytes


def test_a_step_does_not_hold_what_an_earlier_one_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its losses are on the device, and the allocator would count them."""
    earlier: list[weakref.ref[torch.Tensor]] = []
    original = BoundStep.run

    def watched(self: BoundStep, *args: Any, **more: Any) -> Taken:
        assert [found() for found in earlier] == [None] * len(earlier)
        taken = original(self, *args, **more)
        earlier.append(weakref.ref(taken.values))
        return taken

    monkeypatch.setattr(BoundStep, "run", watched)
    run(plan_of(horizon=2), "device-bound")
    assert len(earlier) >= 4


def test_where_pinning_fails_it_says_so_and_still_trains() -> None:
    fake = FakeCuda(GPUS["device-bound"])
    fake.pinnable = False
    plan = plan_of(horizon=2)
    done = execute(plan, workload(), spec(), costs=costs_of("device-bound"), steps=4, device="cuda", driver=fake)
    assert done.max_grad_error == 0.0
    assert any("could not be pinned" in warning and "ulimit -l" in warning for warning in done.warnings)


def test_too_few_steps_are_one_line() -> None:
    with pytest.raises(InputError, match="steps is 2; at least 3 are needed on cuda, as the first 2 are not timed"):
        run(plan_of(), "device-bound", steps=2)


def test_two_ranks_are_one_line() -> None:
    wide = Workload(stages=(workload().stages[0][:3], workload().stages[0][3:]))
    plan = build_plan(wide, Policy(ranks=2, microbatches=4, horizon=2))
    with pytest.raises(InputError, match=r"has 2 ranks; one run on cuda holds 1"):
        execute(plan, wide, spec(), costs=costs_of("device-bound"), device="cuda", driver=FakeCuda())
