"""What each budget of memory costs in time: the best plan under each, with the horizons beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from loadahead.sim.costs import Costs
from loadahead.sim.planner import Policy
from loadahead.sim.planner.goal import Goal
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.tuning.answer import Candidate, Frontier, FrontierPoint
from loadahead.sim.tuning.horizons import horizon_candidates
from loadahead.sim.tuning.trial import Trial
from loadahead.sim.tuning.tune import tune
from loadahead.sim.workload import Workload

# So many budgets are looked at where nobody says how many.
BUDGETS = 50


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
    trial = Trial(workload, costs, policy)
    of_boundaries = goal.boundary_memory is not None
    keep_all = trial.candidate(*trial.slots_of_nothing(), policy=trial.policy)
    horizons = horizon_candidates(trial) if policy.checkpoint else []
    peaks = [_peak(one, of_boundaries) for one in [keep_all, *horizons]]
    least, most = min(peaks), peaks[0]
    steps = max(budgets - 1, 1)
    points = []
    for budget in sorted({least + (most - least) * step // steps for step in range(budgets)}):
        own = {"boundary_memory": budget} if of_boundaries else {"memory": budget}
        found = tune(workload, costs, policy, replace(goal, within=None, **own), tell)
        if found.fits:
            points.append(FrontierPoint(budget_bytes=budget, tuning=found))
    return Frontier(
        of_boundaries=of_boundaries,
        points=tuple(points),
        horizons=tuple(_named(one) for one in horizons),
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
