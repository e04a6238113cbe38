"""One model of a grid: traced and calibrated once, then planned, predicted and run in many configurations."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from typing import Any

from loadahead import jobs, modules
from loadahead.executor.execute import execute
from loadahead.executor.peers.run import PeerSkipped, run_peer
from loadahead.executor.peers.training import passes_of
from loadahead.executor.shapes import module_shapes
from loadahead.executor.training.results import ExecutionResult
from loadahead.prediction import predict
from loadahead.reports.recorded_steps import RecordedStep
from loadahead.runs import check_of
from loadahead.scenarios.loader import scenario_from_dict
from loadahead.scenarios.prepare import Prepared, prepare
from loadahead.sim.costs import Costs
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.step_metrics import PEAK_DEVICE, STEP_TIME
from loadahead.sim.workload import ModuleShapes
from loadahead.validation.grid import Configuration, ModelSize
from loadahead.validation.links import execution_arguments, link_usage, slowed

# Of a gradient check: what a backend needs at least, to warm up and to meter memory.
CHECKED_STEPS = 3
# What is issued for each unit and microbatch where its boundary is offloaded.
_OF_A_UNIT = (
    Kind.FORWARD,
    Kind.OFFLOAD,
    Kind.RELEASE,
    Kind.ACQUIRE,
    Kind.PREFETCH,
    Kind.RECOMPUTE,
    Kind.BACKWARD,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A calibrated model on a device; ``microbatches`` are those whose data was resident when it was calibrated."""

    size: ModelSize
    device: str
    microbatches: int
    shapes: ModuleShapes
    costs: Costs

    @classmethod
    def of(cls, size: ModelSize, first: Configuration, device: str, costs: Costs | None = None) -> Subject:
        """Trace, and calibrate where no costs of an earlier calibration are given."""
        scenario = scenario_from_dict(size.scenario(first), first.name)
        shapes = module_shapes(modules.model_spec(scenario), scenario.parallel.microbatches, device)
        if costs is None:
            prepared = prepare(scenario, shapes=shapes)
            costs = jobs.calibrate_prepared(prepared, size.repeats, device, deterministic=False)
        return cls(size, device, first.microbatches, shapes, costs)

    def to_dict(self) -> dict[str, Any]:
        """Return what is recorded of the model.

        ``issue_ns`` is the host's time to issue one microbatch's operations with offloading, ``device_ns`` that of its
        tasks on the device.
        """
        costs, units = self.costs, sum(len(stage) for stage in self.costs.units)
        return {
            "model": self.size.name,
            "options": self.size.options,
            "autocast": self.size.autocast,
            "units": units,
            "static_bytes": sum(costs.static_bytes),
            "d2h_bandwidth": costs.d2h_bandwidth,
            "h2d_bandwidth": costs.h2d_bandwidth,
            "issue_ns": sum(int(costs.launch_table()[kind]) for kind in _OF_A_UNIT) * units,
            "device_ns": sum(u.forward_ns + u.recompute_ns + u.backward_ns for stage in costs.units for u in stage),
            "costs": costs.model_dump(mode="json"),
        }

    def costs_for(self, configuration: Configuration) -> Costs:
        """Return the costs with this step's data resident; they were calibrated with other microbatches' data."""
        if self.device == "cpu":  # where data lies in the same memory whether it is in use or not
            return self.costs
        # The model's data are ids and as many targets.
        more = (configuration.microbatches - self.microbatches) * 2 * self.shapes.layers[0].input_bytes
        (static,) = self.costs.static_bytes
        return self.costs.model_copy(update={"static_bytes": (static + more,)})

    def predict(self, configuration: Configuration) -> tuple[jobs.Job, dict[str, Any]]:
        """Return the configuration's plan, and what is predicted of it."""
        costs = slowed(self.costs_for(configuration), configuration.copies)
        job = replace(jobs.job_of_prepared(self._prepared(configuration)), costs=costs)
        timeline = predict(job, costs)
        step, links = RecordedStep.of(timeline.metrics), link_usage(job.plan, timeline, costs)
        busiest = max(link["busy_ns"] for link in links.values())
        ratio = busiest / step.compute_ns if step.compute_ns else 0.0
        return job, step.model_dump() | {"links": links, "copy_to_compute": ratio}

    def run(self, configuration: Configuration, job: jobs.Job) -> dict[str, Any]:
        """Run the plan and return what is measured."""
        done = self._execute(configuration, job, self.size.steps, check=False)
        links = link_usage(job.plan, done.timeline, slowed(self.costs, configuration.copies))
        # Where timing each operation takes time of its own, the steps that were not timed so are what a step takes.
        times = done.bare_step_times_ns or done.step_times_ns
        metrics = replace(done.timeline.metrics, step_time_ns=round(statistics.median(times)))
        own = {"step_times_ns": times, "each_operation_timed_ns": done.step_times_ns}
        more = {"links": links, "losses": done.losses, "warnings": done.warnings}
        return RecordedStep.of(metrics).model_dump() | own | more

    def check_gradients(self, configuration: Configuration) -> dict[str, Any]:
        """Run a few steps, and return the largest difference of any gradient from plain training's."""
        done = self._execute(
            configuration, jobs.job_of_prepared(self._prepared(configuration)), CHECKED_STEPS, check=True
        )
        found = check_of(done)
        if done.max_grad_error is None or not math.isfinite(done.max_grad_error):
            raise RuntimeError(f"the largest difference is {done.max_grad_error}: {found.told}")
        if done.max_grad_error == 0 and not found.equal:  # a loss or a buffer, of which no number is recorded
            raise RuntimeError(found.told)
        return {"max_grad_error": done.max_grad_error, "steps": len(done.losses)}

    def run_peer(self, name: str, plain: Configuration, steps: int) -> dict[str, Any]:
        """Run a peer on this model, in the order of that configuration's plan; return why if it was skipped."""
        job = jobs.job_of_prepared(self._prepared(plain))
        prepared = job.known()
        result = run_peer(
            name,
            modules.model_spec(prepared.scenario),
            prepared.workload,
            passes_of(job.plan),
            device=self.device,
            steps=steps,
        )
        if isinstance(result, PeerSkipped):
            return {"status": "skipped", "reason": result.reason}
        return {
            STEP_TIME: round(statistics.median(result.step_times_ns)),
            "step_times_ns": result.step_times_ns,
            PEAK_DEVICE: result.peak_device_bytes,
            "losses": result.losses,
        }

    def _prepared(self, configuration: Configuration) -> Prepared:
        scenario = scenario_from_dict(self.size.scenario(configuration), configuration.name)
        physical = jobs.has_own_links(self.device)
        return prepare(scenario, shapes=self.shapes, costs=self.costs, physical=physical)

    def _execute(self, configuration: Configuration, job: jobs.Job, steps: int, check: bool) -> ExecutionResult:
        prepared = job.known()
        return execute(
            job.plan,
            prepared.workload,
            modules.model_spec(prepared.scenario),
            steps=steps,
            device=self.device,
            check_gradients=check,
            **execution_arguments(self.costs, configuration.copies, self.device),
        )
