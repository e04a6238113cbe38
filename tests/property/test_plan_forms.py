"""A plan survives its JSON and its text form, with any distinct ids, of any order and whoever made it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadahead.sim.ir.json_form import dumps_plan, plan_from_json, plan_to_json
from loadahead.sim.ir.plan import Plan
from loadahead.sim.ir.text_form import plan_from_text, plan_to_text
from loadahead.sim.planner import build_plan, order_of
from tests.support.orders import orders, policies_for, workloads_for
from tests.support.plans import plans, stray_plans

several = settings(max_examples=60, deadline=None)


@st.composite
def of_any_order(draw: st.DrawFn) -> Plan:
    order = draw(orders())
    return build_plan(draw(workloads_for(order)), draw(policies_for(order)))


@st.composite
def renamed(draw: st.DrawFn) -> Plan:
    plan = draw(plans(most_ranks=3, most_units=2) | of_any_order() | stray_plans())
    stride, offset = draw(st.integers(1, 7)), draw(st.integers(0, 10**9))
    op_ids = np.arange(len(plan), dtype=np.int64)[::-1] * stride + offset
    buffer_ids = np.arange(len(plan.buffers), dtype=np.int64) * stride + offset
    plan = replace(plan, frozen_units=draw(st.just(0) | st.integers(0, 2**31 - 1)))
    return replace(plan, op_ids=op_ids, buffer_ids=buffer_ids) if draw(st.booleans()) else plan


@several
@given(renamed())
def test_json_round_trips(plan: Plan) -> None:
    text = dumps_plan(plan)
    assert json.loads(text) == plan_to_json(plan)
    assert dumps_plan(plan_from_json(json.loads(text))) == text


@several
@given(renamed())
def test_text_round_trips(plan: Plan) -> None:
    text = plan_to_text(plan)
    again = plan_from_text(text)
    assert plan_to_text(again) == text
    assert dumps_plan(again) == dumps_plan(plan)


@several
@given(stray_plans())
def test_a_strangers_plan_has_an_order_or_none(plan: Plan) -> None:
    order = order_of(plan)
    assert order is None or order.checked() is order
