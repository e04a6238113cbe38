"""Pipelines against the closed forms of their papers: bubble fraction, boundaries in flight, the horizon's memory."""

from __future__ import annotations

import pytest

from loadahead.sim.engines import ENGINES, simulate
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.memory import walk
from loadahead.sim.planner import ORDERS
from tests.support.plans import MB, MS, uniform_costs, uniform_plan

GRID = [(p, m) for p in (1, 2, 3, 4, 8) for m in (1, 2, 3, 4, 8, 16)]


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("pipeline", sorted(ORDERS))
@pytest.mark.parametrize(("ranks", "microbatches"), GRID)
def test_bubble_fraction_is_exact(ranks: int, microbatches: int, pipeline: str, engine: str) -> None:
    """(p-1)/(m+p-1) for both orders: every rank idles p-1 forward and backward times of m+p-1."""
    plan = uniform_plan(ranks, 1, microbatches, pipeline=pipeline, offload=False)
    summary = simulate(plan, uniform_costs(ranks), engine).header["summary"]
    assert summary["step_time_ns"] == (microbatches + ranks - 1) * 3 * MS
    for rank in summary["ranks"]:
        assert rank["idle_ns"] * (microbatches + ranks - 1) == (ranks - 1) * summary["step_time_ns"]


def taken_ahead(stage: int, ahead: int) -> int:
    """How many boundaries more a stage of 1F1B holds that takes memory so far ahead: every second task is a FORWARD."""
    return (ahead + 1) // 2 if stage else 0


@pytest.mark.parametrize("ahead", range(4))
@pytest.mark.parametrize("pipeline", sorted(ORDERS))
@pytest.mark.parametrize(("ranks", "microbatches"), GRID)
def test_boundaries_in_flight_are_exact(ranks: int, microbatches: int, pipeline: str, ahead: int) -> None:
    """Stage s holds m boundaries under GPipe and min(m, p-s) under 1F1B, where s > 0 and m allows and those ahead."""
    plan = uniform_plan(ranks, 1, microbatches, pipeline=pipeline, receive_ahead=ahead, offload=False)
    held = walk(plan, uniform_costs(ranks)).peak_boundary.tolist()
    if pipeline in ("simple", "gpipe"):
        assert held == [microbatches * MB] * ranks
    else:
        in_flight = [ranks - stage + taken_ahead(stage, ahead) for stage in range(ranks)]
        assert held == [min(microbatches, most) * MB for most in in_flight]


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("microbatches", [16, 32])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_1f1b_holds_no_more_than_horizon_plus_two(ranks: int, microbatches: int, ahead: int) -> None:
    """min(p-s, h+2) boundaries where memory is taken directly before it is read, min(p-s+[s>0], h+2) one task ahead."""
    for horizon in range(1, 9):
        plan = uniform_plan(ranks, 1, microbatches, pipeline="1f1b", horizon=horizon, receive_ahead=ahead)
        in_flight = [ranks - stage + taken_ahead(stage, ahead) for stage in range(ranks)]
        held = walk(plan, uniform_costs(ranks)).peak_boundary.tolist()
        assert held == [min(most, horizon + 2) * MB for most in in_flight]


@pytest.mark.parametrize("horizon", range(1, 9))
@pytest.mark.parametrize("units", [2, 4])
def test_memory_falls_to_horizon_plus_two(horizon: int, units: int) -> None:
    """8 microbatches, GPipe, one rank: from microbatches x units boundaries to horizon + 2, without a stall."""
    costs = uniform_costs(1, units)
    kept = simulate(uniform_plan(1, units, 8, offload=False), costs).header["summary"]["ranks"][0]
    assert kept["peak_boundary_bytes"] == 8 * units * MB
    moved = simulate(uniform_plan(1, units, 8, horizon=horizon), costs).metrics
    assert moved.peak_boundary_bytes == (horizon + 2) * MB
    assert not any(moved.stalls_ns.values())
    assert moved.step_time_ns == 8 * units * 3 * MS


@pytest.mark.parametrize("active", [1, 2, 3])
@pytest.mark.parametrize("pipeline", sorted(ORDERS))
def test_active_microbatches_caps_what_is_in_flight(pipeline: str, active: int) -> None:
    """Where memory is taken ahead, all ranks but the first hold that much more."""
    for ahead in range(4):
        choices = {"active_microbatches": active, "receive_ahead": ahead, "offload": False}
        held = walk(uniform_plan(4, 1, 8, pipeline=pipeline, **choices), uniform_costs(4)).peak_boundary.tolist()
        assert held[0] <= active * MB
        assert max(held) <= (active + taken_ahead(1, ahead)) * MB


def _compute(plan: object, rank: int = 0) -> list[str]:
    return [plan.op(i).name for i in plan.queue_ops(rank, Queue.COMPUTE).tolist()]  # type: ignore[attr-defined]


def test_acquire_stands_before_task_k_minus_h() -> None:
    """One rank, one unit, 6 microbatches: BACKWARD j is task 6 + j, its ACQUIRE stands before task 6 + j - 2."""
    plan = uniform_plan(1, 1, 6, horizon=2)
    assert _compute(plan) == [
        "FORWARD 0.0.0",
        "FORWARD 0.0.1",
        "RELEASE 0.0.0",
        "FORWARD 0.0.2",
        "RELEASE 0.0.1",
        "FORWARD 0.0.3",
        "RELEASE 0.0.2",
        "ACQUIRE 0.0.0",
        "FORWARD 0.0.4",
        "RELEASE 0.0.3",
        "ACQUIRE 0.0.1",
        "FORWARD 0.0.5",
        "RELEASE 0.0.4",
        "ACQUIRE 0.0.2",
        "RECOMPUTE 0.0.0",
        "BACKWARD 0.0.0",
        "RELEASE 0.0.5",
        "ACQUIRE 0.0.3",
        "RECOMPUTE 0.0.1",
        "BACKWARD 0.0.1",
        "ACQUIRE 0.0.4",
        "RECOMPUTE 0.0.2",
        "BACKWARD 0.0.2",
        "ACQUIRE 0.0.5",
        "RECOMPUTE 0.0.3",
        "BACKWARD 0.0.3",
        "RECOMPUTE 0.0.4",
        "BACKWARD 0.0.4",
        "RECOMPUTE 0.0.5",
        "BACKWARD 0.0.5",
        "OPTIMIZER_STEP",
    ]


def test_layers_keep_at_most_h_offloaded_boundaries() -> None:
    """SMP v2: two at a time; the next ACQUIRE directly after the BACKWARD that frees one."""
    plan = uniform_plan(1, 1, 5, horizon=2, horizon_unit="layers")
    tail = _compute(plan)[_compute(plan).index("RELEASE 0.0.3") :]
    assert tail == [
        "RELEASE 0.0.3",
        "ACQUIRE 0.0.0",
        "ACQUIRE 0.0.1",
        "RECOMPUTE 0.0.0",
        "BACKWARD 0.0.0",
        "RELEASE 0.0.4",
        "ACQUIRE 0.0.2",
        "RECOMPUTE 0.0.1",
        "BACKWARD 0.0.1",
        "ACQUIRE 0.0.3",
        "RECOMPUTE 0.0.2",
        "BACKWARD 0.0.2",
        "ACQUIRE 0.0.4",
        "RECOMPUTE 0.0.3",
        "BACKWARD 0.0.3",
        "RECOMPUTE 0.0.4",
        "BACKWARD 0.0.4",
        "OPTIMIZER_STEP",
    ]


@pytest.mark.parametrize("horizon", [1, 2, 5])
@pytest.mark.parametrize("pipeline", sorted(ORDERS))
def test_layers_residency_never_exceeds_the_horizon(horizon: int, pipeline: str) -> None:
    plan = uniform_plan(2, 3, 6, pipeline=pipeline, horizon=horizon, horizon_unit="layers")
    for rank in range(2):
        loaded: set[tuple[int, int, int]] = set()
        for i in plan.queue_ops(rank, Queue.COMPUTE).tolist():
            op = plan.op(i)
            key = (op.stage, op.unit, op.microbatch)
            if op.kind == Kind.ACQUIRE and any(plan.op(e).kind == Kind.PREFETCH for e in _followers(plan, i)):
                loaded.add(key)
            if op.kind == Kind.BACKWARD:
                loaded.discard(key)
            assert len(loaded) <= horizon


def _followers(plan: object, op: int) -> list[int]:
    return plan.ops.after.rows()[plan.ops.after.values == op].tolist()  # type: ignore[attr-defined]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_release_stands_after_w_more_tasks(window: int) -> None:
    names = _compute(uniform_plan(1, 1, 8, horizon=1, release_window=window))
    assert names.index("RELEASE 0.0.0") == names.index(f"FORWARD 0.0.{window}") + 1


def test_offloads_only_where_it_can_help() -> None:
    """Boundary j is forward task j and backward task m + j: k - h > i + w holds for all or none of one unit's."""
    assert uniform_plan(1, 1, 6, horizon=4).policy["offloaded"] == 6
    none = uniform_plan(1, 1, 6, horizon=5).policy
    assert (none["offloaded"], none["kept"], none["kept_because"]) == (0, 6, {"backward_too_soon": 6})
    assert "cannot help" in none["sentence"]
    last = uniform_plan(4, 1, 8, pipeline="1f1b", horizon=2)
    offload_ranks = {last.op(i).rank for i in range(len(last)) if last.op(i).kind == Kind.OFFLOAD}
    assert 3 not in offload_ranks and 0 in offload_ranks


def test_without_checkpointing_nothing_is_offloaded() -> None:
    policy = uniform_plan(1, 1, 8, checkpoint=False).policy
    assert policy["offloaded"] == 0 and policy["kept_because"] == {"no_checkpointing": 8}


def test_host_slots_are_reused_once_emptied() -> None:
    """1F1B holds few boundaries at once, so a few slots serve any number of microbatches."""
    sizes = [
        walk(uniform_plan(4, 1, m, pipeline="1f1b", horizon=1), uniform_costs(4)).peak_host.tolist() for m in (16, 64)
    ]
    assert sizes[0] == sizes[1] and 0 < sizes[0][0] < 16 * MB


def test_equal_input_gives_equal_text() -> None:
    from loadahead.sim.ir.json_form import dumps_plan

    assert dumps_plan(uniform_plan(3, 2, 5)) == dumps_plan(uniform_plan(3, 2, 5))
