"""A job on real tensors, and the object that `execute --json` prints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import rundir
from cli.compose import Job, model_spec, module_of
from cli.predicting import predict, result_of
from cli.progress import progress
from executor.execute import execute
from executor.findings import ExecutionResult
from sim.errors import CheckFailed
from sim.timeline import write_timeline

if TYPE_CHECKING:
    from reports.compare import Comparison
    from sim.costs import Costs
    from sim.timeline import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One plan, predicted and measured."""

    job: Job
    costs: Costs
    predicted: Timeline
    measured: Timeline
    execution: ExecutionResult

    def comparison(self) -> Comparison:
        """Predicted against measured."""
        from reports.compare import compare

        return compare(self.predicted, self.measured)

    def result(self) -> dict[str, Any]:
        """The object of ``execute --json``: simulate's keys, measured, and what only a run can tell."""
        done = self.execution
        return self.measured_result() | {
            "device": self.measured.source,
            "loss": done.losses[-1],
            "losses": done.losses,
            "max_grad_error": done.max_grad_error,
            "step_times_ns": done.step_times_ns,
            "bare_step_times_ns": done.bare_step_times_ns,
            "machine": done.machine,
            "predicted": result_of(self.job, self.predicted),
        }

    def measured_result(self) -> dict[str, Any]:
        """The keys of ``simulate --json``, measured."""
        return result_of(self.job, self.measured)

    def require_equal_gradients(self) -> None:
        """CheckFailed when a gradient differs from plain training's."""
        error = self.execution.max_grad_error
        if error:
            raise CheckFailed(
                f"max_grad_error is {error!r}; it must be 0.0: gradients differ from those of plain training without "
                "plan or offload. Either a layer does not do the same twice (random numbers that are not torch's, a "
                "counter), or this run's plan or backend is wrong"
            )


def run_job(job: Job, costs: Costs, *, device: str, steps: int | None = None, check: bool = True) -> Run:
    """Predict the job's plan and run it for some optimizer steps (the scenario's number where None)."""
    scenario = job.known().scenario
    wanted = steps or module_of(scenario).steps
    predicted = predict(job, costs)
    what = f"running {job.name} on {device}, {job.plan.microbatches} microbatches, horizon {job.known().policy.horizon}"
    with progress(f"{what}: {wanted} steps", wanted) as done:
        execution = execute(
            job.plan, job.known().workload, model_spec(scenario), costs=costs, steps=wanted, device=device,
            check_gradients=check, on_step=lambda *_: done(1),
        )  # fmt: skip
    warnings = [*job.warnings, *execution.warnings, *_not_shared(predicted, device)]
    header = {"scenario": job.name, **execution.timeline.header, "costs": costs.source, "warnings": warnings}
    return Run(
        job=job, costs=costs, predicted=predicted, measured=replace(execution.timeline, header=header),
        execution=execution,
    )  # fmt: skip


def _not_shared(predicted: Timeline, device: str) -> list[str]:
    """Said where the prediction has copies slow each other down and the emulated links cannot."""
    if device != "cpu" or not predicted.header["contended"]:
        return []
    return [
        f"the prediction shares {', '.join(predicted.header['contended'][:4])}; the CPU's emulated links are not "
        "shared, so measured copies come out quicker"
    ]


def write_run(run: Run, directory: Path) -> None:
    """The run's parts, into its directory."""
    from cli.plans import write_plan
    from sim.costs import save_costs

    rundir.make(directory)
    write_plan(run.job.plan, directory / rundir.PLAN)
    save_costs(run.costs, directory / rundir.COSTS)
    write_timeline(run.predicted, directory / rundir.PREDICTED)
    write_timeline(run.measured, directory / rundir.MEASURED)
    rundir.write_json(directory, rundir.RESULT, run.result())
    rundir.write_json(directory, rundir.COMPARISON, run.comparison().to_dict())
