"""A missing wait is noticed when the verifier is bypassed, and refused when it is not."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from loadahead.executor.backends.cpu import CpuBackend
from loadahead.executor.execute import execute
from loadahead.executor.replay.operations import Operations
from loadahead.sim.errors import CheckFailed, LoadaheadError
from loadahead.sim.ir.kinds import COPY_KINDS, SEND_KINDS, Kind
from loadahead.sim.ir.plan import OpView, Plan
from loadahead.sim.planner import Policy, build_plan
from tests.support.edits import with_column, without_entry
from tests.support.models import GB, link_costs, own_spec, workload_of

SPEC = own_spec("sines")
WORKLOADS = {ranks: workload_of(SPEC, ranks) for ranks in (1, 2)}
LATENCIES = dict.fromkeys(("d2h_latency_ns", "h2d_latency_ns", "p2p_latency_ns"), 6_000_000)
# 64 bytes take 6 ms: longer than any delay, so that whatever waits does wait.
SLOW = {ranks: link_costs(own, d2h_bandwidth=GB, h2d_bandwidth=GB, **LATENCIES) for ranks, own in WORKLOADS.items()}


def sound(ranks: int = 1) -> Plan:
    pipeline = "simple" if ranks == 1 else "interleaved"
    return build_plan(WORKLOADS[ranks], Policy(ranks=ranks, microbatches=3, horizon=1, pipeline=pipeline))


def without_edge(plan: Plan, source: Kind, target: Kind) -> tuple[Plan, int, int]:
    """The plan without its first edge from a ``source`` to a ``target``, and the two operations."""
    for op in plan:
        for edge in op.after:
            if op.kind == target and plan.op(edge).kind == source:
                return with_column(plan, "after", without_entry(plan.ops.after, op.index, edge)), edge, op.index
    raise AssertionError("no such edge")


EDGES = [
    (1, Kind.PREFETCH, Kind.RECOMPUTE),
    (1, Kind.OFFLOAD, Kind.RELEASE),
    (1, Kind.ACQUIRE, Kind.PREFETCH),
    (2, Kind.ACQUIRE, Kind.SEND_ACTIVATION),
    (2, Kind.ACQUIRE, Kind.SEND_GRADIENT),
    (2, Kind.SEND_ACTIVATION, Kind.RELEASE),
    (2, Kind.FORWARD, Kind.SEND_ACTIVATION),
    (2, Kind.BACKWARD, Kind.SEND_GRADIENT),
]
# The RECV lets its task wait for the SEND.
RECEIVED = [(Kind.RECV_ACTIVATION, Kind.FORWARD), (Kind.RECV_GRADIENT, Kind.BACKWARD)]
# A copy may be late as a whole, or have begun: what it writes then comes late.
BEFORE, WITHIN = "before it begins", "when it copies"


class HeldBack:
    """Holds an operation back until another one is through, which the missing edge allows. No clock is asked."""

    def __init__(self, held: int, other: int, where: str, patch: pytest.MonkeyPatch) -> None:
        self.held, self.other, self.where = held, other, where
        self.through, self.running = threading.Event(), threading.local()
        self._run, self._move = Operations.run, CpuBackend.move
        patch.setattr(Operations, "run", lambda operations, op: self.run(operations, op))
        patch.setattr(CpuBackend, "move", lambda backend, *given: self.move(backend, *given))

    def run(self, operations: Operations, op: OpView) -> None:
        self.running.op = op.index
        if op.index == self.held and self.where == BEFORE:
            self.wait()
        try:
            self._run(operations, op)
        finally:
            if op.index == self.other:
                self.through.set()

    def move(self, backend: CpuBackend, *given: Any) -> None:
        if self.running.op == self.held and self.where == WITHIN:
            self.wait()
        self._move(backend, *given)

    def wait(self) -> None:
        assert self.through.wait(timeout=300), "the other operation waits for this one after all"


def noticed(plan: Plan, seed: int | None = None) -> str:
    """What a run of the plan notices, whichever symptom comes first; "" for nothing.

    An operation may miss its tensor or find it changed in place, a loss or a gradient may not be finite, or gradients
    may differ from plain training's.
    """
    try:
        run = execute(
            plan,
            WORKLOADS[plan.ranks],
            SPEC,
            costs=SLOW[plan.ranks],
            steps=2,
            delays_seed=seed,
            poison=True,
            verify=False,
        )
    except LoadaheadError as error:
        return str(error)
    return "" if run.max_grad_error == 0.0 else f"gradients differ by {run.max_grad_error}"


@pytest.mark.parametrize(
    ("ranks", "source", "target", "where"),
    [
        (*edge, where)
        for edge in EDGES
        for where in (BEFORE, WITHIN)
        if edge[1] in COPY_KINDS | SEND_KINDS or where == BEFORE
    ],
)
def test_a_missing_wait_is_noticed(
    ranks: int, source: Kind, target: Kind, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, held, other = without_edge(sound(ranks), source, target)
    late = HeldBack(held, other, where, monkeypatch)
    found = noticed(plan)
    assert late.through.is_set()
    assert found and "\n" not in found


@pytest.mark.parametrize("where", [BEFORE, WITHIN])
@pytest.mark.parametrize(("source", "target"), RECEIVED)
def test_a_task_that_does_not_wait_for_what_it_receives_is_noticed(
    source: Kind, target: Kind, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, receive, other = without_edge(sound(2), source, target)
    held = next(edge for edge in plan.op(receive).after if plan.op(edge).kind in SEND_KINDS)
    late = HeldBack(held, other, where, monkeypatch)
    found = noticed(plan)
    assert late.through.is_set()
    assert found and "\n" not in found


@pytest.mark.parametrize("kind", [Kind.SEND_ACTIVATION, Kind.SEND_GRADIENT])
def test_a_send_into_memory_that_no_one_has_taken_says_so(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, held, other = without_edge(sound(2), Kind.ACQUIRE, kind)
    HeldBack(held, other, BEFORE, monkeypatch)
    buffer = plan.op(held).allocs[0]
    assert noticed(plan) == f"{plan.op(other).name} uses buffer {buffer}, which is not on the device then"


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_the_sound_plan_is_right_under_delays(seed: int | None, ranks: int) -> None:
    assert noticed(sound(ranks), seed) == ""


@pytest.mark.parametrize(("ranks", "source", "target"), [*EDGES, *((2, *edge) for edge in RECEIVED)])
def test_the_verifier_refuses_such_a_plan(ranks: int, source: Kind, target: Kind) -> None:
    plan, _, _ = without_edge(sound(ranks), source, target)
    with pytest.raises(CheckFailed, match="is not safe to run"):
        execute(plan, WORKLOADS[ranks], SPEC, costs=SLOW[ranks], steps=2)
