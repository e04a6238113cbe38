"""From a workload and a policy to a plan."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sim.ir.plan import Plan
from sim.planner.lower import Lowering
from sim.planner.offload import decide, sentence
from sim.planner.policy import Policy
from sim.planner.tasks import rank_tasks
from sim.workload import Workload


def build_plan(
    workload: Workload, policy: Policy, *, name: str = "plan", echo: dict[str, Any] | None = None
) -> Plan:
    """Plan one step.

    ``plan.policy`` holds ``echo`` (e.g. the scenario), the policy's fields, and what came of it: ``offloaded``,
    ``kept``, ``kept_because`` (reason -> count) and ``sentence``.
    """
    tasks = rank_tasks(workload, policy)
    offloads = [decide(mine, policy) for mine in tasks]
    rows, last_uses = Lowering(workload, policy, tasks, offloads).run()
    kept: Counter[str] = sum((decided.kept for decided in offloads), Counter())
    offloaded = sum(len(decided.release_slot) for decided in offloads)
    outcome = {
        "offloaded": offloaded,
        "kept": kept.total(),
        "kept_because": dict(kept),
        "sentence": sentence(offloaded, kept, policy),
    }
    facts = (echo or {}) | policy.to_dict() | outcome
    return rows.freeze(name, policy.ranks, policy.microbatches, facts, frees=last_uses)
