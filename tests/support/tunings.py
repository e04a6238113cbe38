"""Tunings for tests whose plans are given slot by slot, so that all that is said of them can be reckoned by hand."""

from __future__ import annotations

from collections.abc import Mapping

from loadahead.sim.costs import Costs
from loadahead.sim.planner import Policy
from loadahead.sim.planner.goal import Goal
from loadahead.sim.tuning import Bound, Candidate, Limits, Tuning
from loadahead.sim.tuning.trial import Trial
from loadahead.sim.workload import Workload
from tests.support.plans import MB, MS, uniform_costs, uniform_workload

# One rank, one unit, 4 microbatches: FORWARDs end after 1 to 4 ms, BACKWARDs of 2 ms each follow. A copy takes 1 ms.
WORKLOAD, COSTS = uniform_workload(1), uniform_costs(1)
POLICY = Policy(pipeline="simple", microbatches=4, ranks=1)
KEPT: Mapping[int, tuple[int, int]] = {}
# Boundary 0 leaves before F2 and is taken back before B0, boundary 3 leaves before B0 and is taken back before B2. So
# never more than three are there. The RELEASE of 3 waits for its copy from 4 to 5 ms, B0 for that of 0 from 5 to 6 ms,
# and the step takes 14 ms instead of 12.
TWO_LEAVE: Mapping[int, tuple[int, int]] = {0: (2, 4), 3: (4, 6)}


def trial_of(workload: Workload = WORKLOAD, costs: Costs = COSTS, policy: Policy = POLICY) -> Trial:
    """The trial of the step above, or of another one."""
    return Trial(workload, costs, policy)


def candidate(trial: Trial, slots: Mapping[int, tuple[int, int]], policy: Policy | None = None) -> Candidate:
    """The plan in which these boundaries leave, each with the slots of its RELEASE and its ACQUIRE."""
    release, acquire = trial.slots_of_nothing()
    for boundary, (out, back) in slots.items():
        release[boundary], acquire[boundary] = out, back
    return trial.candidate(release, acquire, policy)


def bound_of(ns: int, limited_by: str = "compute", rank: int | None = 0) -> Bound:
    """A bound of so many ns."""
    return Bound(step_time_ns=ns, limited_by=limited_by, rank=rank, compute_ns=ns, link_ns=0, critical_path_ns=0)


def tuning_of(
    slots: Mapping[int, tuple[int, int]] = TWO_LEAVE,
    goal: Goal | None = None,
    horizon: Candidate | None = None,
    trial: Trial | None = None,
    bound: Bound | None = None,
) -> Tuning:
    """The tuning that chose this plan, under 3 MB of boundaries where no goal is given."""
    own = trial_of() if trial is None else trial
    stated = Goal(boundary_memory=3 * MB) if goal is None else goal
    limits = Limits.of(stated, own.costs)
    chosen, keep_all = candidate(own, slots), candidate(own, KEPT, own.policy)
    within = stated.limit_ns(keep_all.row.step_time_ns)
    return Tuning(
        goal=stated,
        limits=limits,
        chosen=chosen,
        missing=limits.missing(chosen.row),
        keep_all=keep_all,
        horizon=horizon,
        horizons=312,
        bound=bound_of(12 * MS) if bound is None else bound,
        limit_ns=within,
    )
