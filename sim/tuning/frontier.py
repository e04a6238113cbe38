"""What each budget of memory costs in time: the best plan under each, with the horizons beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from loadahead.sim.costs import Costs
from loadahead.sim.planner import Policy
from loadahead.sim.planner.goal import Goal
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.tuning.answer import Candidate, Frontier, FrontierPoint
from loadahead.sim.tuning.tune import Tuner
from loadahead.sim.workload import Workload

# So many budgets are looked at where nobody says how many.
BUDGETS = 50
# How much of the effort for one budget is made for each.
EFFORT = 0.1


def frontier(
    workload: Workload,
    costs: Costs,
    policy: Policy,
    goal: Goal,
    budgets: int = BUDGETS,
    beside: Candidate | None = None,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Frontier:
    """Return the best plan under each of so many budgets, from the least that some plan keeps to what all take.

    Budgets limit the boundaries where the goal does, else the whole device; the host's limit is the goal's. A plan
    ``beside`` that was found before is no slower than those under its own peak and more. ``step`` is called with how
    many budgets are done, and of how many.
    """
    tuner = Tuner(workload, costs, policy)
    of_boundaries = goal.boundary_memory is not None
    keep_all = tuner.keep_all
    ends = [one.peak_bytes(of_boundaries) for one in [keep_all, *tuner.leave_all()]]
    low, high = min(ends), ends[0]
    steps = max(budgets - 1, 1)
    points: list[FrontierPoint] = []
    # A plan under a smaller budget keeps the larger ones too, so that more memory never costs time.
    known: list[Candidate] = []
    asked = sorted({low + (high - low) * number // steps for number in range(budgets)})
    for done, budget in enumerate(asked):
        step(done, len(asked))
        more = [beside] if beside is not None and beside.peak_bytes(of_boundaries) <= budget else []
        found = tuner.tune(_under(goal, budget), [*known, *more], EFFORT)
        if found.fits:
            points.append(FrontierPoint(budget_bytes=budget, tuning=found))
            known = [found.chosen]
    step(len(asked), len(asked))
    if beside is not None:
        peak = beside.peak_bytes(of_boundaries)
        _put(points, FrontierPoint(budget_bytes=peak, tuning=tuner.answer(_under(goal, peak), beside)))
    for one in sorted(tuner.horizons, key=lambda one: one.peak_bytes(of_boundaries)):
        _tune_between(points, one, tuner, goal)
    points = [_no_slower(point, points[:place], tuner, goal) for place, point in enumerate(points)]
    return Frontier(
        of_boundaries=of_boundaries,
        points=tuple(points),
        horizons=tuple(_named(one) for one in tuner.horizons),
        keep_all=keep_all.row,
    )


def _put(points: list[FrontierPoint], new: FrontierPoint) -> None:
    """Put a point in its place, instead of one of the same budget."""
    points[:] = sorted(
        [*(point for point in points if point.budget_bytes != new.budget_bytes), new],
        key=lambda point: point.budget_bytes,
    )


def _tune_between(points: list[FrontierPoint], one: Candidate, tuner: Tuner, goal: Goal) -> None:
    """Add the budget of a horizon that lies between others and is faster than the plan under the one before."""
    peak = one.peak_bytes(goal.boundary_memory is not None)
    before = [point for point in points if point.budget_bytes <= peak]
    if before and one.row.step_time_ns < before[-1].tuning.chosen.row.step_time_ns:
        found = tuner.tune(_under(goal, peak), [one, before[-1].tuning.chosen], EFFORT)
        if found.fits:
            _put(points, FrontierPoint(budget_bytes=peak, tuning=found))


def _no_slower(point: FrontierPoint, before: Sequence[FrontierPoint], tuner: Tuner, goal: Goal) -> FrontierPoint:
    """Return a point, with the fastest plan of those under less memory where that is faster."""
    fastest = min((other.tuning.chosen for other in before), key=lambda one: one.row.step_time_ns, default=None)
    if fastest is None or fastest.row.step_time_ns >= point.tuning.chosen.row.step_time_ns:
        return point
    return replace(point, tuning=tuner.answer(_under(goal, point.budget_bytes), fastest))


def _under(goal: Goal, budget: int) -> Goal:
    """Return the goal of the shortest step under a budget, other limits as they are."""
    name = "memory" if goal.boundary_memory is None else "boundary_memory"
    return replace(goal, within=None, **{name: budget})


def _named(one: Candidate) -> SweepRow:
    policy = one.policy
    axes = {
        "horizon": policy.horizon,
        "horizon_unit": policy.horizon_unit,
        "release_window": policy.release_window,
        "microbatches": policy.microbatches,
    }
    return replace(one.row, axes=axes)
