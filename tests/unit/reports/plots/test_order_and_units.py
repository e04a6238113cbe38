"""The figures of a plan alone and of costs alone: their data against the plan's own operations and the costs' units."""

from __future__ import annotations

from typing import Any

import pytest

from loadahead.reports.plots import FIGURES, Drawing, Layout, Missing
from loadahead.reports.run_data import RunData
from loadahead.reports.views.order import OrderView, order_view
from loadahead.reports.views.unit_times import unit_times
from loadahead.sim.ir.kinds import UNIT_KINDS, Kind, Queue
from loadahead.sim.ir.plan import Plan
from tests.support.plans import uniform_costs, uniform_plan


def expected(plan: Plan, rank: int) -> list[tuple[str, int, int]]:
    """The passes of a rank as its compute queue tells them, one operation after the other."""
    out: list[tuple[str, int, int]] = []
    for op in (one for one in plan if one.rank == rank and one.queue == Queue.COMPUTE and one.kind in UNIT_KINDS):
        word = "F" if op.kind == Kind.FORWARD else "W" if op.kind == Kind.BACKWARD_WEIGHT else "B"
        if not out or out[-1] != (word, op.stage, op.microbatch):
            out.append((word, op.stage, op.microbatch))
    return out


def view_of(plan: Plan, ranks: int = 8, passes: int = 99) -> OrderView:
    view = order_view(plan, ranks, passes)
    assert isinstance(view, OrderView)
    return view


@pytest.mark.parametrize("policy", [{"horizon": 1}, {"offload": False}, {"checkpoint": False}], ids=str)
def test_passes_are_the_plans(policy: dict[str, Any]) -> None:
    plan = uniform_plan(2, units=3, **policy)
    view = view_of(plan)
    words = {Kind.FORWARD: "F", Kind.BACKWARD: "B", Kind.BACKWARD_WEIGHT: "W"}
    for rank in range(plan.ranks):
        own = [one for one in view.passes if one.rank == rank]
        assert [(words[one.kind], one.stage, one.microbatch) for one in own] == expected(plan, rank)
        assert [one.place for one in own] == [*range(len(own))]
    assert view.longest == max(len(expected(plan, rank)) for rank in range(plan.ranks))
    assert sum(one.offloads for one in view.passes) == sum(op.kind == Kind.OFFLOAD for op in plan)


def test_what_is_left_out_is_said() -> None:
    plan = uniform_plan(2, units=2)
    view = view_of(plan, ranks=1, passes=3)
    assert {one.rank for one in view.passes} == {0} and len(view.passes) == 3
    assert (view.longest, view.ranks) == (len(expected(plan, 0)), 2)
    many = uniform_plan(2, units=2, microbatches=20)
    drawing = FIGURES["order"](RunData(plan=many), Layout.NARROW)
    assert isinstance(drawing, Drawing)
    assert f"The first 14 of at most {len(expected(many, 0))} passes of a rank are drawn." in drawing.caption


@pytest.mark.parametrize("layout", Layout)
def test_boxes_and_marks_are_the_views(layout: Layout) -> None:
    plan = uniform_plan(2, units=2, horizon=1)
    drawing = FIGURES["order"](RunData(plan=plan), layout)
    assert isinstance(drawing, Drawing)
    (axes,) = drawing.figure.axes
    assert drawing.figure.get_figwidth() == layout.width_inches
    boxes = sorted((round(box.get_y() + box.get_height() / 2), int(box.get_x())) for box in axes.patches)  # type: ignore[attr-defined]
    view = view_of(plan)
    assert boxes == sorted((one.rank, one.place) for one in view.passes)
    (marks,) = axes.lines
    assert len(marks.get_xydata()) == sum(one.offloads > 0 for one in view.passes)
    texts = {(round(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert texts == {(one.rank, one.place): str(one.microbatch) for one in view.passes}


def test_bars_are_the_costs() -> None:
    costs = uniform_costs(2, units=3)
    drawing = FIGURES["units"](RunData(costs=costs))
    assert isinstance(drawing, Drawing) and "stage begins" in drawing.caption
    (axes,) = drawing.figure.axes
    scale = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1}[axes.get_ylabel()]
    parts = zip(axes.containers, ("forward_ns", "recompute_ns", "backward_ns"), strict=True)
    for bars, name in parts:
        heights = [round(bar.get_height() * scale) for bar in bars]
        assert heights == [getattr(unit, name) for stage in costs.units for unit in stage]
    assert unit_times(costs, 4).stage == (0, 0, 0, 1) and unit_times(costs, 4).units == 6


def test_without_a_plan_and_without_costs_it_says_so() -> None:
    for name, reason in (("order", "there is no plan"), ("units", "there are no costs")):
        missing = FIGURES[name](RunData())
        assert isinstance(missing, Missing) and missing.reason == reason
