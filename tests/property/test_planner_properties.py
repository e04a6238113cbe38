"""The compiled planner makes, to the byte, the plans of the one in plain Python."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.ir.json_form import dumps_plan
from loadahead.sim.planner import HORIZON_UNITS, ORDERS, Order, Policy, build_plan
from tests.support.orders import (
    INTERLEAVED,
    V_SHAPED,
    decision_rows,
    policies_for,
    v_shape,
    virtual_stages,
    workloads_for,
    written,
)
from tests.support.plans import policies, uniform_workload, workloads
from tests.support.slow_planner import slow_plan

thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(st.data())
def test_both_planners_make_the_same_file(data: st.DataObject) -> None:
    workload = data.draw(workloads(most_ranks=5, most_units=4))
    policy = data.draw(policies(len(workload.stages), most_microbatches=9))
    assert dumps_plan(build_plan(workload, policy)) == dumps_plan(slow_plan(workload, policy))


@pytest.mark.parametrize("pipeline", sorted(ORDERS))
@pytest.mark.parametrize("horizon_unit", HORIZON_UNITS)
@pytest.mark.parametrize("active", [None, 3])
def test_both_planners_make_the_same_larger_file(pipeline: str, horizon_unit: str, active: int | None) -> None:
    workload = uniform_workload(4, 3, saved_bytes=5)
    for horizon in (1, 3, 7):
        policy = Policy(
            pipeline=pipeline,
            microbatches=24,
            ranks=4,
            active_microbatches=active,
            horizon=horizon,
            horizon_unit=horizon_unit,
            release_window=2,
            receive_ahead=horizon // 2,
        )
        ours, theirs = build_plan(workload, policy), slow_plan(workload, policy)
        assert json.loads(dumps_plan(ours)) == json.loads(dumps_plan(theirs))


# Several stages a rank; and one a rank where the RELEASE of what was sent would wait in a circle in its fixed place.
LARGER = [
    virtual_stages(4, 3, 8),
    virtual_stages(3, 4, 6),
    v_shape(4, 8, 8),
    written(("0F1,0F0,0B0,0B1", "1F1,1B1,1F0,1B0"), "circle"),
]


@pytest.mark.parametrize("order", LARGER, ids=lambda order: order.name)
@settings(thorough, max_examples=25)
@given(st.data())
def test_both_planners_make_the_same_file_of_larger_orders(order: Order, data: st.DataObject) -> None:
    workload, policy = data.draw(workloads_for(order)), data.draw(policies_for(order))
    assert dumps_plan(build_plan(workload, policy)) == dumps_plan(slow_plan(workload, policy))


@pytest.mark.parametrize("rows", [INTERLEAVED, V_SHAPED], ids=["interleaved", "v"])
@settings(thorough, max_examples=60)
@given(st.data())
def test_both_planners_make_the_same_file_of_several_stages_a_rank(rows: tuple[str, ...], data: st.DataObject) -> None:
    """With the horizon's decisions, and with any that are given."""
    workload = uniform_workload(4, data.draw(st.integers(1, 3)))
    order = written(rows)
    policy = Policy(order=order, ranks=2, microbatches=4, horizon=data.draw(st.integers(1, 8)))
    assert dumps_plan(build_plan(workload, policy)) == dumps_plan(slow_plan(workload, policy))
    given_rows = data.draw(decision_rows(workload, policy))
    ours = build_plan(workload, policy, decisions=Decisions.from_rows(given_rows))
    assert dumps_plan(ours) == dumps_plan(slow_plan(workload, policy, decisions=given_rows))
