"""Which streams the CUDA backend makes current, when it makes its events, and steps that no one waits between."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

import numpy as np
import pytest

from loadahead.executor.backends.base import Measured
from loadahead.executor.backends.cuda import CudaBackend
from loadahead.executor.links import Links
from loadahead.executor.replay.operations import Operations
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.fake_cuda import FakeCuda, FakeEvent, FakeStream
from tests.support.fake_runs import EveryWait, FakeRun, NamedOperations
from tests.support.gpu_record import HostWait, Launch, Record, Sync, Wait
from tests.support.happens_before import overwritten, violations
from tests.support.models import HARDWARE, own_spec, workload_of
from tests.support.order_graph import before

SCALES = own_spec("scales", options={"acts": ("", "", "", "")})
COPIES = (Queue.D2H, Queue.H2D)


@cache
def workload() -> Workload:
    return workload_of(SCALES)


def plan_of(**policy: Any) -> Plan:
    return build_plan(workload(), Policy(**{"ranks": 1, "microbatches": 3, "horizon": 2} | policy))


def fake_run(plan: Plan, **settings: Any) -> FakeRun:
    return FakeRun(plan, SCALES, workload(), **settings)


class TestCurrentStream:
    @pytest.mark.parametrize("timed", [True, False])
    def test_it_changes_for_the_step_and_for_each_copy_and_no_more(self, timed: bool) -> None:
        plan = plan_of()
        run = fake_run(plan)
        before_step = run.fake.switches
        run.step(0, timed)
        copies = int(np.isin(plan.ops.queue, COPIES).sum())
        assert copies > 0
        assert run.fake.switches - before_step == 2 + 2 * copies

    def test_operators_are_on_the_record_from_the_beginning_of_a_step_to_its_end(self) -> None:
        run = fake_run(plan_of())
        for alone in (True, False):
            run.backend.begin(0, (), alone=alone)
            assert run.fake.inside
            run.backend.end()
            assert not run.fake.inside

    @pytest.mark.parametrize("timed", [True, False])
    def test_it_is_given_back_after_a_failure(self, timed: bool) -> None:
        run = fake_run(plan_of())
        layer: Any = run.session.model.module[2]
        layer.act, layer.calls = "fails later", 3
        with pytest.raises(InputError, match="no more"):
            run.step(0, timed)
        assert not run.fake.inside
        run.backend.begin(1, ())
        run.backend.close()
        assert not run.fake.inside

    def test_a_copy_that_fails_leaves_the_compute_stream_current(self) -> None:
        run = fake_run(plan_of())

        def fails() -> None:
            raise ValueError("broken")

        run.backend.begin(1, ())
        with pytest.raises(ValueError, match="broken"):
            run.backend.launch(Queue.D2H, 0, fails)
        compute = run.fake.stream(Queue.COMPUTE)
        assert run.fake.enter(run.fake.stream(Queue.H2D)) is compute
        run.fake.leave(compute)
        run.backend.close()  # or the stand-in would go on watching

    def test_the_callers_own_stream_comes_before_and_after(self) -> None:
        fake = FakeCuda()
        fake.caller = FakeStream("callers")
        run = fake_run(plan_of(), fake=fake)
        fake.entries.clear()
        for alone in (True, False):
            with fake.using(fake.caller):
                fake._log(Launch("callers", "before"))
            run.backend.begin(1, (), alone=alone)
            run.backend.launch(Queue.COMPUTE, 0, lambda: fake._log(Launch("compute", "inside")))
            run.backend.record(Queue.COMPUTE, 0)
            run.backend.end()
            fake._log(Launch("callers", "after"))
        at = {name: [i for i, e in enumerate(fake.entries) if isinstance(e, Launch) and e.name == name] for name in
              ("before", "inside", "after")}  # fmt: skip
        behind = before(fake.entries)
        for first, inside, last in zip(at["before"], at["inside"], at["after"], strict=True):
            assert behind[inside] >> first & 1
            assert behind[last] >> inside & 1

    def test_a_whole_step_from_another_stream(self) -> None:
        fake = FakeCuda()
        fake.caller = FakeStream("callers")
        run = fake_run(plan_of(), fake=fake)
        for step in range(2):
            run.step(step)
            assert [str(v) for v in violations(run.entries)] == []
            assert run.error(step) == 0.0
            ends = [entry for entry in run.entries if isinstance(entry, Wait) and entry.stream == "callers"]
            assert len(ends) == 1

    def test_where_the_caller_is_on_the_compute_stream_nothing_is_handed_over(self) -> None:
        run = fake_run(plan_of(offload=False))
        run.step(0)
        assert not any(isinstance(entry, Wait) for entry in run.entries)


class Remembering(FakeCuda):
    """Notes where in the record an event was recorded that never was before, and all that were recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.first: list[int] = []

    def record(self, event: FakeEvent, stream: FakeStream) -> None:
        if event.at_ns is None:
            self.first.append(len(self.entries))
        super().record(event, stream)


@pytest.mark.parametrize("order", [(True, False, True), (False, True, False)])
def test_no_event_is_made_on_the_clock(order: tuple[bool, ...]) -> None:
    """torch makes a CUDA event when it is recorded first."""
    fake = Remembering()
    small, large = fake_run(plan_of(microbatches=2), fake=fake), fake_run(plan_of(microbatches=4), fake=fake)
    large.operations.backend = large.backend = small.operations.backend = small.backend
    border = small.backend._borders[0].number
    made = 0
    for run, timed in zip((small, small, large), order, strict=True):
        fake.first.clear()
        run.step(0, timed)
        (began,) = [at for at, e in enumerate(run.entries) if isinstance(e, Record) and e.event == border]
        assert [at for at in fake.first if at >= began] == []
        assert sum(isinstance(entry, Record) for entry in run.entries[began:]) > len(COPIES)
        made += len(fake.first)
    assert made > 0


class Hurried(CudaBackend):
    """Never waits for the device: neither before a step nor after it."""

    def begin(self, operations: int, awaited: Collection[int], *, timed: bool = True, alone: bool = True) -> None:
        super().begin(operations, awaited, timed=timed, alone=False)

    def measured(self) -> Measured:
        return Measured.of(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


POLICIES: list[dict[str, Any]] = [
    {"pipeline": "simple", "horizon": 1},
    {"pipeline": "interleaved", "horizon": 2},
    {"pipeline": "interleaved", "microbatches": 6, "horizon": 2, "active_microbatches": 2},
    {"pipeline": "simple", "microbatches": 4, "horizon": 3, "release_window": 3},
]


def hurried(plan: Plan, operations: type[Operations] = NamedOperations, **settings: Any) -> FakeRun:
    run = fake_run(plan, **settings)
    run.backend = Hurried(driver=run.fake, **settings)
    run.operations = operations(plan, run.session.in_units, run.session, run.backend, Links.of(HARDWARE))
    return run


def steps_of(run: FakeRun, timed: bool, steps: int = 3) -> list[Any]:
    """The record of several steps, as one."""
    entries = []
    for step in range(steps):
        run.step(step, timed)
        assert run.error(step) == 0.0
        entries += run.entries
    return entries


class TestStepsThatNoOneWaitsBetween:
    @pytest.mark.parametrize("poisoned", [False, True])
    @pytest.mark.parametrize("timed", [True, False])
    @pytest.mark.parametrize("policy", POLICIES)
    def test_they_are_in_order(self, policy: dict[str, Any], timed: bool, poisoned: bool) -> None:
        run = hurried(plan_of(**policy), poisoned=poisoned)
        entries = steps_of(run, timed)
        assert not any(isinstance(entry, Sync | HostWait) for entry in entries)
        assert [str(v) for v in (*violations(entries), *overwritten(entries))] == []

    def test_the_device_is_still_at_the_step_before(self) -> None:
        """Or else there would be nothing to show."""
        run = hurried(plan_of())
        run.fake.gpu = type(run.fake.gpu)(kernel_ns=1_000_000)
        run.step(0, False)
        assert run.fake.stream(Queue.COMPUTE).tail_ns > run.fake.host_ns()

    def test_a_slot_filled_too_early_would_be_found(self) -> None:
        """Without waits for FORWARDs and PREFETCHes, the next step's OFFLOADs meet what the last one still reads."""
        plan = plan_of(pipeline="simple", horizon=1)
        run, ops = hurried(plan, operations=EveryWait), list(plan)
        kept = (Kind.OFFLOAD, Kind.PREFETCH)
        edges = [(ops[edge].kind, op.kind) for op in ops for edge in op.after if ops[edge].queue != op.queue]
        dropped = [number for number, edge in enumerate(edges) if edge != kept]
        # No one waits for the device, so that the stand-in counts on from step to step.
        run.fake.synchronize()
        run.fake.drop_waits = {number + len(edges) * step for step in range(2) for number in dropped}
        first, second = steps_of(run, True, 1), steps_of(run, True, 1)
        found = [v for v in violations(first + second) if "host slab" in v.message]
        assert found and all(v.other is not None and v.other < len(first) <= v.at for v in found)

    def test_times_are_those_of_the_step_that_ended_last(self) -> None:
        """And the host waits for them only when they are asked for."""
        run = fake_run(plan_of())
        alone = run.step(0).measured
        lengths = []
        for nanoseconds in (50_000_000, 70_000_000):
            run.backend.begin(1, (), timed=False, alone=False)
            run.backend.launch(Queue.COMPUTE, 0, lambda ns=nanoseconds: run.fake.spin(ns))  # type: ignore[misc]
            run.backend.record(Queue.COMPUTE, 0)
            run.backend.end()
            assert run.fake.host_ns() < 50_000_000
            lengths.append(nanoseconds)
        measured = run.backend.measured()
        assert run.fake.host_ns() > sum(lengths)
        assert measured.step_time_ns == pytest.approx(lengths[-1], abs=100_000)
        assert len(alone.start_ns) == len(run.operations.views)
