"""A missing wait is noticed when the verifier is bypassed, and refused when it is not."""

from __future__ import annotations

import pytest

from loadahead.executor.execute import execute
from loadahead.sim.errors import CheckFailed, LoadaheadError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from tests.support.edits import with_column, without_entry
from tests.support.models import GB, link_costs, own_spec, workload_of

SPEC = own_spec("sines")
WORKLOAD = workload_of(SPEC)
# 64 bytes take 6 ms: longer than any delay, so that who does not wait is too early.
SLOW = link_costs(WORKLOAD, d2h_latency_ns=6_000_000, h2d_latency_ns=6_000_000, d2h_bandwidth=GB, h2d_bandwidth=GB)


def sound() -> Plan:
    return build_plan(WORKLOAD, Policy(ranks=1, microbatches=3, horizon=1, pipeline="simple"))


def without_edge(plan: Plan, source: Kind, target: Kind) -> Plan:
    """The plan without one edge from a ``source`` to a ``target``.

    Copies are the slowest here, and PREFETCHes lag behind more and more: so RECOMPUTE loses its last edge, the others
    their first.
    """
    for op in reversed(list(plan)) if target == Kind.RECOMPUTE else list(plan):
        for edge in op.after:
            if op.kind == target and plan.op(edge).kind == source:
                return with_column(plan, "after", without_entry(plan.ops.after, op.index, edge))
    raise AssertionError("no such edge")


def error_of(plan: Plan, seed: int) -> float | None:
    run = execute(plan, WORKLOAD, SPEC, costs=SLOW, steps=2, delays_seed=seed, poison=True, verify=False)
    return run.max_grad_error


EDGES = [(Kind.PREFETCH, Kind.RECOMPUTE), (Kind.OFFLOAD, Kind.RELEASE), (Kind.ACQUIRE, Kind.PREFETCH)]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("source", "target"), EDGES)
def test_a_missing_wait_is_noticed(source: Kind, target: Kind, seed: int) -> None:
    with pytest.raises(LoadaheadError, match=r"not finite|not on the device") as caught:
        error_of(without_edge(sound(), source, target), seed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_sound_plan_is_right_under_the_same_delays(seed: int) -> None:
    assert error_of(sound(), seed) == 0.0


@pytest.mark.parametrize(("source", "target"), EDGES)
def test_the_verifier_refuses_such_a_plan(source: Kind, target: Kind) -> None:
    with pytest.raises(CheckFailed, match="is not safe to run"):
        execute(without_edge(sound(), source, target), WORKLOAD, SPEC, costs=SLOW, steps=2)
