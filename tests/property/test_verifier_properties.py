"""The verifier accepts what the planner makes and rejects it once anything that it needs is taken away or doubled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.kinds import RECV_KINDS, SEND_KINDS, Kind
from loadahead.sim.ir.plan import Plan, Ragged
from loadahead.sim.verify import verify
from loadahead.sim.verify.happens_before import HappensBefore
from tests.support.edits import take_ops, with_column, with_entry, without_entry
from tests.support.plans import plans, stray_plans

SMALL = {"most_ranks": 3, "most_units": 2}
thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def ancestors(plan: Plan) -> list[int]:
    """For each operation the set (as a bit mask) of operations that happen before it. Written apart from
    loadahead.sim.verify."""
    last: dict[tuple[int, int], int] = {}
    masks: list[int] = []
    for op in plan:
        mask = 0
        queue = (op.rank, int(op.queue))
        for before in [*op.after, *([last[queue]] if queue in last else [])]:
            mask |= masks[before] | 1 << before
        masks.append(mask)
        last[queue] = op.index
    return masks


def edges(plan: Plan) -> list[tuple[int, int]]:
    return [(int(source), op.index) for op in plan for source in op.after]


def is_needed(plan: Plan, source: int, target: int) -> bool:
    """Whether nothing else orders the two: the order is lost when the edge is taken out."""
    without = with_column(plan, "after", without_entry(plan.ops.after, target, source))
    return not ancestors(without)[target] >> source & 1


@thorough
@given(plans())
def test_accepts_every_plan_of_the_planner(plan: Plan) -> None:
    assert verify(plan) == []


@thorough
@given(plans(**SMALL), st.data())
def test_rejects_a_plan_without_a_needed_edge_and_accepts_one_without_an_implied_edge(
    plan: Plan, data: st.DataObject
) -> None:
    assume(edges(plan))
    source, target = data.draw(st.sampled_from(edges(plan)))
    mutant = with_column(plan, "after", without_entry(plan.ops.after, target, source))
    pair = plan.op(source).kind in SEND_KINDS and plan.op(target).kind in RECV_KINDS
    needed = pair or is_needed(plan, source, target)
    assert bool(verify(mutant)) == needed, (plan.op(source).name, plan.op(target).name)


@pytest.mark.parametrize("pipeline", ["simple", "interleaved"])
@pytest.mark.parametrize("horizon_unit", ["tasks", "layers"])
def test_rejects_every_single_needed_edge_removed(pipeline: str, horizon_unit: str) -> None:
    from tests.support.plans import uniform_plan

    plan = uniform_plan(2, 2, 6, pipeline=pipeline, horizon=1, horizon_unit=horizon_unit)
    needed = [edge for edge in edges(plan) if is_needed(plan, *edge)]
    kinds = {(plan.op(a).kind, plan.op(b).kind) for a, b in needed}
    assert {
        (Kind.FORWARD, Kind.OFFLOAD),
        (Kind.OFFLOAD, Kind.RELEASE),
        (Kind.ACQUIRE, Kind.PREFETCH),
        (Kind.PREFETCH, Kind.RECOMPUTE),
    } <= kinds
    for source, target in needed:
        mutant = with_column(plan, "after", without_entry(plan.ops.after, target, source))
        found = verify(mutant)
        assert found, (plan.op(source).name, plan.op(target).name)
        assert any(target in violation.ops for violation in found)


@thorough
@given(plans(**SMALL), st.data())
def test_rejects_a_doubled_edge(plan: Plan, data: st.DataObject) -> None:
    assume(edges(plan))
    source, target = data.draw(st.sampled_from(edges(plan)))
    assert verify(with_column(plan, "after", with_entry(plan.ops.after, target, source)))


@thorough
@given(plans(**SMALL), st.sampled_from(["allocs", "frees"]), st.data())
def test_rejects_a_removed_or_doubled_take_or_free(plan: Plan, name: str, data: st.DataObject) -> None:
    column: Ragged = getattr(plan.ops, name)
    entry = data.draw(st.integers(0, len(column.values) - 1))
    row, buffer = int(column.rows()[entry]), int(column.values[entry])
    assert verify(with_column(plan, name, without_entry(column, row, buffer)))
    assert verify(with_column(plan, name, with_entry(column, row, buffer)))
    elsewhere = data.draw(st.integers(0, len(plan) - 1))
    assert verify(with_column(plan, name, with_entry(column, elsewhere, buffer)))


@thorough
@given(plans(**SMALL), st.data())
def test_rejects_a_removed_or_doubled_operation(plan: Plan, data: st.DataObject) -> None:
    op = data.draw(st.integers(0, len(plan) - 1))
    everything = list(range(len(plan)))
    assert verify(take_ops(plan, everything[: op + 1] + everything[op:]))
    assert verify(take_ops(plan, everything[:op] + everything[op + 1 :]))


def asked_and_expected(plan: Plan, pairs: list[tuple[int, int]]) -> tuple[list[bool], list[bool]]:
    first, then = np.asarray(pairs, dtype=np.int64).T
    masks = ancestors(plan)
    expected = [a == b or bool(masks[b] >> a & 1) for a, b in pairs]
    return HappensBefore(plan).ordered(first, then).tolist(), expected


@settings(thorough, max_examples=400)
@given(plans(**SMALL) | stray_plans(), st.data())
def test_happens_before_agrees_with_plain_reachability(plan: Plan, data: st.DataObject) -> None:
    """Strangers' plans are full of edges between ranks, and of orders that go through several of them."""
    pair = st.tuples(st.integers(0, len(plan) - 1), st.integers(0, len(plan) - 1))
    got, expected = asked_and_expected(plan, data.draw(st.lists(pair, min_size=1, max_size=20)))
    assert got == expected


@settings(thorough, max_examples=100)
@given(plans(most_ranks=4, most_units=1) | stray_plans(most_ops=25))
def test_happens_before_of_all_pairs_at_once(plan: Plan) -> None:
    assume(len(plan) <= 120)
    got, expected = asked_and_expected(plan, [(a, b) for a in range(len(plan)) for b in range(len(plan))])
    assert got == expected


def test_an_order_through_another_rank_is_found_and_one_place_further_is_not() -> None:
    """Rank 0's OFFLOAD waits for rank 1's FORWARD, which waits for rank 0's first: no path lies on rank 0 alone."""
    builder = PlanBuilder()
    early = builder.op(0, Kind.FORWARD, (0, 0, 0))
    late = builder.op(0, Kind.FORWARD, (0, 0, 1))
    abroad = builder.op(1, Kind.FORWARD, (1, 0, 0), after=[early])
    offload = builder.op(0, Kind.OFFLOAD, (0, 0, 0), after=[abroad])
    plan = builder.freeze("through rank 1", 2, 1, {})
    got, expected = asked_and_expected(plan, [(early, offload), (late, offload), (abroad, offload), (offload, early)])
    assert got == expected == [True, False, True, False]


@thorough
@given(plans())
def test_plans_of_the_planner_are_proven_without_the_exact_passes(plan: Plan) -> None:
    """Those take a pass over all operations for each queue, which is why a plan of many ranks would be slow."""

    def refuse(*_: object) -> None:
        raise AssertionError("an exact pass was made")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HappensBefore, "_exactly", refuse)
        assert verify(plan) == []
