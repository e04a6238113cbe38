"""Any single damage to a proven plan is refused by the rule that it breaks, and what changes nothing is accepted."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from loadahead.sim.ir.kinds import RECV_KINDS, SEND_KINDS
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import HORIZON_UNITS, ORDERS, Policy, build_plan
from loadahead.sim.verify import explain, verify
from loadahead.sim.workload import PassThrough, UnitShape, Workload
from tests.support.damages import DAMAGES, Damage
from tests.support.harmless import HARMLESS, Change, with_other_ids
from tests.support.plan_rows import copied, rows_of
from tests.support.plans import stray_plans

some = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
thorough = settings(some, max_examples=200)


@st.composite
def steps(draw: st.DrawFn, most_ranks: int = 3, most_units: int = 3) -> Plan:
    """A plan with anything that a plan can have: offloads, transfers, kept workspaces, frozen units, what is passed."""
    size = st.integers(0, 4)
    unit = st.builds(
        UnitShape, boundary_bytes=size, gradient_bytes=size, saved_bytes=size, state_bytes=st.sampled_from([0, 0, 3])
    )
    stages = draw(st.lists(st.lists(unit, min_size=1, max_size=most_units).map(tuple), min_size=1, max_size=most_ranks))
    units = sum(map(len, stages))
    readers = st.sets(st.integers(0, units - 1), min_size=1).map(lambda found: tuple(sorted(found)))
    workload = Workload(
        stages=tuple(stages),
        frozen_units=draw(st.sampled_from([0, 0, 0, *range(units)])),
        passed=tuple(draw(st.lists(st.builds(PassThrough, nbytes=size, readers=readers), max_size=2))),
    )
    policy = Policy(
        pipeline=draw(st.sampled_from(sorted(ORDERS))),
        microbatches=draw(st.integers(1, 5)),
        ranks=len(stages),
        checkpoint=draw(st.sampled_from([True, True, False])),
        offload=draw(st.sampled_from([True, True, True, False])),
        horizon=draw(st.integers(1, 4)),
        horizon_unit=draw(st.sampled_from(HORIZON_UNITS)),
        release_window=draw(st.integers(1, 3)),
        receive_ahead=draw(st.integers(0, 3)),
    )
    return build_plan(workload, policy)


seeds = st.integers(0, 2**32)


@thorough
@given(steps())
def test_the_planners_plans_are_whole_steps(plan: Plan) -> None:
    assert verify(plan) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@some
@given(steps(), seeds)
def test_a_damage_is_refused_by_its_rule(damage: Damage, plan: Plan, seed: int) -> None:
    rows = rows_of(plan)
    expected = damage(rows, Random(seed))
    assume(expected is not None)
    assert expected is not None
    found = {violation.rule for violation in verify(rows.plan())}
    assert found & expected, found


@pytest.mark.parametrize("change", HARMLESS, ids=lambda change: change.__name__)
@some
@given(steps(), seeds)
def test_what_changes_nothing_is_accepted(change: Change, plan: Plan, seed: int) -> None:
    rows, random = rows_of(plan), Random(seed)
    change(rows, random)
    assert verify(with_other_ids(rows.plan(), random)) == []


@thorough
@given(steps(), seeds, st.sets(st.sampled_from(range(len(HARMLESS)))))
def test_what_changes_nothing_is_accepted_together(plan: Plan, seed: int, chosen: set[int]) -> None:
    rows, random = rows_of(plan), Random(seed)
    for change in sorted(chosen):
        HARMLESS[change](rows, random)
    assert verify(rows.plan()) == []


@thorough
@given(steps(), seeds, st.sampled_from(range(len(DAMAGES))))
def test_a_damage_is_refused_in_a_strangers_plan(plan: Plan, seed: int, which: int) -> None:
    """Whose list, ids and RELEASEs are others than ours."""
    rows, random = rows_of(plan), Random(seed)
    for change in HARMLESS:
        if random.random() < 0.5:
            change(rows, random)
    expected = DAMAGES[which](rows, random)
    assume(expected is not None)
    assert verify(rows.plan()) != []


@some
@given(steps(), seeds)
def test_each_needed_edge_is_missed(plan: Plan, seed: int) -> None:
    """Not just one of them."""
    rows = rows_of(plan)
    for number, op in enumerate(rows.ops):
        for place, source in enumerate(op.after):
            mutant = copied(rows)
            del mutant.ops[number].after[place]
            lost = not mutant.ordered(mutant.ops[rows.ops.index(source)], mutant.ops[number])
            is_pair = source.kind in SEND_KINDS and op.kind in RECV_KINDS
            assert bool(verify(mutant.plan())) == (lost or is_pair)


@thorough
@given(steps(), seeds, st.lists(st.sampled_from(range(len(DAMAGES))), min_size=2, max_size=6))
def test_any_plan_gets_an_answer(plan: Plan, seed: int, which: list[int]) -> None:
    """However much is wrong with it; and each answer can be shown."""
    rows, random = rows_of(plan), Random(seed)
    for number in which:
        with suppress(IndexError, KeyError, ValueError, StopIteration):  # no place is left for this one
            DAMAGES[number](rows, random)
    changed = rows.plan()
    for violation in verify(changed)[:20]:
        assert violation.message in explain(changed, violation)


@thorough
@given(stray_plans())
def test_a_plan_that_no_planner_made_gets_an_answer(plan: Plan) -> None:
    assert verify(plan) != []
