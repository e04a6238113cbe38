"""Runs that figures are drawn of: predictions of small plans, and the same times changed into measurements."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from loadahead.reports.run_data import RunData
from loadahead.sim.engines import simulate
from loadahead.sim.planner import Policy
from loadahead.sim.sweep import evaluate_point, grid
from loadahead.sim.timeline import Timeline
from tests.support.plans import GB, uniform_costs, uniform_plan, uniform_workload


def stretched(timeline: Timeline, by: float, source: str = "cpu") -> Timeline:
    """Return a step all of whose times are so many times as long."""

    def longer(times: Any) -> Any:
        return np.round(times * by).astype(np.int64)

    return replace(
        timeline,
        source=source,
        start_ns=longer(timeline.start_ns),
        end_ns=longer(timeline.end_ns),
        memory=replace(timeline.memory, t_ns=longer(timeline.memory.t_ns)),
    )


def prediction(ranks: int = 1, units: int = 2, costs: dict[str, Any] | None = None, **policy: Any) -> RunData:
    """Return a predicted run of uniform units over links of 250 MB/s, beside the step that keeps all."""
    made = uniform_costs(ranks, units, **{"d2h_bandwidth": GB // 4, "h2d_bandwidth": GB // 4} | (costs or {}))
    plan = uniform_plan(ranks, units, **policy)
    kept = simulate(uniform_plan(ranks, units, **policy | {"offload": False}), made)
    return RunData(plan=plan, costs=made, predicted=simulate(plan, made), keep_all=kept)


@cache
def both() -> RunData:
    """Return a run of two ranks, its measurement 5 % longer than predicted."""
    data = prediction(2, horizon=1, pipeline="interleaved", microbatches=6)
    assert data.predicted is not None
    return replace(data, measured=stretched(data.predicted, 1.05))


@cache
def sweep_data() -> RunData:
    """Return a sweep of horizons and microbatches."""
    axes = {"microbatches": (2, 4), "horizon": (1, 2, 4), "horizon_unit": ("tasks",)}
    costs = uniform_costs(1, 2, d2h_bandwidth=GB // 4, h2d_bandwidth=GB // 4)
    points = grid(uniform_workload(1, 2), costs, Policy(pipeline="simple", microbatches=4, ranks=1), axes)
    return RunData(sweep=tuple(evaluate_point(point, "compiled") for point in points))
