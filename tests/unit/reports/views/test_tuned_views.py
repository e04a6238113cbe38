"""Figures of a tuned plan: their numbers by hand, and sentences that say no more than these."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from loadahead.reports.plots import PLOTS, Drawing, Layout
from loadahead.reports.run_data import RunData
from loadahead.reports.tuning_facts import Budgeted, FrontierFacts, Taken, TuningFacts
from loadahead.reports.views.base import Missing
from loadahead.reports.views.tuned_boundaries import NONE, STAY, TunedBoundaries, level, tuned_boundaries
from loadahead.reports.views.tuned_frontier import FrontierPlace, TunedFrontier, tuned_frontier
from loadahead.sim.engines import simulate
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support import tuned_runs
from tests.support.plans import MB, MS, uniform_costs, uniform_workload


def taken(megabytes: int, ms: int) -> Taken:
    size = megabytes * MB
    return Taken(
        step_time_ns=ms * MS, peak_device_bytes=size + MB, peak_boundary_bytes=size, host_bytes=0, offloaded=1, kept=3
    )


def budgeted(budget: int, megabytes: int, ms: int, bound_ms: int) -> Budgeted:
    own = taken(megabytes, ms).model_dump()
    return Budgeted(**own, budget_bytes=budget * MB, bound_ns=bound_ms * MS)


def data_of(points: list[Budgeted], horizons: list[Taken], chosen: Taken, **changes: object) -> RunData:
    """A run whose boundaries may take 5 MB, and whose step takes 50 ms where all 8 MB stay."""
    small = tuned_runs.small()
    assert small.tuning is not None
    frontier = FrontierFacts(of_boundaries=True, points=tuple(points), horizons=tuple(horizons), keep_all=taken(8, 50))
    limits = small.tuning.limits.model_copy(update={"boundary_bytes": 5 * MB})
    own: dict[str, object] = {"frontier": frontier, "limits": limits, "chosen": chosen}
    return replace(small, tuning=small.tuning.model_copy(update=own | changes))


# Tuned for 3, 5 and 8 MB; the plan for 5 MB takes 4. Horizons: 3 MB for 80 ms, 5 MB for 60 ms, 8 MB for 50 ms.
POINTS = [budgeted(3, 3, 70, 60), budgeted(5, 4, 54, 54), budgeted(8, 8, 50, 50)]
HORIZONS = [taken(3, 80), taken(5, 60), taken(8, 50)]


def frontier_view(data: RunData) -> TunedFrontier:
    found = tuned_frontier(data)
    assert isinstance(found, TunedFrontier)
    return found


def test_the_frontier_by_hand() -> None:
    found = frontier_view(data_of(POINTS, HORIZONS, taken(4, 54)))
    assert [(step.budget_bytes, step.step_ns, step.bound_ns, step.horizon_ns) for step in found.steps] == [
        (3 * MB, 70 * MS, 60 * MS, 80 * MS),
        (5 * MB, 54 * MS, 54 * MS, 60 * MS),
        (8 * MB, 50 * MS, 50 * MS, 50 * MS),
    ]
    assert found.front == tuple(
        FrontierPlace(nbytes=size * MB, step_ns=ms * MS) for size, ms in ((3, 70), (4, 54), (8, 50))
    )
    assert found.budget_bytes == 5 * MB and found.far_bytes is None
    # 80 / 70 is 1.143 and 60 / 54 is 1.111; 70 / 60 is 1.167.
    assert found.sentences == [
        "The line is the shortest step found in so much memory, at 3 budgets of boundaries, 2.861 MiB to 7.629 MiB.",
        "Below the dashed line there is no plan of this order in so much memory; plans found are at most +16.7 % above "
        "it, and 2 of 3 reach it.",
        "Dots are 3 horizons, each at what it needs.",
        "In 2 of these budgets the best horizon that keeps it takes longer than the tuned plan, by up to "
        "14.3 % (at 2.861 MiB).",
        "The ring is the chosen plan: 3.815 MiB, 54 ms.",
        "At the square every boundary stays: 7.629 MiB, 50 ms.",
        "The dotted line is the budget.",
    ]
    assert found.numbers.rows[0] == ("2.861 MiB", "70 ms", "60 ms", "+16.7 %", "80 ms", "+14.3 %")


def test_a_plan_does_for_every_budget_that_it_keeps() -> None:
    """The chosen plan was tuned for 5 MB, which is none of these budgets, and is faster than what 6 MB found."""
    found = frontier_view(data_of([budgeted(6, 6, 58, 50)], [], taken(5, 55)))
    assert [step.step_ns for step in found.steps] == [55 * MS]
    assert found.front == (FrontierPlace(nbytes=5 * MB, step_ns=55 * MS),)


def test_a_horizon_that_is_faster_is_told() -> None:
    said = frontier_view(data_of([budgeted(5, 5, 60, 50)], [taken(4, 55)], taken(5, 60))).sentences
    assert "In 1 of these budgets a horizon that keeps it takes less time than the tuned plan." in said


def test_a_budget_that_no_horizon_keeps_has_none_beside_it() -> None:
    found = frontier_view(data_of(POINTS, [taken(8, 55)], taken(4, 54)))
    assert [step.horizon_ns for step in found.steps] == [None, None, 55 * MS]
    assert found.numbers.rows[0][-2:] == ("–", "–")


def test_horizons_that_would_flatten_the_rest_are_counted() -> None:
    """80 ms is the longest of all else: 1.3 times that are 91 ms, and twice that is not drawn."""
    found = frontier_view(data_of(POINTS, [*HORIZONS, taken(2, 400)], taken(4, 54)))
    assert (len(found.horizons), found.not_drawn) == (3, 1)
    assert "Dots are 3 horizons, each at what it needs; 1 that takes far more is not drawn." in found.sentences


@pytest.mark.parametrize(("limit", "side"), [(MB, "left"), (20 * MB, "right")])
def test_a_budget_far_from_all_plans_is_not_drawn_and_told(limit: int, side: str) -> None:
    data = data_of(POINTS, HORIZONS, taken(4, 54))
    assert data.tuning is not None
    limits = data.tuning.limits.model_copy(update={"boundary_bytes": limit})
    found = frontier_view(replace(data, tuning=data.tuning.model_copy(update={"limits": limits})))
    assert found.budget_bytes is None
    assert any(f"is to the {side} of what is drawn." in sentence for sentence in found.sentences)


def test_a_frontier_that_was_not_made_is_missing_with_a_reason() -> None:
    found = tuned_frontier(tuned_runs.nothing_leaves())
    assert isinstance(found, Missing) and not found.absent and found.reason == "no other budgets were tuned"
    none = tuned_frontier(RunData())
    assert isinstance(none, Missing) and none.absent


def map_of(data: RunData) -> TunedBoundaries:
    found = tuned_boundaries(data)
    assert isinstance(found, TunedBoundaries)
    return found


def test_the_map_by_hand() -> None:
    """0 is away for 3 of 14 ms, 21 %, and 3 for 5 ms, 36 %; see tests/support/tunings.py."""
    found = map_of(tuned_runs.small())
    assert [stage.levels for stage in found.stages] == [((1, STAY, STAY, 2),)]
    (rank,) = found.ranks
    assert (rank.boundaries, rank.leave, rank.leave_bytes, rank.shortest_ns, rank.longest_ns) == (
        4,
        2,
        2 * MB,
        3 * MS,
        5 * MS,
    )
    assert found.sentences == [
        "A row is a unit, from the model's first at the top, and a column a microbatch: 2 of 4 boundaries leave, 2 "
        "stay.",
        "Colours say how long each is away, from RELEASE to ACQUIRE: 3 ms to 5 ms, at most 36 % of the step.",
    ]
    assert found.numbers.rows == (("0", "4", "2", "1.907 MiB", "3 ms", "5 ms"),)


@pytest.mark.parametrize(("away", "expected"), [(0, 0), (10, 0), (11, 1), (25, 1), (26, 2), (50, 2), (51, 3), (99, 3)])
def test_levels(away: int, expected: int) -> None:
    assert level(away, 100) == expected


def test_every_boundary_has_a_cell_and_ranks_are_counted() -> None:
    found = map_of(tuned_runs.many())
    cells = [one for stage in found.stages for row in stage.levels for one in row]
    assert len(cells) == 4 * 2 * 8 and found.units == 8
    assert sum(rank.leave for rank in found.ranks) == sum(one != STAY for one in cells)
    # Rank 3 runs each BACKWARD directly after its FORWARD.
    assert [rank.leave == 0 for rank in found.ranks] == [False, False, False, True]
    assert "Most leave on rank 0, 8 of 16; 1 rank keeps everything." in found.sentences


def test_frozen_units_have_no_cells() -> None:
    shape = uniform_workload(1, 3)
    frozen = Workload(stages=shape.stages, frozen_units=1)
    costs = uniform_costs(1, 3)
    plan = build_plan(frozen, Policy(pipeline="simple", microbatches=4, ranks=1, horizon=1))
    small = tuned_runs.small()
    found = map_of(replace(small, plan=plan, costs=costs, predicted=simulate(plan, costs)))
    assert found.stages[0].levels[0] == (NONE,) * 4 and NONE not in found.stages[0].levels[1]
    assert found.sentences[-1] == "Units that are not trained have no boundary that waits, and no cells."


@pytest.mark.parametrize("gone", ["plan", "predicted"])
def test_a_map_needs_the_plan_and_its_step(gone: str) -> None:
    found = tuned_boundaries(replace(tuned_runs.small(), **{gone: None}))
    assert isinstance(found, Missing) and not found.absent


@cache
def drawn(name: str, layout: Layout) -> Drawing:
    found = PLOTS[name](data_of(POINTS, HORIZONS, taken(4, 54)), layout)
    assert isinstance(found, Drawing)
    found.figure.draw_without_rendering()
    return found


@pytest.mark.parametrize("layout", Layout)
def test_a_bound_is_drawn_down_to_the_next_smaller_budget(layout: Layout) -> None:
    """Between 3 and 5 MB the line is what 3 MB found until 4 MB, and the bound is that of 5 MB, the larger budget."""
    axes = drawn("tuned_frontier", layout).figure.axes[0]
    (tuned,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    (bound,) = [line for line in axes.lines if line.get_drawstyle() == "steps-pre"]
    assert [round(float(y)) for y in tuned.get_ydata()] == [70, 54, 50, 50]
    assert [round(float(y)) for y in bound.get_ydata()] == [60, 54, 50]


def test_captions_are_the_views() -> None:
    for layout in Layout:
        caption = drawn("tuned_frontier", layout).caption
        said = " ".join(frontier_view(data_of(POINTS, HORIZONS, taken(4, 54))).sentences)
        assert caption == f"{said} The axes do not start at zero."
        assert drawn("tuned_boundaries", layout).caption == " ".join(map_of(tuned_runs.small()).sentences)


def test_facts_are_read_as_they_were_written() -> None:
    data = tuned_runs.many()
    assert data.tuning is not None
    assert TuningFacts.model_validate_json(data.tuning.model_dump_json()) == data.tuning
