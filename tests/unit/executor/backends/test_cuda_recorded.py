"""The CUDA backend on the stand-in: what it asks of the device is in order, and every missing order is found.

Results are plain training's bit for bit. They would be so without streams being in order too: that they are is read
from the record.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import OpView, Plan
from loadahead.sim.planner import HORIZON_UNITS, Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_runs import EveryWait, FakeRun, NamedOperations
from tests.support.gpu_record import Alloc, Entry, Free, Launch, Wait
from tests.support.happens_before import Violation, overwritten, violations
from tests.support.models import own_spec, tiny_spec, workload_of
from tests.support.order_graph import needed, unordered

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
        assert [str(v) for v in (*violations(run.entries), *overwritten(run.entries))] == []
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

    @pytest.mark.parametrize("settings", [{"copies": 3}, {"held_ns": [50_000] * 1000}, {"paced": True}])
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

EdgeKind = tuple[Kind, Kind]
OFFLOAD_PREFETCH, PREFETCH_OFFLOAD = (Kind.OFFLOAD, Kind.PREFETCH), (Kind.PREFETCH, Kind.OFFLOAD)


def cross_edges(plan: Plan) -> list[tuple[OpView, OpView]]:
    """Edges between queues, source first, in the order in which they stand in the plan."""
    ops = list(plan)
    return [(ops[edge], op) for op in ops for edge in op.after if ops[edge].queue != op.queue]


def waits_of(entries: list[Entry]) -> list[int]:
    return [at for at, entry in enumerate(entries) if isinstance(entry, Wait)]


FAULT_POLICIES: list[dict[str, Any]] = [
    {"pipeline": "simple", "microbatches": 3, "horizon": 1},
    {"pipeline": "interleaved", "microbatches": 4, "horizon": 2},
    {"pipeline": "simple", "microbatches": 4, "horizon": 2, "active_microbatches": 2, "release_window": 2},
]
CAUGHT: set[EdgeKind] = {
    (Kind.OFFLOAD, Kind.RELEASE),
    (Kind.ACQUIRE, Kind.PREFETCH),
    (Kind.PREFETCH, Kind.RECOMPUTE),
    (Kind.FORWARD, Kind.OFFLOAD),
}


def drop_each(plan: Plan) -> set[EdgeKind]:
    """Leave out one wait at a time: the kinds of edges that were found missing. All must be found that are needed."""
    run = scales_run(plan)
    run.step(0)
    views = run.operations.views
    edges = [(views[edge], op) for op in views for edge in run.operations.waits[op.index]]
    waits, must = waits_of(run.entries), needed(run.entries)
    assert len(waits) == len(edges) > 0
    caught = set()
    for number, at in enumerate(waits):
        run.fake.drop_waits = {number}
        run.step(0)
        found = bool(violations(run.entries))
        source, target = edges[number]
        assert found == (at in must), f"{source.name} -> {target.name}"
        if found:
            caught.add((source.kind, target.kind))
    return caught


def host_races(plan: Plan, keep: set[EdgeKind]) -> list[Violation]:
    """Races over host memory of a step in which no queue waits for another but for these kinds of edges."""
    run = scales_run(plan, operations=EveryWait)
    edges = [(source.kind, target.kind) for source, target in cross_edges(plan)]
    assert keep <= set(edges)
    run.fake.drop_waits = {number for number, edge in enumerate(edges) if edge not in keep}
    run.step(0)
    return [found for found in violations(run.entries) if "host slab" in found.message]


class Emptied(NamedOperations):
    """Gives the memory of an OFFLOAD's source back as soon as the copy is asked for."""

    def run(self, op: OpView) -> None:
        super().run(op)
        if op.kind == Kind.OFFLOAD:
            del self.state.values[op.reads[0]]


class TestFaults:
    def test_every_wait_that_is_left_out_is_found(self) -> None:
        caught: set[EdgeKind] = set()
        for policy in FAULT_POLICIES:
            caught |= drop_each(plan_of(scales_workload(), **policy))
        assert caught == CAUGHT

    def test_a_slot_is_read_after_it_is_written(self) -> None:
        """No single wait does that alone: RELEASE and ACQUIRE stand between as well."""
        plan = plan_of(scales_workload(), pipeline="simple", horizon=1)
        assert host_races(plan, {OFFLOAD_PREFETCH}) == []
        assert host_races(plan, set())

    def test_a_slot_is_written_again_after_it_is_read(self) -> None:
        """No single wait does that alone: a slot is used again only after the BACKWARD that needed what it held."""
        plan = plan_of(scales_workload(), pipeline="interleaved", microbatches=6, horizon=2, active_microbatches=2)
        assert host_races(plan, {OFFLOAD_PREFETCH, PREFETCH_OFFLOAD}) == []
        assert host_races(plan, {OFFLOAD_PREFETCH})

    def test_memory_that_is_given_back_while_it_is_copied(self) -> None:
        run = scales_run(plan_of(scales_workload(), horizon=1), operations=Emptied)
        run.step(0)
        found = [v for v in violations(run.entries) if isinstance(run.entries[v.at], Free)]
        assert found and "copy device to pinned on stream d2h" in str(found[0])

    def test_a_slot_that_two_microbatches_share(self) -> None:
        """All copies are in order, and one of them finds the other's data."""
        run = scales_run(plan_of(scales_workload(), pipeline="simple"))
        host = run.operations.host
        host.slots[max(host.slots)] = host.slots[min(host.slots)]
        host._tensors.clear()
        run.step(0)
        assert violations(run.entries) == []
        assert overwritten(run.entries)
        assert run.error(0) > 0

    @pytest.mark.parametrize("timed", [True, False])
    def test_a_step_after_one_that_failed(self, timed: bool) -> None:
        run = scales_run(plan_of(scales_workload()))
        layer: Any = run.session.model.module[2]
        layer.act = "fails later"
        layer.calls = 3  # RECOMPUTEs do not count, so the last of three FORWARDs fails
        with pytest.raises(InputError, match="no more"):
            run.step(0, timed)
        assert any(isinstance(entry, Free) for entry in run.entries)
        assert violations(run.entries) == []  # what copies were still at was given back once they had ended
        layer.act = ""
        check_steps(run, timed=timed)

    @pytest.mark.parametrize("poisoned", [False, True])
    def test_without_pinned_memory(self, poisoned: bool) -> None:
        fake = FakeCuda()
        fake.pinnable = False
        run = scales_run(plan_of(scales_workload()), fake=fake, poisoned=poisoned)
        (warning,) = run.backend.warnings
        assert "could not be pinned" in warning
        for step in range(2):
            run.step(step)
            assert {v.rule for v in violations(run.entries)} == {"host wait"}
            assert run.error(step) == 0.0
