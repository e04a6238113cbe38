"""What a stall is, by hand: how long, and which of several edges is to blame."""

from __future__ import annotations

import numpy as np
import pytest

from loadahead.sim.engines import ENGINES, simulate
from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.stalls import STALL_OF, stall_name, waits
from loadahead.sim.step_metrics import STALLS
from tests.support.plans import uniform_costs


def two_edges(first: Kind, then: Kind, nbytes: tuple[int, int]) -> Plan:
    """A RECOMPUTE that waits for two operations of other queues, in this order."""
    builder = PlanBuilder()
    edges = [builder.op(0, kind, (0, 0, 0), nbytes=size) for kind, size in zip((first, then), nbytes, strict=True)]
    builder.op(0, Kind.RECOMPUTE, (0, 0, 0), after=edges)
    return builder.freeze("two edges", 1, 1, {})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("nbytes", "blamed"),
    [((10, 12), "prefetch"), ((12, 10), "release"), ((11, 11), "release")],
    ids=["the second ends last", "the first ends last", "both end together: the first listed"],
)
def test_the_edge_that_ended_last_is_to_blame(engine: str, nbytes: tuple[int, int], blamed: str) -> None:
    """Both copies start at 0 at 1 B/ns; nothing runs on the compute queue meanwhile."""
    plan = two_edges(Kind.OFFLOAD, Kind.PREFETCH, nbytes)
    costs = uniform_costs(1, d2h_bandwidth=10**9, h2d_bandwidth=10**9)
    (rank,) = simulate(plan, costs, engine).metrics.ranks
    assert rank.stalls_ns == dict.fromkeys(STALLS, 0) | {blamed: max(nbytes)}


@pytest.mark.parametrize(
    ("kind", "stall"),
    [
        (Kind.OFFLOAD, "release"),
        (Kind.PREFETCH, "prefetch"),
        (Kind.SEND_ACTIVATION, "send"),
        (Kind.SEND_GRADIENT, "send"),
        (Kind.RECV_ACTIVATION, "recv"),
        (Kind.RECV_GRADIENT, "recv"),
    ],
)
def test_each_kind_that_is_waited_for_has_its_stall(kind: Kind, stall: str) -> None:
    assert stall_name(kind) == stall


@pytest.mark.parametrize("engine", ENGINES)
def test_a_release_that_waits_for_a_send_is_no_wait_for_an_offload(engine: str) -> None:
    """A RELEASE waits for an OFFLOAD of 10 ns, the next one for a SEND of 25 ns: 10 ns and 15 ns."""
    builder = PlanBuilder()
    for kind, nbytes in ((Kind.OFFLOAD, 10), (Kind.SEND_ACTIVATION, 25)):
        moved = builder.op(0, kind, (0, 0, 0), nbytes=nbytes)
        builder.op(0, Kind.RELEASE, (0, 0, 0), after=[moved])
    costs = uniform_costs(1, d2h_bandwidth=10**9, p2p_bandwidth=10**9)
    (rank,) = simulate(builder.freeze("two waits", 1, 1, {}), costs, engine).metrics.ranks
    assert (rank.stall_release_ns, rank.stall_send_ns) == (10, 15)


def test_an_edge_that_ended_before_the_queue_was_ready_is_no_stall() -> None:
    plan = two_edges(Kind.OFFLOAD, Kind.PREFETCH, (10, 12))
    found = waits(plan, np.asarray([10, 12, 40]), launches=np.asarray([0, 0, 0]))
    assert (int(found.ready_ns[2]), int(found.wait_ns[2]), Kind(int(found.blamed[2]))) == (0, 12, Kind.PREFETCH)
    assert found.edge.tolist() == [-1, -1, 1]
    # The host issues the RECOMPUTE from 15 on: the copies are over by then.
    found = waits(plan, np.asarray([10, 12, 40]), launches=np.asarray([5, 10, 5]))
    assert (int(found.ready_ns[2]), int(found.wait_ns[2])) == (15, 0)


def test_a_wait_for_a_kind_that_is_no_stall_has_no_name() -> None:
    assert {kind for kind in Kind if STALL_OF[kind] < 0} == {
        Kind.FORWARD,
        Kind.RECOMPUTE,
        Kind.BACKWARD,
        Kind.BACKWARD_INPUT,
        Kind.BACKWARD_WEIGHT,
        Kind.RELEASE,
        Kind.ACQUIRE,
        Kind.OPTIMIZER_STEP,
    }
    assert STALL_OF[-1] < 0
