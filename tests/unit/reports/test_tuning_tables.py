"""The table of a frontier: of many budgets some are shown, and always that of the plan that was chosen."""

from __future__ import annotations

from dataclasses import replace

from loadahead.reports.tuning_tables import MOST_ROWS, frontier_grid
from loadahead.sim.planner.goal import Goal
from loadahead.sim.tuning import Frontier, Tuning
from tests.support.plans import MB, MS
from tests.support.tuned_runs import frontier_of
from tests.support.tunings import KEPT, TWO_LEAVE, tuning_of


def kept(budget: int, step_ms: int) -> Tuning:
    """Keeping all under a budget of MB, as if its step took so long."""
    found = tuning_of(KEPT, goal=Goal(boundary_memory=budget * MB))
    row = replace(found.chosen.row, step_time_ns=step_ms * MS)
    return replace(found, chosen=replace(found.chosen, row=row))


def of_many(at: int) -> tuple[Frontier, Tuning]:
    """A frontier of 40 budgets, each a little faster than the one before; the chosen plan is at one of them."""
    points = [kept(budget, 100 - budget) for budget in range(4, 44)]
    chosen = tuning_of(TWO_LEAVE, goal=Goal(boundary_memory=(at + 4) * MB))
    points[at] = replace(chosen, chosen=replace(chosen.chosen, row=points[at].chosen.row))
    return frontier_of(points, []), chosen


def test_the_chosen_plan_is_among_the_rows_that_are_shown() -> None:
    for at in range(40):
        frontier, chosen = of_many(at)
        grid = frontier_grid(frontier, chosen)
        assert len(grid.rows) == MOST_ROWS
        (marked,) = grid.marked
        step = frontier.points[at].tuning.chosen.row.step_time_ns // MS
        assert grid.rows[marked][1] == f"{step} ms"
        assert (grid.rows[0][1], grid.rows[-1][1]) == ("96 ms", "57 ms")
        steps = [int(row[1].split()[0]) for row in grid.rows]
        assert steps == sorted(set(steps), reverse=True)


def test_a_budget_has_one_row_the_fastest() -> None:
    frontier = frontier_of([kept(4, 90), kept(5, 80), kept(5, 70), kept(6, 60)], [])
    assert [row[1] for row in frontier_grid(frontier, tuning_of()).rows] == ["90 ms", "70 ms", "60 ms"]


def test_the_mark_of_a_plan_that_misses_its_budget_is_no_choice() -> None:
    met, missed = tuning_of(), tuning_of(goal=Goal(boundary_memory=2 * MB))
    frontier = frontier_of([met], [])
    assert frontier_grid(frontier, met).note == "Marked: the plan that was chosen."
    assert frontier_grid(frontier, missed).note == "Marked: the nearest plan."
