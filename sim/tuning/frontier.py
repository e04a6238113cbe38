"""What each budget of memory costs in time: the best plan under each, with the horizons beside them."""

from __future__ import annotations

from collections.abc import Callable
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
EFFORT = 0.5


def frontier(
    workload: Workload,
    costs: Costs,
    policy: Policy,
    goal: Goal,
    budgets: int = BUDGETS,
    tell: Callable[[str], None] = lambda _: None,
) -> Frontier:
    """Return the best plan under each of so many budgets, from the least that some plan keeps to what all take.

    Budgets limit the boundaries where the goal does, else the whole device; the host's limit is the goal's.
    """
    tuner = Tuner(workload, costs, policy, tell)
    of_boundaries = goal.boundary_memory is not None
    keep_all, least = tuner.keep_all, tuner.keep_all
    if tuner.may_offload:
        least = tuner.solver.leave_all()
    low, high = _peak(least, of_boundaries), _peak(keep_all, of_boundaries)
    steps = max(budgets - 1, 1)
    points: list[FrontierPoint] = []
    # A plan under a smaller budget keeps the larger ones too, so that more memory never costs time.
    known: list[Candidate] = []
    for budget in sorted({low + (high - low) * step // steps for step in range(budgets)}):
        own = {"boundary_memory": budget} if of_boundaries else {"memory": budget}
        found = tuner.tune(replace(goal, within=None, **own), known, EFFORT)
        if found.fits:
            points.append(FrontierPoint(budget_bytes=budget, tuning=found))
            known = [found.chosen]
    return Frontier(
        of_boundaries=of_boundaries,
        points=tuple(points),
        horizons=tuple(_named(one) for one in tuner.horizons),
        keep_all=keep_all.row,
    )


def _peak(one: Candidate, of_boundaries: bool) -> int:
    return one.row.peak_boundary_bytes if of_boundaries else one.row.peak_device_bytes


def _named(one: Candidate) -> SweepRow:
    policy = one.policy
    axes = {
        "horizon": policy.horizon,
        "horizon_unit": policy.horizon_unit,
        "release_window": policy.release_window,
        "microbatches": policy.microbatches,
    }
    return replace(one.row, axes=axes)
