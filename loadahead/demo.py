"""The main job end to end: calibrate, sweep, pick a plan, run it on real tensors, compare, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead import jobs
from loadahead.cli.output import note
from loadahead.cli.texts import gradient_sentence, run_text, sweep_text
from loadahead.prediction import predict, result_of
from loadahead.reports import run_directory
from loadahead.reports.page import write_report
from loadahead.reports.statistics import kendall_tau, order_disagreements
from loadahead.reports.tables import best_row
from loadahead.runs import Run, run_job, write_run
from loadahead.sim.engines import DEFAULT_ENGINE
from loadahead.sim.units import format_bytes, format_duration
from loadahead.sweeps.axes import policy_axis
from loadahead.sweeps.grid import Grid, Sweep
from loadahead.sweeps.run import rows_of

if TYPE_CHECKING:
    from loadahead.sim.costs import Costs

# Timed steps of each horizon that is measured beside the chosen one.
HORIZON_STEPS = 4
RULE = (
    "Of the plans that fit the device the fastest per microbatch counts; of those within 1 % of it, the one is taken "
    "that needs the least device memory."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What came of it. ``without`` is the chosen microbatch count's prediction with nothing offloaded."""

    sweep: Sequence[dict[str, Any]]
    chosen: dict[str, Any]
    without: dict[str, Any]
    run: Run
    horizons: Sequence[dict[str, Any]]
    report: Path
    warnings: Sequence[str]

    def ranking_tau(self) -> float | None:
        """Kendall's tau of the measured horizons' step times against their predictions."""
        return kendall_tau(*_step_times(self.horizons))

    def to_dict(self) -> dict[str, Any]:
        """The object of ``demo --json``."""
        measured = self.run.result()
        return {
            "scenario": self.run.job.name,
            "rule": RULE,
            "chosen": self.chosen,
            "points": list(self.sweep),
            "without_offload": self.without,
            "predicted": measured.pop("predicted"),
            "measured": measured,
            "comparison": self.run.comparison().to_dict() | {"ranking_tau": self.ranking_tau()},
            "horizons": list(self.horizons),
            "max_grad_error": measured["max_grad_error"],
            "report": str(self.report),
            "warnings": list(self.warnings),
        }

    def to_text(self) -> str:
        """The same for people: sweep, choice, predicted beside measured, where the report is."""
        chosen = f"{RULE} Chosen: {self.chosen['microbatches']} microbatches, horizon {self.chosen['horizon']}."
        sweep = sweep_text(self.sweep, self.run.costs.memory_bytes)
        parts = [sweep, f"{chosen}\n{self._saving()}", run_text(self.run), *self._order(), f"report: {self.report}"]
        return "\n\n".join(parts)

    def _saving(self) -> str:
        ours, theirs = self.chosen, self.without
        return (
            f"Predicted against keeping all on the device: peak {format_bytes(ours['peak_device_bytes'])} instead of "
            f"{format_bytes(theirs['peak_device_bytes'])}, of it boundaries "
            f"{format_bytes(ours['peak_boundary_bytes'])} instead of {format_bytes(theirs['peak_boundary_bytes'])}; "
            f"step time {format_duration(ours['step_time_ns'])} instead of {format_duration(theirs['step_time_ns'])}."
        )

    def _order(self) -> list[str]:
        if not self.horizons:
            return []
        apart = len(order_disagreements(*_step_times(self.horizons)))
        errors = [point["max_grad_error"] for point in self.horizons]
        return [
            f"Horizons measured: {len(self.horizons)}; pairs predicted more than 10 % apart and measured in the other "
            f"order: {apart}. In all of them {gradient_sentence(max(errors))}."
        ]


def _step_times(horizons: Sequence[dict[str, Any]]) -> tuple[list[int], list[int]]:
    predicted = [point["predicted"]["step_time_ns"] for point in horizons]
    return predicted, [point["measured"]["step_time_ns"] for point in horizons]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The main job's settings; ``steps`` None means the scenario's."""

    argument: str
    overrides: tuple[str, ...]
    directory: Path
    horizons: tuple[int, ...]
    microbatches: tuple[int, ...]
    steps: int | None = None
    device: str = "cpu"

    def run(self) -> DemoResult:
        """Do it all and write the run directory."""
        jobs.require_device(self.device)
        run_directory.make(self.directory)
        sweep = Sweep(self.argument, self.overrides, device=self.device)
        base = sweep.prepared(f"parallel.microbatches={max(self.microbatches)}")
        jobs.module_of(base.scenario)
        if base.costs is None:
            note(f"calibrating {base.scenario.name} on this {self.device}")
            sweep.know(base, jobs.calibrate_prepared(base, device=self.device))
        costs = sweep.costs_of(base)
        axes = (policy_axis("microbatches", self.microbatches), policy_axis("horizon", self.horizons))
        rows = rows_of(Grid(sweep, axes), DEFAULT_ENGINE)
        run_directory.write_sweep(self.directory, rows)
        index = best_row(rows, costs.memory_bytes)
        chosen = rows[0 if index is None else index]
        job, known = self._job(sweep, chosen["microbatches"], chosen["horizon"])
        run = run_job(job, known, device=self.device, steps=self.steps)
        write_run(run, self.directory)
        horizons = [self._horizon(sweep, chosen["microbatches"], horizon) for horizon in self.horizons]
        run_directory.write_json(self.directory, run_directory.HORIZONS, {"points": horizons})
        return DemoResult(
            sweep=rows,
            chosen=chosen,
            without=self._without(sweep, chosen),
            run=run,
            horizons=horizons,
            report=write_report(self.directory),
            warnings=[*sweep.warnings, *run.execution.warnings],
        )

    def _job(self, sweep: Sweep, microbatches: int, horizon: int, *more: str) -> tuple[jobs.Job, Costs]:
        own = (f"parallel.microbatches={microbatches}", f"offload.activation_loading_horizon={horizon}")
        prepared = Sweep(self.argument, (*self.overrides, *own, *more), device=self.device).prepared()
        costs = sweep.costs_of(prepared)
        return jobs.job_of_prepared(replace(prepared, costs=costs)), costs

    def _horizon(self, sweep: Sweep, microbatches: int, horizon: int) -> dict[str, Any]:
        job, costs = self._job(sweep, microbatches, horizon)
        run = run_job(job, costs, device=self.device, steps=HORIZON_STEPS)
        return {
            "horizon": horizon,
            "microbatches": microbatches,
            "predicted": result_of(job, run.predicted),
            "measured": run.measured_result(),
            "max_grad_error": run.execution.max_grad_error,
        }

    def _without(self, sweep: Sweep, chosen: dict[str, Any]) -> dict[str, Any]:
        job, costs = self._job(sweep, chosen["microbatches"], chosen["horizon"], "offload.offload_activations=false")
        result = result_of(job, predict(job, costs))
        keys = ("peak_device_bytes", "peak_boundary_bytes")
        peaks = {key: max(rank[key] for rank in result["ranks"]) for key in keys}
        return {"step_time_ns": result["step_time_ns"]} | peaks
