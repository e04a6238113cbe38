"""Memory, stalls and overlap of plans small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.engines import ENGINES, simulate
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.memory import walk
from loadahead.sim.overlap import merge, of_spans, spans
from loadahead.sim.planner import Policy, build_plan
from tests.support.plans import GB, MB, MS, uniform_costs, uniform_plan, uniform_workload


def _rank(plan: object, costs: Costs, rank: int = 0) -> dict[str, float]:
    return simulate(plan, costs).header["summary"]["ranks"][rank]  # type: ignore[arg-type, no-any-return]


def test_slow_link_stalls_release_by_hand() -> None:
    """One unit, 6 microbatches, horizon 2, window 1; FORWARD 1 ms, D2H 3 ms, H2D instant, BACKWARD 2 ms.

    OFFLOADs run back to back from 1 ms: they end at 4, 7, 10, 13, 16, 19. FORWARD j+2 waits for OFFLOAD j: FORWARD 1
    ends at 2, then RELEASE 0 until 4 (stall 2), FORWARD 2 until 5, RELEASE 1 until 7 (2), and so on 2 each for
    RELEASE 0..3 (FORWARD 5 ends at 14), RELEASE 4 until 16 (2); BACKWARD 0 until 18, RELEASE 5 until 19 (1); BACKWARDs
    1..5 then take 10 ms: the step ends at 29.
    """
    costs = uniform_costs(1, d2h_bandwidth=MB * 1000 // 3 + 1, h2d_bandwidth=1000 * GB)
    plan = uniform_plan(1, 1, 6, horizon=2)
    timeline = simulate(plan, costs)
    rank = timeline.header["summary"]["ranks"][0]
    three = int(costs.durations(plan)[plan.ops.kind == Kind.OFFLOAD][0])
    assert abs(three - 3 * MS) <= 1
    assert rank["stall_release_ns"] == pytest.approx(11 * MS, abs=20)
    assert timeline.step_time_ns == pytest.approx(29 * MS, abs=20)


def test_slow_reload_stalls_prefetch_by_hand() -> None:
    """H2D takes 5 ms and horizon 1 starts it one task ahead.

    Tasks: F0..F3 (0-4), then B0 needs boundary 0, acquired before task 3 (at 3 ms): its PREFETCH runs 3-8; B0 starts
    at 8 instead of 4 (stall 4) and ends at 10. PREFETCH 1 was acquired before B0 (task 4), at 4 ms, and runs 8-13: B1
    13-15 (stall 3). PREFETCH 2, acquired before B1 at 10 ms, runs 13-18: B2 18-20 (3). PREFETCH 3: 18-23, B3 23-25 (3).
    """
    costs = uniform_costs(1, d2h_bandwidth=1000 * GB, h2d_bandwidth=MB * 200)
    timeline = simulate(uniform_plan(1, 1, 4, horizon=1), costs)
    rank = timeline.header["summary"]["ranks"][0]
    assert (rank["stall_prefetch_ns"], rank["stall_release_ns"]) == (13 * MS, 0)
    assert timeline.step_time_ns == 25 * MS
    # Copies: four D2H of 1 us in 1-5 ms and H2D from 3 to 23 ms. Compute runs in 3-4, 8-10, 13-15, 18-20 of those,
    # and D2H 0 and 1 lie under F1 and F2 (1.000-1.001, 2.000-2.001); D2H 2 and 3 lie within the H2D's time.
    assert rank["copy_ns"] == 20 * MS + 2000
    assert rank["overlap"] == pytest.approx((7 * MS + 2000) / (20 * MS + 2000))


def test_receive_stall_by_hand() -> None:
    """Two ranks, one microbatch, 1 ms to send: rank 1 waits 2 ms for its input, rank 0 from 1 ms for its gradient."""
    costs = uniform_costs(2, p2p_latency_ns=MS)
    plan = uniform_plan(2, 1, 1)
    assert _rank(plan, costs, 1)["stall_recv_ns"] == 2 * MS
    # The RECOMPUTE (0 ns) of rank 0 runs at 1 ms; its BACKWARD waits until rank 1 (2-3 F, 3-5 B) has sent at 6 ms.
    # The RELEASE of the sent activation comes after it, before the OPTIMIZER_STEP, and waits for nothing.
    assert _rank(plan, costs, 0)["stall_recv_ns"] == 5 * MS
    assert simulate(plan, costs).step_time_ns == 8 * MS


def test_send_stall_by_hand() -> None:
    """Two ranks, three microbatches, 4 ms to send, nothing offloaded.

    Rank 0 runs FORWARD 0, 1 and 2. What FORWARD 0 wrote is released before FORWARD 2, which one task parts from it; it
    is sent from 1 to 5 ms, so that the RELEASE waits from 2 to 5. FORWARD 2 ends at 6. What FORWARD 1 wrote is sent
    from 5 to 9 ms and released before BACKWARD 0, at 9; what FORWARD 2 wrote is sent from 9 to 13 and released before
    BACKWARD 1. Rank 1 runs FORWARD 0 at 5 to 6, 1 at 9 to 10, 2 at 13 to 14 and BACKWARD 0 until 16, whose gradient is
    sent until 20: by then nothing else has to be waited for.
    """
    costs, plan = uniform_costs(2, p2p_latency_ns=4 * MS), uniform_plan(2, 1, 3, offload=False, pipeline="simple")
    for engine in ENGINES:
        first = simulate(plan, costs, engine).metrics.ranks[0]
        assert (first.stall_send_ns, first.stall_release_ns) == (3 * MS + 3 * MS, 0)


def test_what_is_frozen_neither_leaves_nor_stays() -> None:
    workload = replace(uniform_workload(1, 3), frozen_units=1)
    for offload in (False, True):
        plan = build_plan(workload, Policy(microbatches=4, ranks=1, pipeline="simple", offload=offload, horizon=1))
        metrics = simulate(plan, uniform_costs(1, 3)).metrics
        assert metrics.offloaded + metrics.kept == 2 * 4, "boundaries of the two units that are trained"
        assert (metrics.offloaded > 0) == offload


def test_memory_by_hand() -> None:
    """One unit, two microbatches, nothing offloaded.

    Static 10. FORWARD takes its boundary (1 MB) and works in 3 bytes; the second finds one boundary. BACKWARD works
    in 7; the first unit writes no gradient. Peak: both boundaries and the larger workspace.
    """
    unit = UnitCost(
        forward_ns=1, recompute_ns=1, backward_ns=1, workspace_forward=3, workspace_recompute=5, workspace_backward=7
    )
    costs = uniform_costs(1, units=1, static_bytes=(10,), optimizer_workspace=(2,)).model_copy(
        update={"units": ((unit,),)}
    )
    plan = uniform_plan(1, 1, 2, offload=False)
    memory = walk(plan, costs)
    kinds = [Kind(int(k)).name for k in plan.ops.kind]
    assert kinds == ["FORWARD", "FORWARD", "RECOMPUTE", "BACKWARD", "RECOMPUTE", "BACKWARD", "OPTIMIZER_STEP"]
    assert memory.during.tolist() == [
        10 + MB + 3,
        10 + 2 * MB + 3,
        10 + 2 * MB + 5,
        10 + 2 * MB + 7,
        10 + MB + 5,
        10 + MB + 7,
        10 + 2,
    ]
    assert memory.after.tolist() == [10 + MB, 10 + 2 * MB, 10 + 2 * MB, 10 + MB, 10 + MB, 10, 10]
    assert memory.peak_device.tolist() == [10 + 2 * MB + 7]
    assert memory.peak_boundary.tolist() == [2 * MB]


def test_over_capacity_is_said() -> None:
    timeline = simulate(uniform_plan(1, 1, 4, offload=False), uniform_costs(1, memory_bytes=3 * MB))
    assert len(timeline.header["warnings"]) == 1 and "out of memory" in timeline.header["warnings"][0]


def test_over_the_hosts_capacity_is_said_and_counts_all_ranks_together() -> None:
    plan = uniform_plan(2, 1, 4, horizon=1)
    bare = simulate(plan, uniform_costs(2))
    slots = [rank.peak_host_bytes for rank in bare.metrics.ranks]
    assert bare.header["host_capacity_bytes"] is None and bare.header["warnings"] == []
    assert min(slots) > 0 and bare.metrics.host_bytes == sum(slots)
    enough = simulate(plan, uniform_costs(2, host_memory_bytes=sum(slots)))
    assert enough.header["warnings"] == [] and enough.header["host_capacity_bytes"] == sum(slots)
    assert max(slots) < sum(slots), "each rank alone would fit"
    (warning,) = simulate(plan, uniform_costs(2, host_memory_bytes=sum(slots) - 1)).header["warnings"]
    assert warning.startswith("all 2 ranks' slots need ") and "out of host memory" in warning


def test_merged_spans_and_what_they_have_in_common_by_hand() -> None:
    def of(*pairs: tuple[int, int]) -> np.ndarray:  # type: ignore[type-arg]
        return spans(*np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T)

    a, nothing = of((5, 9), (0, 4), (3, 5), (20, 20), (30, 32)), of()
    assert a.tolist() == [0, 9, 30, 32]
    assert [x.tolist() for x in merge(a[::2], a[1::2])] == [[0, 30], [9, 32]]
    assert of_spans(a, of((8, 31)), nothing) == (23, 2)
    assert of_spans(of((8, 31)), a, nothing) == of_spans(of((8, 31)), nothing, a) == (11, 2)
    assert of_spans(a, of((9, 30)), nothing) == (21, 0)
    assert of_spans(a, nothing, nothing) == (0, 0)
    # Copies in both directions count once where they meet, and what compute hides of both counts once.
    assert of_spans(of((0, 10)), of((2, 6), (8, 12)), of((4, 9), (20, 21))) == (11, 8)
