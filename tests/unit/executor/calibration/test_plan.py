"""The calibration's plan is a proven one, holds every operation to be measured, and runs one rank at a time."""

from __future__ import annotations

import pytest

from loadahead.executor.calibration.plan import calibration_plan
from loadahead.sim.ir.kinds import RECV_KINDS, Kind, Queue, Role
from loadahead.sim.ir.plan import Plan
from loadahead.sim.verify import verify
from loadahead.sim.workload import UnitShape, Workload


def workload(*units: int) -> Workload:
    unit = UnitShape(boundary_bytes=8, gradient_bytes=8, saved_bytes=16)
    return Workload(stages=tuple((unit,) * count for count in units))


CASES = [(1,), (4,), (2, 3), (1, 1, 1), (2, 1, 2, 1)]


@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize("units", CASES)
def test_the_verifier_accepts_it(units: tuple[int, ...], checkpoint: bool) -> None:
    plan = calibration_plan(workload(*units), 3, checkpoint)
    assert verify(plan) == []
    kinds = plan.ops.kind.tolist()
    assert kinds.count(Kind.FORWARD) == kinds.count(Kind.BACKWARD) == 3 * sum(units)
    assert kinds.count(Kind.RECOMPUTE) == kinds.count(Kind.OFFLOAD) == (3 * sum(units) if checkpoint else 0)
    assert kinds.count(Kind.OPTIMIZER_STEP) == len(units)
    assert plan.stage_rank.tolist() == list(range(len(units)))


@pytest.mark.parametrize("checkpoint", [True, False])
def test_transfers_land_in_memory_that_is_taken_before(checkpoint: bool) -> None:
    plan = calibration_plan(workload(2, 1, 2), 3, checkpoint)
    receives = [op for op in plan if op.kind in RECV_KINDS]
    assert len(receives) == 3 * 2 * 2
    for op in receives:
        (sent,) = op.after
        task, taken = (plan.op(edge) for edge in plan.op(sent).after)
        assert task.kind in (Kind.FORWARD, Kind.BACKWARD)
        assert taken.kind == Kind.ACQUIRE and taken.allocs == op.writes and taken.after == ()


@pytest.mark.parametrize("nbytes", [0, 16])
def test_without_checkpointing_every_forward_keeps_a_workspace(nbytes: int) -> None:
    unit = UnitShape(boundary_bytes=8, gradient_bytes=8, saved_bytes=nbytes)
    plan = calibration_plan(Workload(stages=((unit, unit), (unit,))), 2, False)
    assert verify(plan) == []
    for op in plan:
        if op.kind in (Kind.FORWARD, Kind.BACKWARD):
            kept = [i for i in (op.writes if op.kind == Kind.FORWARD else op.reads) if is_workspace(plan, i)]
            assert [plan.buffer(i).nbytes for i in kept] == [nbytes]


def is_workspace(plan: Plan, buffer: int) -> bool:
    return plan.buffer(buffer).role == Role.WORKSPACE


@pytest.mark.parametrize("units", CASES)
def test_no_two_tasks_run_at_once(units: tuple[int, ...]) -> None:
    plan = calibration_plan(workload(*units), 2, True)
    tasks = [op for op in plan if op.queue == Queue.COMPUTE and op.kind not in (Kind.ACQUIRE, Kind.RELEASE)]
    for before, after in zip(tasks, tasks[1:], strict=False):
        assert ends_before(plan, before.index, after.index)


def ends_before(plan: Plan, first: int, second: int) -> bool:
    """Whether ``second`` can only start when ``first`` has ended."""
    waiting, seen = [second], set()
    while waiting:
        op = waiting.pop()
        if op == first:
            return True
        if op not in seen and op > first:
            seen.add(op)
            waiting += [int(plan.previous_in_queue[op]), *plan.ops.after[op].tolist()]
    return False
