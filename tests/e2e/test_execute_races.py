"""A missing wait is noticed when the verifier is bypassed, and refused when it is not."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from loadahead.executor.backends.cpu import CpuBackend
from loadahead.executor.execute import execute
from loadahead.executor.operations import Operations
from loadahead.sim.errors import CheckFailed, LoadaheadError
from loadahead.sim.ir.kinds import COPY_KINDS, Kind
from loadahead.sim.ir.plan import OpView, Plan
from loadahead.sim.planner import Policy, build_plan
from tests.support.edits import with_column, without_entry
from tests.support.models import GB, link_costs, own_spec, workload_of

SPEC = own_spec("sines")
WORKLOAD = workload_of(SPEC)
# 64 bytes take 6 ms: longer than any delay, so that whatever waits does wait.
SLOW = link_costs(WORKLOAD, d2h_latency_ns=6_000_000, h2d_latency_ns=6_000_000, d2h_bandwidth=GB, h2d_bandwidth=GB)


def sound() -> Plan:
    return build_plan(WORKLOAD, Policy(ranks=1, microbatches=3, horizon=1, pipeline="simple"))


def without_edge(plan: Plan, source: Kind, target: Kind) -> tuple[Plan, int, int]:
    """The plan without its first edge from a ``source`` to a ``target``, and the two operations."""
    for op in plan:
        for edge in op.after:
            if op.kind == target and plan.op(edge).kind == source:
                return with_column(plan, "after", without_entry(plan.ops.after, op.index, edge)), edge, op.index
    raise AssertionError("no such edge")


EDGES = [(Kind.PREFETCH, Kind.RECOMPUTE), (Kind.OFFLOAD, Kind.RELEASE), (Kind.ACQUIRE, Kind.PREFETCH)]
# A copy may be late as a whole, or have begun: what it writes then comes late.
BEFORE, WITHIN = "before it begins", "when it copies"


class HeldBack:
    """Holds an operation back until another one is through, which the missing edge allows. No clock is asked."""

    def __init__(self, held: int, other: int, where: str, patch: pytest.MonkeyPatch) -> None:
        self.held, self.other, self.where = held, other, where
        self.through, self.running = threading.Event(), threading.local()
        self._run, self._copy = Operations.run, CpuBackend.copy
        patch.setattr(Operations, "run", lambda operations, op: self.run(operations, op))
        patch.setattr(CpuBackend, "copy", lambda backend, *given: self.copy(backend, *given))

    def run(self, operations: Operations, op: OpView) -> None:
        self.running.op = op.index
        if op.index == self.held and self.where == BEFORE:
            self.wait()
        try:
            self._run(operations, op)
        finally:
            if op.index == self.other:
                self.through.set()

    def copy(self, backend: CpuBackend, *given: Any) -> None:
        if self.running.op == self.held and self.where == WITHIN:
            self.wait()
        self._copy(backend, *given)

    def wait(self) -> None:
        assert self.through.wait(timeout=300), "the other operation waits for this one after all"


def noticed(plan: Plan, seed: int | None = None) -> str:
    """What a run of the plan notices, whichever symptom comes first; "" for nothing.

    An operation may miss its tensor or find it changed in place, a loss or a gradient may not be finite, or gradients
    may differ from plain training's.
    """
    try:
        run = execute(plan, WORKLOAD, SPEC, costs=SLOW, steps=2, delays_seed=seed, poison=True, verify=False)
    except LoadaheadError as error:
        return str(error)
    return "" if run.max_grad_error == 0.0 else f"gradients differ by {run.max_grad_error}"


@pytest.mark.parametrize(
    ("source", "target", "where"),
    [(*edge, where) for edge in EDGES for where in (BEFORE, WITHIN) if edge[0] in COPY_KINDS or where == BEFORE],
)
def test_a_missing_wait_is_noticed(source: Kind, target: Kind, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, held, other = without_edge(sound(), source, target)
    late = HeldBack(held, other, where, monkeypatch)
    found = noticed(plan)
    assert late.through.is_set()
    assert found and "\n" not in found


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_the_sound_plan_is_right_under_delays(seed: int | None) -> None:
    assert noticed(sound(), seed) == ""


@pytest.mark.parametrize(("source", "target"), EDGES)
def test_the_verifier_refuses_such_a_plan(source: Kind, target: Kind) -> None:
    plan, _, _ = without_edge(sound(), source, target)
    with pytest.raises(CheckFailed, match="is not safe to run"):
        execute(plan, WORKLOAD, SPEC, costs=SLOW, steps=2)
