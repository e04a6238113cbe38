"""The CUDA backend on the stand-in: what it asks of the device is in order, and every missing order is found.

Results are plain training's bit for bit. They would be so without streams being in order too: that they are is read
from the record.
"""

from __future__ import annotations

import gc
from functools import cache
from typing import Any

import pytest
import torch

from executor.backends import Backend
from executor.host_pool import HostPool
from executor.links import Links
from executor.operations import Operations
from executor.session import Session
from sim.ir.kinds import Kind, Queue
from sim.ir.plan import OpView, Plan
from sim.planner import HORIZON_UNITS, Policy, build_plan
from sim.workload import Workload
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_runs import FakeRun, NamedOperations
from tests.support.gpu_record import Alloc, Entry, HostWait, Launch, Wait
from tests.support.happens_before import Violation, violations
from tests.support.models import own_spec, tiny_spec, workload_of
from tests.support.order_graph import redundant, unordered

PIPELINES = ("simple", "interleaved")
SCALES = own_spec("scales", options={"acts": ("", "", "", "")})


@cache
def tiny_workload() -> Workload:
    return workload_of(tiny_spec())


@cache
def scales_workload() -> Workload:
    return workload_of(SCALES)


def plan_of(workload: Workload, **policy: Any) -> Plan:
    return build_plan(workload, Policy(**{"ranks": 1, "microbatches": 3, "horizon": 2} | policy))


def scales_run(plan: Plan, **settings: Any) -> FakeRun:
    return FakeRun(plan, SCALES, scales_workload(), **settings)


def check_steps(run: FakeRun, steps: int = 2, timed: bool = True) -> None:
    for step in range(steps):
        run.step(step, timed)
        assert [str(v) for v in violations(run.entries)] == []
        assert run.error(step) == 0.0


class TestSound:
    @pytest.mark.parametrize("seed", [None, 7])
    @pytest.mark.parametrize("horizon", range(1, 9))
    @pytest.mark.parametrize("unit", HORIZON_UNITS)
    @pytest.mark.parametrize("pipeline", PIPELINES)
    def test_every_horizon(self, pipeline: str, unit: str, horizon: int, seed: int | None) -> None:
        """``seed``: with random delays before every operation and dead memory filled with NaN."""
        plan = plan_of(tiny_workload(), pipeline=pipeline, horizon=horizon, horizon_unit=unit)
        check_steps(FakeRun(plan, tiny_spec(), tiny_workload(), delays=seed, poisoned=seed is not None))

    @pytest.mark.parametrize("poisoned", [False, True])
    @pytest.mark.parametrize(
        "policy",
        [
            {"release_window": 1, "horizon": 1},
            {"release_window": 2},
            {"release_window": 3, "horizon": 3},
            {"active_microbatches": 2, "pipeline": "simple"},
            {"checkpoint": False},
            {"offload": False},
            {"microbatches": 1},
            {"microbatches": 7, "horizon": 1, "horizon_unit": "layers"},
        ],
    )
    def test_other_policies(self, policy: dict[str, Any], poisoned: bool) -> None:
        check_steps(FakeRun(plan_of(tiny_workload(), **policy), tiny_spec(), tiny_workload(), poisoned=poisoned))

    @pytest.mark.parametrize("settings", [{"copies": 3}, {"paced": True}])
    @pytest.mark.parametrize("timed", [True, False])
    def test_settings_of_the_backend(self, settings: dict[str, Any], timed: bool) -> None:
        check_steps(scales_run(plan_of(scales_workload()), **settings), timed=timed)

    def test_odd_layers(self) -> None:
        """Views, aliases, expanded and turned outputs, a frozen layer."""
        spec = own_spec("mixed")
        workload = workload_of(spec)
        check_steps(FakeRun(plan_of(workload, horizon=1), spec, workload, poisoned=True))

    def test_memory_comes_from_the_compute_stream_and_goes_back(self) -> None:
        run = scales_run(plan_of(scales_workload()))
        levels = []
        for step in range(4):
            run.step(step)
            assert {entry.stream for entry in run.entries if isinstance(entry, Alloc)} == {"compute"}
            levels.append((run.fake.allocated(), run.fake.peak_reserved()))
        assert levels[1:] == levels[1:2] * 3  # the first step meets weights and gradients

    def test_copies_really_run_beside_the_computation(self) -> None:
        """Or else the checker would have nothing to find."""
        run = scales_run(plan_of(scales_workload()))
        run.step(0)
        streams = [entry.stream for entry in run.entries if isinstance(entry, Launch) and "pinned" in entry.name]
        assert {"d2h", "h2d"} == set(streams)

    def test_the_checker_agrees_with_the_graph_on_a_whole_step(self) -> None:
        run = scales_run(plan_of(scales_workload(), microbatches=2))
        run.fake.drop_waits = {0, 3, 5}
        run.step(0)
        found = {(v.other, v.at) for v in violations(run.entries) if v.rule == "race"}
        assert found == unordered(run.entries) != set()


# ---- faults ----


def cross_edges(plan: Plan) -> list[tuple[OpView, OpView]]:
    """Edges between queues, source first, in the order in which they are waited for."""
    ops = list(plan)
    return [(ops[edge], op) for op in ops for edge in op.after if ops[edge].queue != op.queue]


def waits_of(entries: list[Entry]) -> list[int]:
    return [at for at, entry in enumerate(entries) if isinstance(entry, Wait)]


# Every plan of these brings kinds of edges that the others lack.
FAULT_POLICIES: list[dict[str, Any]] = [
    {"pipeline": "simple", "microbatches": 3, "horizon": 1},
    {"pipeline": "interleaved", "microbatches": 6, "horizon": 2, "active_microbatches": 2},
    {"pipeline": "simple", "microbatches": 6, "horizon": 2, "active_microbatches": 2, "release_window": 2},
]  # fmt: skip
CAUGHT = {
    ("OFFLOAD", "RELEASE"),
    ("ACQUIRE", "PREFETCH"),
    ("PREFETCH", "RECOMPUTE"),
    ("FORWARD", "OFFLOAD"),
    ("PREFETCH", "OFFLOAD"),
}


def drop_each(plan: Plan) -> set[tuple[str, str]]:
    """Leave out one wait at a time: the kinds of edges that were found missing. Redundant ones must not be missed."""
    run = scales_run(plan)
    run.step(0)
    whole, edges = list(run.entries), cross_edges(plan)
    assert len(waits_of(whole)) == len(edges) > 0
    caught = set()
    for number, at in enumerate(waits_of(whole)):
        run.fake.drop_waits = {number}
        run.step(1 + number)
        found = bool(violations(run.entries))
        source, target = edges[number]
        assert found != redundant(whole, at), f"{source.name} -> {target.name}"
        if found:
            caught.add((source.kind.name, target.kind.name))
    return caught


class TestFaults:
    def test_every_wait_that_is_left_out_is_found(self) -> None:
        caught: set[tuple[str, str]] = set()
        for policy in FAULT_POLICIES:
            caught |= drop_each(plan_of(scales_workload(), **policy))
        assert caught >= CAUGHT
