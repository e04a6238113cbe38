"""Runs of tuned plans, in memory and as directories, whose decisions are given so that no search changes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from loadahead.reports.run_data import RunData
from loadahead.reports.run_directory import COSTS, KEEP_ALL, PLAN, PREDICTED, TUNING
from loadahead.reports.tuning_facts import tuning_facts
from loadahead.sim.costs import save_costs
from loadahead.sim.engines import simulate
from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.ir.json_form import save_plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.planner.goal import Goal
from loadahead.sim.timeline import write_timeline
from loadahead.sim.tuning import Candidate, Frontier, FrontierPoint, Tuning, reasons_of, tuning_to_dict
from loadahead.sim.tuning.trial import Trial
from tests.support.plans import GB, MB, MS, uniform_costs, uniform_workload
from tests.support.tunings import KEPT, TWO_LEAVE, bound_of, candidate, trial_of, tuning_of

Slots = Mapping[int, tuple[int, int]]


def by_horizon(trial: Trial, horizon: int) -> Candidate:
    """The plan of a horizon in tasks."""
    policy = replace(trial.policy, horizon=horizon)
    made = Decisions.of(build_plan(trial.workload, policy))
    return trial.candidate(made.release.copy(), made.acquire.copy(), policy)


def frontier_of(tunings: Sequence[Tuning], horizons: Sequence[Candidate]) -> Frontier:
    """The frontier of tunings under budgets of boundaries, beside horizons."""
    rows = []
    for one in horizons:
        axes = {"horizon": one.policy.horizon, "horizon_unit": "tasks", "release_window": one.policy.release_window}
        rows.append(replace(one.row, axes=axes))
    budgets = [one.limits.boundary_bytes or 0 for one in tunings]
    points = (FrontierPoint(budget_bytes=budget, tuning=one) for budget, one in zip(budgets, tunings, strict=True))
    return Frontier(of_boundaries=True, points=tuple(points), horizons=tuple(rows), keep_all=tunings[0].keep_all.row)


def run_of(tuning: Tuning, frontier: Frontier | None, trial: Trial) -> RunData:
    """The run of a tuned plan."""
    chosen, policy = tuning.chosen, trial.policy
    plan = build_plan(trial.workload, policy, decisions=chosen.decisions, name="tuned")
    kept = build_plan(trial.workload, policy, decisions=tuning.keep_all.decisions, name="tuned")
    return RunData(
        plan=plan,
        costs=trial.costs,
        predicted=simulate(plan, trial.costs),
        keep_all=simulate(kept, trial.costs),
        tuning=tuning_facts(tuning_to_dict(tuning, frontier, reasons_of(tuning, trial.workload, trial.costs))),
    )


@cache
def small() -> RunData:
    """The step of tests/support/tunings.py: under 3 MB two of four boundaries leave, for 14 ms instead of 12.

    Horizons 1 and 2 stand beside it.
    """
    trial = trial_of()
    tunings = [
        tuning_of(TWO_LEAVE, horizon=by_horizon(trial, 1)),
        tuning_of(KEPT, goal=Goal(boundary_memory=4 * MB), bound=bound_of(12 * MS)),
    ]
    return run_of(tunings[0], frontier_of(tunings, [by_horizon(trial, 1), by_horizon(trial, 2)]), trial)


@cache
def nothing_leaves() -> RunData:
    """The same step with room for all."""
    trial = trial_of()
    tuning = tuning_of(KEPT, goal=Goal())
    return run_of(tuning, None, trial)


@cache
def not_met() -> RunData:
    """The same step under a budget that its nearest plan does not keep."""
    trial = trial_of()
    tuning = tuning_of(TWO_LEAVE, goal=Goal(boundary_memory=2 * MB))
    return run_of(tuning, frontier_of([tuning_of(TWO_LEAVE)], []), trial)


@cache
def many(ranks: int = 4, units: int = 2, microbatches: int = 8) -> RunData:
    """1F1B over several ranks, in which even microbatches leave where there is time."""
    workload = uniform_workload(ranks, units)
    costs = uniform_costs(ranks, units, d2h_bandwidth=2 * GB, h2d_bandwidth=2 * GB)
    trial = Trial(workload, costs, Policy(pipeline="interleaved", microbatches=microbatches, ranks=ranks))
    forward, backward = trial.tasks.forward_at.tolist(), trial.tasks.backward_at.tolist()
    slots: Slots = {
        at: (first + 3, last - 1)
        for at, (first, last) in enumerate(zip(forward, backward, strict=True))
        if at % microbatches % 2 == 0 and first + 3 < last - 1
    }
    horizons = [by_horizon(trial, horizon) for horizon in (1, 2, 4, 8)]
    chosen, kept = candidate(trial, slots).row, candidate(trial, KEPT).row
    bound = bound_of(kept.step_time_ns, "link", 1)
    tuning = tuning_of(slots, Goal(boundary_memory=chosen.peak_boundary_bytes), horizons[-1], trial, bound)
    most = tuning_of(KEPT, Goal(boundary_memory=kept.peak_boundary_bytes), horizons[-1], trial, bound)
    return run_of(tuning, frontier_of([tuning, most], horizons), trial)


def write_tuned(root: Path, data: RunData, tuning: Mapping[str, Any]) -> Path:
    """Write a run and what tuning found as a directory, as tuning writes one."""
    root.mkdir(parents=True, exist_ok=True)
    assert data.plan is not None and data.costs is not None and data.predicted is not None
    save_plan(data.plan, root / PLAN)
    save_costs(data.costs, root / COSTS)
    write_timeline(data.predicted, root / PREDICTED)
    if data.keep_all is not None and data.plan.policy["offloaded"]:
        write_timeline(data.keep_all, root / KEEP_ALL)
    (root / TUNING).write_text(json.dumps(tuning), encoding="utf-8")
    return root


def plain_of(data: RunData) -> dict[str, Any]:
    """What tuning found, as the file of a run in memory would have it."""
    assert data.tuning is not None
    plain: dict[str, Any] = data.tuning.model_dump(mode="json")
    return plain
