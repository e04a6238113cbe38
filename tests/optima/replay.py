"""A solution's decisions as a plan: proven, and timed by every engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from loadahead.sim.engines import ENGINES, simulate
from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.planner import build_plan
from loadahead.sim.verify import verify
from tests.optima.problem import Instance


def replayed(instance: Instance, rows: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """The step time in ns and the largest peak of boundary bytes of the plan; AssertionError unless it is proven."""
    workload, costs, policy = instance.problem()
    plan = build_plan(workload, policy, decisions=Decisions.from_rows(rows), name=instance.name)
    assert verify(plan) == [], f"{instance.name}: the plan is not safe"
    found = set()
    for engine in ENGINES:
        metrics = simulate(plan, costs, engine).metrics
        found.add((metrics.step_time_ns, max(rank.peak_boundary_bytes for rank in metrics.ranks)))
    assert len(found) == 1, f"{instance.name}: the engines disagree: {found}"
    return found.pop()
