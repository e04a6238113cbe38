"""A job on real tensors, beside its prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loadahead.about import header_about
from loadahead.executor.execute import execute
from loadahead.executor.training.results import ExecutionResult, save_weights
from loadahead.jobs import Job
from loadahead.modules import model_spec, module_of
from loadahead.prediction import advice_on, made_by, predict, result_of, write_advice, write_prediction
from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.reports import run_directory
from loadahead.reports.training_check import TrainingCheck
from loadahead.sim.costs import is_estimate
from loadahead.sim.errors import CheckFailed, InputError
from loadahead.sim.host_memory import HostMemory
from loadahead.sim.placement import Placement
from loadahead.sim.shown import Shown
from loadahead.sim.timeline import write_timeline
from loadahead.sim.units import format_bytes, format_duration

if TYPE_CHECKING:
    import pandas as pd

    from loadahead.reports.compare import Comparison
    from loadahead.sim.advice import Advice
    from loadahead.sim.costs import Costs
    from loadahead.sim.ir.plan import Plan
    from loadahead.sim.step_metrics import StepMetrics
    from loadahead.sim.timeline import Timeline


_SWITCH = {True: "on", False: "off"}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Run(Shown):
    """One plan, predicted and measured.

    Attributes:
        job: the plan and where it came from.
        costs: the costs of the prediction.
        predicted: the step on the simulator's clock.
        measured: the step of median time on real tensors.
        execution: what all steps measured: losses, step times, the gradient check.
    """

    job: Job
    costs: Costs
    predicted: Timeline
    measured: Timeline
    execution: ExecutionResult

    def _in_a_line(self) -> str:
        """Return the plan's name, the device, and both step times."""
        measured, predicted = (format_duration(side.step_time_ns) for side in (self.measured, self.predicted))
        return f" of {self.job.name!r} on {self.measured.source}: step {measured}, predicted {predicted}"

    @property
    def metrics(self) -> StepMetrics:
        """The measured step's time, and every rank's peaks, stalls and overlap."""
        return self.measured.metrics

    @property
    def max_grad_error(self) -> float | None:
        """The largest difference of any gradient from plain training's; None where gradients were not checked."""
        return self.execution.max_grad_error

    @property
    def check(self) -> TrainingCheck:
        """How gradients, losses and buffers differ from plain training's."""
        return check_of(self.execution)

    @property
    def weights(self) -> dict[str, Any]:
        """What was trained, after the last step: ``{"model": state dict, "optimizer": [a state dict per stage]}``."""
        return self.execution.weights

    def comparison(self) -> Comparison:
        """Return the prediction beside the measurement."""
        from loadahead.reports.compare import compare

        return compare(self.predicted, self.measured)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per operation, predicted and measured side by side.

        :func:`loadahead.reports.compare.operations_frame` has the columns.
        """
        from loadahead.reports.compare import operations_frame

        return operations_frame(self.predicted, self.measured)

    def result(self) -> dict[str, Any]:
        """Return the run as plain data: a prediction's keys, measured, and what only a run can tell."""
        done = self.execution
        return self.measured_result() | {
            "device": self.measured.source,
            "loss": done.losses[-1],
            "losses": done.losses,
            **self.check.to_dict(),
            "step_times_ns": done.step_times_ns,
            "bare_step_times_ns": done.bare_step_times_ns,
            "machine": done.machine,
            "predicted": result_of(self.job, self.predicted),
        }

    def measured_result(self) -> dict[str, Any]:
        """Return a prediction's keys, measured, as plain data."""
        return result_of(self.job, self.measured)

    def require_plain_training(self) -> None:
        """Raise CheckFailed where a gradient, a loss or a buffer differs from plain training's by more than it may."""
        if not self.check.holds:
            raise CheckFailed(self.check.told)


def check_of(execution: ExecutionResult) -> TrainingCheck:
    """Return what a run's comparison with plain training found."""
    return TrainingCheck(
        max_grad_error=execution.max_grad_error,
        grad_error_allowed=execution.grad_error_allowed,
        differences=execution.differences,
    )


def run_job(
    job: Job,
    costs: Costs,
    *,
    device: str,
    steps: int | None = None,
    check: bool = True,
    progress: ProgressCallback = silent,
) -> Run:
    """Predict the job's plan and run it for some optimizer steps (the scenario's number where None).

    Raise CheckFailed, before anything is run, where a host has too little memory for the slots of its GPUs.
    """
    scenario = job.known().scenario
    wanted = module_of(scenario).steps if steps is None else steps
    if type(wanted) is not int:
        raise InputError(f"steps is {wanted!r:.40}; it must be a whole number")
    predicted = predict(job, costs)
    _require_room_on_host(job, costs, predicted)
    decided = f"horizon {job.known().policy.horizon}" if job.by_horizon else "its own decisions"
    what = f"running {job.name} on {device}, {job.plan.microbatches} microbatches, {decided}: {wanted} steps"
    progress(Progress(what, 0, wanted))
    execution = execute(
        job.plan,
        job.known().workload,
        model_spec(scenario),
        costs=costs,
        steps=wanted,
        device=device,
        check_gradients=check,
        on_step=lambda step, _: progress(Progress(what, step + 1, wanted)),
    )
    warnings = [*job.warnings, *execution.warnings, *of_another_device(costs, device)]
    warnings += not_emulated(job.plan, costs, predicted, device)
    warnings += other_kernels(costs, device, check)
    warnings += _other_peaks(predicted, execution.timeline, execution.warnings, costs)
    own = {"scenario": job.name, **header_about(job.prepared, costs, job.plan)}
    header = {**own, **execution.timeline.header, "costs": costs.source, "warnings": warnings}
    return Run(
        job=job,
        costs=costs,
        predicted=predicted,
        measured=replace(execution.timeline, header=header),
        execution=execution,
    )


def _require_room_on_host(job: Job, costs: Costs, predicted: Timeline) -> None:
    slots = np.asarray([rank.peak_host_bytes for rank in predicted.metrics.ranks], dtype=np.int64)
    shortage = HostMemory.of(slots, costs.placement).shortage(costs.host_memory_bytes)
    if shortage is not None:
        raise CheckFailed(
            f"{job.name}: {shortage}, so that nothing was run; offload less, by a larger horizon or offload.min_bytes, "
            "or set hardware.host_memory to what a host has"
        )


def of_another_device(costs: Costs, device: str) -> list[str]:
    """Return a warning where the predicted times are a GPU's by estimate and the run's are a CPU's."""
    if device != "cpu" or not is_estimate(costs.source):
        return []
    return [
        f"the predicted times are an {costs.source}, and this run's are a CPU's: by what they differ says nothing of "
        "that GPU; what a calibration on the CPU measures predicts them"
    ]


def _other_peaks(predicted: Timeline, measured: Timeline, said: Sequence[str], costs: Costs) -> list[str]:
    """Return a warning for each rank whose peak is not what was predicted, where no other warning is about memory."""
    if measured.source != "cpu" or any(word in text for text in said for word in (" held ", " keeps ", " count")):
        return []
    why = (
        "the estimate takes what a unit saves for all that its operations take beside the plan's buffers"
        if is_estimate(costs.source)
        else "what operations take differs between microbatches or from step to step, and is predicted from the most "
        "that a few of them took"
    )
    pairs = zip(predicted.metrics.ranks, measured.metrics.ranks, strict=True)
    return [
        f"rank {rank} held {format_bytes(ours.peak_device_bytes)} at its peak and "
        f"{format_bytes(theirs.peak_device_bytes)} were predicted: {why}"
        for rank, (theirs, ours) in enumerate(pairs)
        if theirs.peak_device_bytes != ours.peak_device_bytes
    ]


def not_emulated(plan: Plan, costs: Costs, predicted: Timeline, device: str) -> list[str]:
    """Return a warning where links are shared, and one where sends take routes, that the CPU does not emulate."""
    if device != "cpu":
        return []
    out = []
    contended = predicted.header["contended"]
    if contended:
        out.append(
            f"the prediction shares {', '.join(contended[:4])}{', ...' if len(contended) > 4 else ''}; the CPU's "
            "emulated links are not shared, so what goes over them comes out quicker when measured"
        )
    direct = costs.model_copy(update={"placement": Placement(), "p2p_link": None})
    if (costs.durations(plan) != direct.durations(plan)).any():
        out.append(
            "the prediction has sends go over the network or over links to the host; the CPU emulates each with "
            "hardware.p2p and hardware.p2p_bandwidth alone"
        )
    return out


def other_kernels(costs: Costs, device: str, check: bool) -> list[str]:
    """Return a warning where a run chooses its kernels otherwise than the calibration of its costs did.

    A checked run is restricted to deterministic kernels, as is a calibration for it. On a CPU there is nothing to
    choose, and costs that were not calibrated on this kind of device are not about its kernels.
    """
    measured = costs.evidence.get("deterministic")
    if device == "cpu" or costs.source != f"calibrated on {device}" or type(measured) is not bool or measured == check:
        return []
    kernels = {True: "deterministic kernels alone", False: "whatever kernels are quickest"}
    return [
        f"the costs were calibrated with {kernels[measured]} and this run, whose gradients were "
        f"{'' if check else 'not '}checked, took {kernels[check]}: predicted times and peaks may be those of other "
        f"kernels; calibrate with check {_SWITCH[check]}, or run with check {_SWITCH[measured]}"
    ]


def write_run(run: Run, directory: Path, command: Sequence[str] = ()) -> Advice | None:
    """Write the run's parts into its directory, which is made where it is not there yet; return the advice of them.

    ``command`` is the command line that made them, where one did.
    """
    write_prediction(run.job, run.predicted, run.costs, directory, command)
    write_timeline(made_by(run.measured, command), directory / run_directory.MEASURED)
    save_weights(run.weights, directory / run_directory.WEIGHTS)
    run_directory.write_json(directory, run_directory.RESULT, run.result())
    run_directory.write_json(directory, run_directory.COMPARISON, run.comparison().to_dict())
    # It takes longest, and what was measured is kept by then.
    advice = advice_on(run.job, run.costs)
    write_advice(advice, directory)
    return advice
