"""The CPU backend on a clock of its own: figures by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from loadahead.executor.backends import BACKENDS, Link
from loadahead.executor.backends.cpu import CpuBackend
from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.planner import Policy, build_plan
from tests.support.plans import uniform_costs, uniform_workload
from tests.support.virtual_time import VirtualCpu, virtual_time, work_times

LINK = Link(bandwidth=1_000_000_000, latency_ns=5)  # a byte takes 1 ns
WORK_NS = (10, 20, 0, 40)


@pytest.fixture
def backend() -> Iterator[VirtualCpu]:
    made = VirtualCpu(WORK_NS)
    yield made
    made.close()


def step(backend: VirtualCpu, moved: int) -> None:
    """Operations 0 and 1 on queue 0; a copy, 2, on queue 1 after 0; 3 on queue 0 after 1 and the copy."""
    source, target = torch.ones(moved, dtype=torch.uint8), torch.zeros(moved, dtype=torch.uint8)
    works = {2: lambda: backend.copy(target, source, LINK)}
    backend.begin(4, {0, 2})
    for op, (queue, edges) in enumerate([(0, ()), (0, ()), (1, (0,)), (0, (2,))]):
        for edge in edges:
            backend.wait(queue, edge)
        backend.launch(queue, op, works.get(op, lambda: None))
        backend.record(queue, op)
    backend.end()
    assert torch.equal(source, target)


@pytest.mark.parametrize(("moved", "copied", "began"), [(100, 115, 115), (3, 18, 30)])
def test_operations_begin_when_their_queue_and_what_they_wait_for_have_ended(
    backend: VirtualCpu, moved: int, copied: int, began: int
) -> None:
    """The copy of 100 bytes takes 105 ns from 10 ns on; one of 3 bytes ends before operation 1 does."""
    for _ in range(2):  # a step knows nothing of the one before
        step(backend, moved)
        measured = backend.measured()
        assert measured.start_ns.tolist() == [0, 10, 10, began]
        assert measured.end_ns.tolist() == [10, 30, copied, began + 40]
        assert measured.step_time_ns == began + 40


def test_tasks_take_what_the_costs_say_and_all_else_nothing() -> None:
    unit = UnitCost(forward_ns=1, recompute_ns=2, backward_ns=4)
    costs = uniform_costs(2).model_copy(update={"units": ((unit,), (unit,)), "optimizer_ns": (8, 16)})
    plan = build_plan(uniform_workload(2), Policy(ranks=2, microbatches=4, horizon=1, pipeline="interleaved"))
    expected = {Kind.FORWARD: 1, Kind.RECOMPUTE: 2, Kind.BACKWARD: 4}
    for op, took in zip(plan, work_times(plan, costs), strict=True):
        assert took == (8 << op.rank if op.kind == Kind.OPTIMIZER_STEP else expected.get(op.kind, 0))


def test_unsteady_times_differ_by_no_more_than_was_asked() -> None:
    plan = build_plan(uniform_workload(2), Policy(ranks=2, microbatches=4, horizon=1, pipeline="interleaved"))
    costs = uniform_costs(2).model_copy(update={"optimizer_ns": (0, 0)})
    told, drawn = work_times(plan, costs), []
    for _ in range(2):
        with virtual_time(plan, costs, unsteady=0.1):
            made = BACKENDS["cpu"]()
            assert isinstance(made, VirtualCpu)
            drawn.append(list(made.work_ns))
            made.close()
    assert drawn[0] == drawn[1] != told
    assert all(abs(took - steady) <= 0.1 * steady for took, steady in zip(drawn[0], told, strict=True))


def test_it_stands_in_for_the_cpu_for_a_while() -> None:
    plan = build_plan(uniform_workload(1), Policy(ranks=1, microbatches=2, pipeline="simple"))
    costs: Costs = uniform_costs(1)
    with virtual_time(plan, costs.model_copy(update={"optimizer_ns": (0,)})):
        made = BACKENDS["cpu"]()
        assert isinstance(made, VirtualCpu)
        with pytest.raises(AssertionError, match="the times are of another plan"):
            made.begin(1, ())
        made.close()
    assert BACKENDS["cpu"] is CpuBackend
