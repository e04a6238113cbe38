"""A job on the simulator's clock, and the predicted step as plain data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead.jobs import Job, named
from loadahead.sim.engines import DEFAULT_ENGINE
from loadahead.sim.engines import simulate as run_engine

if TYPE_CHECKING:
    from loadahead.sim.costs import Costs
    from loadahead.sim.timeline import Timeline


def predict(job: Job, costs: Costs, engine: str = DEFAULT_ENGINE) -> Timeline:
    """Return the job's predicted timeline; its header says the scenario and all warnings."""
    with named(job.name):
        timeline = run_engine(job.plan, costs, engine)
    warnings = [*job.warnings, *timeline.header["warnings"]]
    return replace(timeline, header={"scenario": job.name, **timeline.header, "warnings": warnings})


def result_of(job: Job, predicted: Timeline) -> dict[str, Any]:
    """Return a step's results as plain data (DESIGN, section 4, simulate). Times are in ns, sizes in bytes."""
    summary = predicted.header["summary"]
    return {
        "scenario": job.name,
        "engine": predicted.source,
        "step_time_ns": summary["step_time_ns"],
        "offloaded": summary["offloaded"],
        "kept": summary["kept"],
        "ranks": summary["ranks"],
        "costs": predicted.header["costs"],
        "capacity_bytes": predicted.header["capacity_bytes"],
        "contended": predicted.header.get("contended", []),
        "warnings": predicted.header["warnings"],
    }


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


def stall_free_of_job(job: Job, costs: Costs) -> dict[str, Any]:
    """Return ``{"stall_free_horizon": ...}``, None where no horizon is free of stalls; ``{}`` for a bare plan."""
    from loadahead.sim.stall_free import stall_free

    prepared = job.prepared
    if prepared is None or not (prepared.policy.checkpoint and prepared.policy.offload):
        return {}
    with named(job.name):
        answer = stall_free(prepared.workload, costs, prepared.policy)
    return {"stall_free_horizon": None if answer is None else answer.to_dict()}


def jitter_of(job: Job, costs: Costs, predicted: Timeline, draws: int | None, seed: int | None) -> dict[str, Any]:
    """Return ``{"jitter": ...}`` where draws are asked for, here or by the scenario's ``[jitter]``; else ``{}``."""
    from loadahead.sim.jitter import Spread, draws_ignore_sharing, jitter_summary, step_times

    scenario = job.prepared.scenario if job.prepared is not None else None
    if draws is None and seed is None and (scenario is None or "jitter" not in scenario.model_fields_set):
        return {}
    written = scenario.jitter.model_dump() if scenario is not None else {}
    asked = {name: value for name, value in (("draws", draws), ("seed", seed)) if value is not None}
    spread = Spread(**written | asked)
    with named(job.name):
        times = step_times(job.plan, costs, spread)
        unlike = bool(predicted.header["contended"]) and draws_ignore_sharing(job.plan, costs)
    return {"jitter": jitter_summary(times, spread, unlike)}
