"""A job on the simulator's clock, and what else is predicted of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead.jobs import Job, named
from loadahead.sim.engines import DEFAULT_ENGINE
from loadahead.sim.engines import simulate as run_engine
from loadahead.sim.step_metrics import CAPACITY, HOST_CAPACITY

if TYPE_CHECKING:
    from loadahead.sim.costs import Costs
    from loadahead.sim.stall_free import StallFree
    from loadahead.sim.timeline import Timeline


def predict(job: Job, costs: Costs, engine: str = DEFAULT_ENGINE) -> Timeline:
    """Return the job's predicted timeline; its header says the scenario and all warnings."""
    with named(job.name):
        timeline = run_engine(job.plan, costs, engine)
    warnings = [*job.warnings, *timeline.header["warnings"]]
    return replace(timeline, header={"scenario": job.name, **timeline.header, "warnings": warnings})


def result_of(job: Job, step: Timeline) -> dict[str, Any]:
    """Return a step's results as plain data (DESIGN, section 4, simulate). Times are in ns, sizes in bytes."""
    metrics = step.metrics.to_dict()
    ranks = metrics.pop("ranks")
    return {
        "scenario": job.name,
        "engine": step.source,
        **metrics,
        "ranks": ranks,
        "costs": step.header["costs"],
        CAPACITY: step.header[CAPACITY],
        HOST_CAPACITY: step.header[HOST_CAPACITY],
        "contended": step.header.get("contended", []),
        "warnings": step.header["warnings"],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is predicted of a job.

    Attributes:
        job: the plan and where it came from.
        step: the step on the simulator's clock.
        searched: whether a horizon without stalls was searched.
        stall_free: the smallest such horizon and what larger ones cost; None where there is none.
        jitter: how far the step's time spreads, as the command line's JSON has it; None where it was not asked for.
    """

    job: Job
    step: Timeline
    searched: bool
    stall_free: StallFree | None
    jitter: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as plain data (DESIGN, section 4, simulate)."""
        out = result_of(self.job, self.step)
        if self.searched:
            out["stall_free_horizon"] = None if self.stall_free is None else self.stall_free.to_dict()
        if self.jitter is not None:
            out["jitter"] = self.jitter
        return out


def prediction_of(job: Job, costs: Costs, step: Timeline, draws: int | None, seed: int | None) -> Prediction:
    """Return a predicted step with the horizon that has no stalls, and with its jitter where that is asked for.

    Draws and seed are asked for here, or by the scenario's ``[jitter]``.
    """
    policy = None if job.prepared is None else job.prepared.policy
    searched = job.by_horizon and policy is not None and policy.checkpoint and policy.offload
    return Prediction(
        job=job,
        step=step,
        searched=searched,
        stall_free=_stall_free(job, costs) if searched else None,
        jitter=_jitter(job, costs, step, draws, seed),
    )


def write_prediction(job: Job, costs: Costs, predicted: Timeline, directory: Path) -> None:
    """Write plan, costs and predicted timeline into a run directory, which is made where it is not there yet."""
    from loadahead.plan_files import write_plan
    from loadahead.reports import run_directory
    from loadahead.sim.costs import save_costs
    from loadahead.sim.timeline import write_timeline

    run_directory.make(directory)
    write_plan(job.plan, directory / run_directory.PLAN)
    save_costs(costs, directory / run_directory.COSTS)
    write_timeline(predicted, directory / run_directory.PREDICTED)


def _stall_free(job: Job, costs: Costs) -> StallFree | None:
    from loadahead.sim.stall_free import stall_free

    prepared = job.known()
    with named(job.name):
        return stall_free(prepared.workload, costs, prepared.policy)


def _jitter(job: Job, costs: Costs, step: Timeline, draws: int | None, seed: int | None) -> dict[str, Any] | None:
    from loadahead.sim.jitter import Spread, draws_ignore_sharing, jitter_summary, step_times

    scenario = job.prepared.scenario if job.prepared is not None else None
    if draws is None and seed is None and (scenario is None or "jitter" not in scenario.model_fields_set):
        return None
    written = scenario.jitter.model_dump() if scenario is not None else {}
    asked = {name: value for name, value in (("draws", draws), ("seed", seed)) if value is not None}
    spread = Spread(**written | asked)
    with named(job.name):
        times = step_times(job.plan, costs, spread)
        unlike = bool(step.header["contended"]) and draws_ignore_sharing(job.plan, costs)
    return jitter_summary(times, spread, unlike)
