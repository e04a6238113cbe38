"""The best plan of one workload, order and goal is looked for here."""

from __future__ import annotations

from collections.abc import Callable

from loadahead.sim.costs import Costs
from loadahead.sim.planner import Policy
from loadahead.sim.planner.goal import Goal
from loadahead.sim.tuning.answer import Candidate, Tuning
from loadahead.sim.tuning.bound_of_order import bound_of
from loadahead.sim.tuning.horizons import horizon_candidates
from loadahead.sim.tuning.limits import Limits
from loadahead.sim.tuning.trial import Trial
from loadahead.sim.workload import Workload


def tune(
    workload: Workload,
    costs: Costs,
    policy: Policy,
    goal: Goal,
    tell: Callable[[str], None] = lambda _: None,
) -> Tuning:
    """Return the plan that reaches the goal best, of the policy's order and with its checkpointing.

    ``tell`` is called before work that takes about a second or more, with what is done. Raise InputError where
    workload, costs and policy do not go together.
    """
    trial = Trial(workload, costs, policy)
    limits = Limits.of(goal, costs)
    nothing = trial.slots_of_nothing()
    keep_all = trial.candidate(*nothing, policy=trial.policy)
    horizons = horizon_candidates(trial) if policy.checkpoint else []
    fitting = [one for one in horizons if not limits.missing(one.row).total]
    best = min(fitting, key=_rank, default=None)
    chosen = min([keep_all, *horizons], key=lambda one: (limits.missing(one.row).total, *_rank(one)))
    return Tuning(
        goal=goal,
        limits=limits,
        chosen=chosen,
        missing=limits.missing(chosen.row),
        keep_all=keep_all,
        horizon=best,
        horizons=len(horizons),
        bound=bound_of(trial, limits, keep_all),
    )


def _rank(one: Candidate) -> tuple[int, ...]:
    row = one.row
    return row.step_time_ns, row.peak_device_bytes, row.host_bytes, row.offloaded
