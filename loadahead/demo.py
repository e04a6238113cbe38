"""The main job end to end: calibrate, sweep, pick a plan, run it on real tensors, compare, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead import arguments, jobs, modules
from loadahead.compiling import compile_first
from loadahead.prediction import predict, result_of
from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.reports import run_directory
from loadahead.reports.page import write_report
from loadahead.reports.page.commands import CommandsOf
from loadahead.reports.run_data import KIND_SUMS, KINDS, STEP_TIMES
from loadahead.reports.statistics import kendall_tau, order_disagreements
from loadahead.runs import Run, other_kernels, run_job, write_run
from loadahead.sim.choice import RULE, Choice, choices
from loadahead.sim.engines import DEFAULT_ENGINE
from loadahead.sim.step_metrics import PEAK_BOUNDARY, PEAK_DEVICE, STEP_TIME, StepMetrics, SweepRow
from loadahead.sweeps.axes import policy_axis
from loadahead.sweeps.grid import Grid, Sweep
from loadahead.sweeps.points import points_of
from loadahead.sweeps.run import rows_of

if TYPE_CHECKING:
    from loadahead.scenarios.loader import Overrides, ScenarioSource
    from loadahead.scenarios.schema import Scenario
    from loadahead.sim.advice import Advice
    from loadahead.sim.costs import Costs

# Timed steps of each horizon that is measured beside the chosen one.
HORIZON_STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonRun:
    """One horizon of the chosen microbatch count, predicted and measured."""

    horizon: int
    microbatches: int
    run: Run

    def to_dict(self) -> dict[str, Any]:
        """Return the horizon as a run directory keeps it."""
        return {
            "horizon": self.horizon,
            "microbatches": self.microbatches,
            "predicted": result_of(self.run.job, self.run.predicted),
            "measured": self.run.measured_result(),
            **self.run.check.to_dict(),
            STEP_TIMES: self.run.execution.bare_step_times_ns or self.run.execution.step_times_ns,
            KINDS: {
                name: {key: getattr(kind, key) for key in KIND_SUMS}
                for name, kind in self.run.comparison().per_kind.items()
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo predicted, chose and measured.

    Attributes:
        sweep: the predicted points, as a sweep's rows.
        choice: which row was run, and why: the best one, or the nearest to fit where none fits.
        without: the chosen microbatch count's prediction with nothing offloaded.
        advice: which horizon to set for the chosen plan's microbatch count.
        run: the chosen plan, predicted and measured.
        horizons: every horizon of the chosen microbatch count, predicted and measured.
        report: the page.
        rule: how the plan was chosen, in a sentence.
    """

    sweep: Sequence[SweepRow]
    choice: Choice
    without: StepMetrics
    advice: Advice | None
    run: Run
    horizons: Sequence[HorizonRun]
    report: Path
    warnings: Sequence[str]
    rule: str = RULE

    @property
    def chosen(self) -> SweepRow:
        """Return the row of the plan that was run."""
        return self.choice.row

    def ranking_tau(self) -> float | None:
        """Return Kendall's tau of the measured horizons' step times against their predictions."""
        return kendall_tau(*_step_times(self.horizons))

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain data."""
        measured = self.run.result()
        return {
            "scenario": self.run.job.name,
            "rule": self.rule,
            "chosen": self.chosen.to_dict(),
            "missing": self.choice.missing(),
            "points": [row.to_dict() for row in self.sweep],
            "without_offload": {
                STEP_TIME: self.without.step_time_ns,
                PEAK_DEVICE: self.without.peak_device_bytes,
                PEAK_BOUNDARY: self.without.peak_boundary_bytes,
            },
            "advice": None if self.advice is None else self.advice.to_dict(),
            "predicted": measured.pop("predicted"),
            "measured": measured,
            "comparison": self.run.comparison().to_dict() | {"ranking_tau": self.ranking_tau()},
            "horizons": [point.to_dict() for point in self.horizons],
            **self.run.check.to_dict(),
            "report": str(self.report),
            "warnings": list(self.warnings),
        }

    def require_plain_training(self) -> None:
        """Raise CheckFailed where one of the runs differs from plain training by more than it may."""
        for run in (self.run, *(point.run for point in self.horizons)):
            run.require_plain_training()

    def horizons_in_wrong_order(self) -> int:
        """Return how many pairs of horizons were predicted more than 10 % apart and measured in the other order."""
        return len(order_disagreements(*_step_times(self.horizons)))


def _step_times(horizons: Sequence[HorizonRun]) -> tuple[list[int], list[int]]:
    predicted = [point.run.predicted.metrics.step_time_ns for point in horizons]
    return predicted, [point.run.metrics.step_time_ns for point in horizons]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The main job's settings.

    ``steps`` None means the scenario's. ``commands`` returns the command lines that the page shows; ``command`` is the
    one that is being worked on, which the files keep.
    """

    source: ScenarioSource
    overrides: Overrides
    directory: Path
    horizons: tuple[int, ...]
    microbatches: tuple[int, ...]
    steps: int | None = None
    device: str = "cpu"
    progress: ProgressCallback = silent
    commands: CommandsOf | None = None
    command: Sequence[str] = ()

    def run(self) -> DemoResult:
        """Calibrate, sweep, choose, run, compare, and write the run directory and its page."""
        arguments.require_device(self.device)
        run_directory.make(self.directory)
        sweep = Sweep(self.source, self.overrides, device=self.device, progress=self.progress)
        base = sweep.prepared({"parallel.microbatches": max(self.microbatches)})
        if base.policy.is_tuned:
            return self._by_horizon(base.scenario).run()
        modules.module_of(base.scenario)
        told = run_directory.earlier_files(self.directory, run_directory.OF_DEMO)
        if told is not None:
            self.progress(Progress(told))
        if base.costs is None:
            self.progress(Progress(f"calibrating {base.scenario.name} on this {self.device}"))
            sweep.know(base, jobs.calibrate_prepared(base, device=self.device))
        axes = (policy_axis("microbatches", self.microbatches), policy_axis("horizon", self.horizons))
        compile_first(self.progress)
        grid = Grid(sweep, axes)
        rows = rows_of(grid, DEFAULT_ENGINE, progress=self.progress)
        run_directory.write_sweep(self.directory, rows, grid.facts(DEFAULT_ENGINE), self.command)
        (choice,) = choices(rows)
        run_directory.write_points(self.directory, points_of(grid, rows, [choice], self.directory, self.progress))
        chosen = choice.row
        job, known = self._job(sweep, chosen.microbatches, chosen.horizon)
        run = run_job(job, known, device=self.device, steps=self.steps, progress=self.progress)
        advice = write_run(run, self.directory, self.command)
        horizons = [self._horizon(sweep, chosen.microbatches, horizon) for horizon in self.horizons]
        points = [point.to_dict() for point in horizons]
        run_directory.write_json(self.directory, run_directory.HORIZONS, {"points": points})
        return DemoResult(
            sweep=rows,
            choice=choice,
            without=self._without(sweep, chosen),
            advice=advice,
            run=run,
            horizons=horizons,
            report=write_report(self.directory, self.commands),
            warnings=[*sweep.warnings, *run.execution.warnings, *other_kernels(known, self.device, check=True)],
        )

    def _by_horizon(self, scenario: Scenario) -> Demo:
        """Return the same job without what is said to tuning, which is told: the demo sweeps horizons."""
        from loadahead.scenarios.tables import GOAL_KEYS

        goal = [key for key in GOAL_KEYS if getattr(scenario.offload, key) is not None]
        beside = f" nor has {' or '.join(f'offload.{key}' for key in goal)}" if goal else ""
        told = f'offload.decisions = "auto" has no effect{"," if goal else ""}{beside}: the demo sweeps horizons'
        self.progress(Progress(f"{scenario.name}: {told}"))
        own = {"offload.decisions": "horizon", **{f"offload.{key}": None for key in goal}}
        return replace(self, overrides={**self.overrides, **own})

    def _job(
        self, sweep: Sweep, microbatches: int, horizon: int, more: Overrides | None = None
    ) -> tuple[jobs.Job, Costs]:
        own = {"parallel.microbatches": microbatches, "offload.activation_loading_horizon": horizon}
        prepared = Sweep(self.source, {**self.overrides, **own, **(more or {})}, device=self.device).prepared()
        costs = sweep.costs_of(prepared)
        return jobs.job_of_prepared(replace(prepared, costs=costs)), costs

    def _horizon(self, sweep: Sweep, microbatches: int, horizon: int) -> HorizonRun:
        job, costs = self._job(sweep, microbatches, horizon)
        run = run_job(job, costs, device=self.device, steps=HORIZON_STEPS, progress=self.progress)
        return HorizonRun(horizon=horizon, microbatches=microbatches, run=run)

    def _without(self, sweep: Sweep, chosen: SweepRow) -> StepMetrics:
        more = {"offload.offload_activations": False}
        job, costs = self._job(sweep, chosen.microbatches, chosen.horizon, more)
        return predict(job, costs).metrics
