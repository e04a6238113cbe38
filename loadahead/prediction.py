"""A job on the simulator's clock, and what else is predicted of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead.about import header_about
from loadahead.compiling import compile_first
from loadahead.jobs import Job, named
from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.sim.engines import DEFAULT_ENGINE
from loadahead.sim.engines import simulate as run_engine
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import CAPACITY, HOST_CAPACITY
from loadahead.sim.timeline import COLUMNS

if TYPE_CHECKING:
    from loadahead.reports.speed import Speed
    from loadahead.sim.advice import Advice
    from loadahead.sim.costs import Costs
    from loadahead.sim.planner import Policy
    from loadahead.sim.timeline import Timeline
    from loadahead.sim.workload import Workload

# Drawing so many operations takes about a second.
_LONG_DRAWS = 5_000_000


def predict(job: Job, costs: Costs, engine: str = DEFAULT_ENGINE) -> Timeline:
    """Return the job's predicted timeline; its header says the scenario and all warnings."""
    with named(job.name):
        timeline = run_engine(job.plan, costs, engine)
    warnings = [*job.warnings, *timeline.header["warnings"]]
    own = {"scenario": job.name, **header_about(job.prepared, costs, job.plan)}
    return replace(timeline, header={**own, **timeline.header, "warnings": warnings})


def result_of(job: Job, step: Timeline) -> dict[str, Any]:
    """Return a step's results as plain data (DESIGN, section 4, simulate). Times are in ns, sizes in bytes."""
    metrics = step.metrics.to_dict()
    ranks = metrics.pop("ranks")
    return {
        "scenario": job.name,
        "engine": step.source,
        **metrics,
        **speed_of(step).to_dict(),
        "ranks": ranks,
        "costs": step.header["costs"],
        CAPACITY: step.header[CAPACITY],
        HOST_CAPACITY: step.header[HOST_CAPACITY],
        "contended": step.header.get("contended", []),
        "warnings": step.header["warnings"],
    }


def speed_of(step: Timeline) -> Speed:
    """Return how fast a step is, as far as its timeline says what it is of."""
    from loadahead.reports.about import About, read_about
    from loadahead.reports.speed import Speed

    about = read_about(step.header, "the timeline") or About()
    return Speed.of_step(about, step, step.metrics.step_time_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is predicted of a job.

    Attributes:
        job: the plan and where it came from.
        step: the step on the simulator's clock.
        advice: what to set instead; None where no horizon decides.
        keep_all: the same step with all kept, where there is no advice to say what it takes; None for none.
        jitter: how far the step's time spreads, as the command line's JSON has it; None where it was not asked for.
    """

    job: Job
    step: Timeline
    advice: Advice | None
    keep_all: Timeline | None = None
    jitter: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as plain data (DESIGN, section 4, simulate)."""
        out = result_of(self.job, self.step) | self.job.tuning_facts()
        out["advice"] = None if self.advice is None else self.advice.to_dict()
        if self.jitter is not None:
            out["jitter"] = self.jitter
        return out


def prediction_of(
    job: Job,
    costs: Costs,
    step: Timeline,
    draws: int | None,
    seed: int | None,
    progress: ProgressCallback = silent,
) -> Prediction:
    """Return a predicted step with advice on its horizon, and with its jitter where that is asked for.

    Draws and seed are asked for here, or by the scenario's ``[jitter]``.
    """
    advice = advice_on(job, costs, progress)
    return Prediction(
        job=job,
        step=step,
        advice=advice,
        keep_all=keep_all(job, costs) if advice is None else None,
        jitter=_jitter(job, costs, step, draws, seed, progress),
    )


def advice_on(job: Job, costs: Costs, progress: ProgressCallback = silent) -> Advice | None:
    """Return which horizon to set, and why.

    None comes back where no horizon decides: without activation checkpointing, for decisions that were given, and for a
    plan that does not say its scenario. Work that takes about a second or more is reported before.
    """
    if not job.by_horizon or job.prepared is None:
        return None
    compile_first(progress)
    with named(job.name):
        return advice_on_policy(job.prepared.workload, costs, job.prepared.policy, job.name, progress)


def advice_on_policy(
    workload: Workload, costs: Costs, policy: Policy, name: str, progress: ProgressCallback = silent
) -> Advice | None:
    """Return the same for what a job is planned from; ``name`` is what reports begin with.

    None comes back, and is reported, where another horizon or keeping all cannot be simulated: its figures leave what
    64 bits hold. What was asked for may well be.
    """
    from loadahead.sim.advice import advise

    try:
        return advise(workload, costs, policy, lambda what: progress(Progress(f"{name}: {what}")))
    except InputError as error:
        progress(Progress(f"{name}: no advice on horizons: {error}"))
        return None


def write_prediction(
    job: Job,
    predicted: Timeline,
    costs: Costs,
    directory: Path,
    command: Sequence[str] = (),
    tuning: Mapping[str, Any] | None = None,
) -> None:
    """Write plan, costs and predicted timeline into a run directory, which is made if it is not there yet.

    ``command`` is the command line that made them, where one did; the timeline's header keeps it. ``tuning`` is what
    tuning found, as plain data; None: what the job knows of it. That of another plan does not stay.
    """
    from loadahead.plan_files import write_plan
    from loadahead.reports import run_directory
    from loadahead.sim.costs import save_costs
    from loadahead.sim.timeline import write_timeline

    run_directory.make(directory)
    found = _tuning_of(job, costs) if tuning is None else tuning
    if found is None:
        (directory / run_directory.TUNING).unlink(missing_ok=True)
    else:
        run_directory.write_json(directory, run_directory.TUNING, dict(found))
    write_plan(job.plan, directory / run_directory.PLAN)
    save_costs(costs, directory / run_directory.COSTS)
    write_timeline(made_by(predicted, command), directory / run_directory.PREDICTED)
    kept = keep_all(job, costs)
    if kept is None:
        (directory / run_directory.KEEP_ALL).unlink(missing_ok=True)
    else:
        write_timeline(memory_alone(kept), directory / run_directory.KEEP_ALL)


def _tuning_of(job: Job, costs: Costs) -> dict[str, Any] | None:
    """Return what tuning found for the job and why, as plain data, without a frontier; None where it did not decide."""
    from loadahead.sim.tuning import reasons_of, tuning_to_dict

    if job.tuning is None or job.prepared is None:
        return None
    return tuning_to_dict(job.tuning, None, reasons_of(job.tuning, job.prepared.workload, costs))


def made_by(timeline: Timeline, command: Sequence[str]) -> Timeline:
    """Return a timeline whose header says the command line that made it, word by word; without one as it is."""
    from loadahead.reports.about import COMMAND

    return replace(timeline, header={**timeline.header, COMMAND: list(command)}) if command else timeline


def keep_all(job: Job, costs: Costs) -> Timeline | None:
    """Return the predicted step of the same work with every boundary kept on the device.

    None comes back for a plan that offloads nothing, for one that does not say its scenario, and where that step's
    figures leave what 64 bits hold.
    """
    from loadahead.sim.planner import build_plan

    if job.prepared is None or not job.plan.policy.get("offloaded"):
        return None
    policy = replace(job.prepared.policy, offload=False)
    with suppress(InputError):
        return run_engine(build_plan(job.prepared.workload, policy, name=job.plan.name), costs)
    return None


def memory_alone(timeline: Timeline) -> Timeline:
    """Return a timeline's header and memory, without its operations."""
    none = {name: getattr(timeline, name)[:0] for name in COLUMNS}
    return replace(timeline, **none, plan=None)


def write_advice(advice: Advice | None, directory: Path) -> None:
    """Write the advice into a run directory; that of an earlier run does not stay."""
    from loadahead.reports import run_directory

    if advice is None:
        (directory / run_directory.ADVICE).unlink(missing_ok=True)
    else:
        run_directory.write_json(directory, run_directory.ADVICE, advice.to_dict())


def _jitter(
    job: Job, costs: Costs, step: Timeline, draws: int | None, seed: int | None, progress: ProgressCallback
) -> dict[str, Any] | None:
    from loadahead.sim.jitter import Spread, draws_ignore_sharing, jitter_summary, step_times

    scenario = job.prepared.scenario if job.prepared is not None else None
    if draws is None and seed is None and (scenario is None or "jitter" not in scenario.model_fields_set):
        return None
    written = scenario.jitter.model_dump() if scenario is not None else {}
    asked = {name: value for name, value in (("draws", draws), ("seed", seed)) if value is not None}
    spread = Spread(**written | asked)
    if spread.draws * len(job.plan) > _LONG_DRAWS:
        progress(Progress(f"{job.name}: drawing the step {spread.draws} times"))
    with named(job.name):
        times = step_times(job.plan, costs, spread)
        unlike = bool(step.header["contended"]) and draws_ignore_sharing(job.plan, costs)
    return jitter_summary(times, spread, unlike)
