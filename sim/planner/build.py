"""The plan of a workload and a policy is built here: order -> tasks -> decisions -> lowering."""

from __future__ import annotations

from collections import Counter
from typing import Any

from loadahead.sim.errors import InputError
from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner.columns import lower_tasks
from loadahead.sim.planner.given import require_decisions
from loadahead.sim.planner.horizon import (
    AS_GIVEN,
    AS_TUNED,
    horizon_decisions,
    outcome_sentence,
    reasons_kept,
    too_small,
)
from loadahead.sim.planner.orders import Order
from loadahead.sim.planner.policy import AUTO, Policy
from loadahead.sim.planner.tasks import require_few_tasks, tasks_of, units_of
from loadahead.sim.workload import Workload


def build_plan(
    workload: Workload,
    policy: Policy,
    *,
    decisions: Decisions | None = None,
    name: str = "plan",
    echo: dict[str, Any] | None = None,
    sentence: str | None = None,
) -> Plan:
    """Return the plan of one step; raise InputError where workload, policy and decisions do not go together.

    Decisions that are given stand for those that the policy's horizon would make; a boundary that they do not name
    stays. Where tuning is to decide they have to be given, as it takes times. ``plan.policy`` holds ``echo`` (e.g. the
    scenario), the policy's fields, and the outcome: ``offloaded``, ``kept``, ``kept_because`` (reason -> count) and
    ``sentence``, the one given or else one that says these.
    """
    if decisions is None and policy.is_tuned:
        raise InputError(
            f'decisions is "{AUTO}", and which boundaries leave follows from times, which a plan is made without; tune '
            "it, and give the decisions found"
        )
    order = order_for(workload, policy)
    tasks = tasks_of(units_of(workload, order), order, workload.frozen_units)
    if decisions is None:
        sizes = workload.boundary_bytes()
        chosen, small = horizon_decisions(tasks, sizes, policy), too_small(tasks, sizes, policy)
        facts, kept = policy.to_dict(), reasons_kept(chosen.kept, len(small), policy)
        outcome_said = outcome_sentence(chosen.offloaded, kept, policy, small)
    else:
        chosen = require_decisions(decisions, tasks, policy.checkpoint)
        facts, kept = _without_horizon(policy), Counter({AS_TUNED if policy.is_tuned else AS_GIVEN: chosen.kept})
        outcome_said = f"{chosen.offloaded} of {len(chosen)} boundaries are offloaded, as the decisions given say."
    outcome = {
        "offloaded": chosen.offloaded,
        "kept": chosen.kept,
        "kept_because": {reason: count for reason, count in kept.items() if count or decisions is None},
        "sentence": outcome_said if sentence is None else sentence,
    }
    ops, buffers = lower_tasks(workload, tasks, order, chosen, policy.checkpoint, policy.receive_ahead)
    outcome = (echo or {}) | facts | outcome
    return Plan(name, order.ranks, order.microbatches, ops, buffers, outcome, frozen_units=tasks.frozen_units)


def order_for(workload: Workload, policy: Policy) -> Order:
    """Return the policy's order; raise InputError, before it is made, for more tasks than can be planned."""
    require_few_tasks(policy.microbatches, sum(map(len, workload.stages)))
    return policy.make_order()


def _without_horizon(policy: Policy) -> dict[str, Any]:
    """Return the policy's fields but those by which a horizon decides."""
    horizon = ("offload", "horizon", "horizon_unit", "release_window", "min_bytes")
    return {name: value for name, value in policy.to_dict().items() if name not in horizon}
