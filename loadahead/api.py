"""The Python interface (DESIGN, section 7): what ``import loadahead as la`` offers.

Nothing here prints; long work reports through the callback ``progress``, see :class:`loadahead.progress.Progress`.
Everything that a user can mend is raised as a :class:`loadahead.LoadaheadError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead.compiling import compile_first, tells_of_compiling
from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.sim.errors import CheckFailed, InputError
from loadahead.sim.ir.plan import Plan
from loadahead.sim.shown import Shown
from loadahead.sim.timeline import Timeline
from loadahead.sim.workload import IN_MEMORY

if TYPE_CHECKING:
    import pandas as pd

    from loadahead.arguments import DecisionsSource, OrderSource
    from loadahead.executor.model.spec import BatchOf, LayersOrModel, LossFunction, MakeOptimizer
    from loadahead.exporting import Exported
    from loadahead.inspection import Inspection
    from loadahead.reports.compare import Comparison, ComparisonOfMany
    from loadahead.reports.step_comparison import StepComparison
    from loadahead.reports.sweep_comparison import SweepComparison
    from loadahead.reports.sweep_facts import SweepFacts
    from loadahead.runs import Run
    from loadahead.scenarios.loader import Overrides, ScenarioSource
    from loadahead.scenarios.schema import Scenario
    from loadahead.sim.advice import Advice, SweptAdvice
    from loadahead.sim.choice import Choice
    from loadahead.sim.costs import Costs
    from loadahead.sim.step_metrics import SweepRow
    from loadahead.sweeps.workers import Workers
    from loadahead.training import TrainingStep
    from loadahead.tuning import Tuned

Row = dict[str, Any]


def load(
    source: ScenarioSource,
    overrides: Overrides | None = None,
    *,
    model: LayersOrModel | None = None,
    data: BatchOf | None = None,
    loss: LossFunction | None = None,
    optimizer: MakeOptimizer | None = None,
) -> Scenario:
    """Return a scenario.

    Args:
        source: the name of a scenario that comes with Loadahead, a path, a dictionary of tables, or a scenario; or
            SageMaker's options, as a path or a dictionary (docs/sagemaker.md).
        overrides: new values by the key's full path, e.g. ``{"parallel.microbatches": 8}``.
        model: layers that are run one after the other, an ``nn.Sequential``, an ``nn.ModuleList`` or a list; or a model
            of blocks, such as one of transformers, which is cut at them. Copies are trained. One without weights, on
            the meta device, is planned and simulated alone. The table ``[model]`` may then be left out.
        data: called as (step, microbatch, microbatches); returns (input, target), the same for equal arguments.
        loss: called as (output, target); returns a scalar, the mean over the microbatch.
        optimizer: called with a list of parameters; returns their optimizer.

    Raises InputError, in one line that names the key, for a mistake in any of it.
    """
    from dataclasses import replace

    from loadahead.jobs import named
    from loadahead.scenarios.loader import scenario_file

    file = scenario_file(source)
    with named(source):
        if not (model is None and data is None and loss is None and optimizer is None):
            from loadahead.executor.model.spec import model_objects

            file = replace(file, objects=model_objects(file.objects, model, data, loss, optimizer))
        if model is not None:
            _name_in_memory(file.content, reads_ids=getattr(model, "main_input_name", None) == "input_ids")
        return file.scenario(overrides)


def _name_in_memory(content: Row, reads_ids: bool) -> None:
    """Make the tables say that the model is in memory; InputError where they name one themselves.

    A published language model reads ids, and is trained on the next ones, where nothing else is said.
    """
    table = content.setdefault("model", {})
    if not isinstance(table, dict):
        raise InputError(f"model = {table!r:.40}: it must be a table")
    kind = table.setdefault("kind", "module")
    if kind != "module":
        raise InputError(
            f'model.kind is {kind!r:.40} and a model is given too; a model in memory needs kind = "module": leave the '
            "table out"
        )
    for key in ("python", "config"):
        if table.get(key, IN_MEMORY) != IN_MEMORY:
            raise InputError(f"model.{key} is {table[key]!r:.60} and a model is given too; give one of the two")
    table["python"] = IN_MEMORY
    if reads_ids:
        table.setdefault("input_dtype", "int64")
        table.setdefault("loss", "cross_entropy")


def plan(
    source: ScenarioSource,
    overrides: Overrides | None = None,
    *,
    order: OrderSource | None = None,
    decisions: DecisionsSource | None = None,
) -> Plan:
    """Return the scenario's plan, proven free of races, deadlocks and uses after a free.

    Args:
        order: which passes each rank runs, in place of ``parallel.pipeline``: the name of an order, an order file, a
            :class:`loadahead.Order`, or a list of passes per rank. The model is cut into as many stages as it runs.
        decisions: which boundaries leave the device and when, in place of the scenario's horizon:
            :class:`loadahead.Decisions`, a list of rows as a plan file has them, a plan whose decisions are taken, or
            the path of a plan file or of a JSON file with such rows. A boundary that is not named stays.

    Where ``offload.decisions`` is ``"auto"``, tuning decides: a module without costs is calibrated on this machine's
    CPU first, and CheckFailed is raised where no plan that was found keeps the budget.
    """
    from loadahead.arguments import decisions_given
    from loadahead.jobs import named, plan_prepared, prepared_of

    given = decisions_given(decisions)
    prepared = prepared_of(source, overrides, order=order)
    with named(source):
        return plan_prepared(prepared, given)


def verify(plan: Plan | str | Path) -> None:
    """Prove a plan, or a plan file; raise CheckFailed, which names the rule and the operations, if it is not safe."""
    from loadahead.plan_files import read_operations
    from loadahead.sim.verify import verify as broken_rules

    if not isinstance(plan, Plan | str | Path):
        raise InputError(f"the plan is of type {type(plan).__name__}; it must be a plan or the path of a plan file")
    whole, disagreement = (plan, None) if isinstance(plan, Plan) else read_operations(plan)
    compile_first()
    broken = broken_rules(whole)
    if broken:
        first = broken[0]
        much = "1 rule is" if len(broken) == 1 else f"{len(broken)} rules are"
        raise CheckFailed(f"plan {whole.name!r}: {much} broken, first {first.rule}: {first.message}")
    if disagreement is not None:
        raise disagreement


@tells_of_compiling
def simulate(
    source: ScenarioSource | Plan,
    overrides: Overrides | None = None,
    *,
    order: OrderSource | None = None,
    decisions: DecisionsSource | None = None,
    costs: Costs | str | Path | None = None,
    engine: str | None = None,
    progress: ProgressCallback | None = None,
) -> Timeline:
    """Predict one step of a scenario, a plan or a plan file, and return its timeline.

    Costs are those given, or the scenario's; a module that has none is calibrated on this machine's CPU.
    ``costs="estimate"`` estimates its times for the scenario's GPU instead. ``order`` and ``decisions`` are those of
    :func:`plan`.
    """
    from loadahead.arguments import costs_given
    from loadahead.jobs import job_of, with_costs
    from loadahead.prediction import predict
    from loadahead.sim.engines import DEFAULT_ENGINE, find_engine

    chosen = engine or DEFAULT_ENGINE
    find_engine(chosen)
    tell = progress or silent
    job = job_of(source, overrides, costs_given(costs), order=order, decisions=decisions, progress=tell)
    job, known = with_costs(job, progress=tell)
    return predict(job, known, chosen)


@tells_of_compiling
def advise(
    source: ScenarioSource | Plan,
    overrides: Overrides | None = None,
    *,
    order: OrderSource | None = None,
    costs: Costs | str | Path | None = None,
    progress: ProgressCallback | None = None,
) -> Advice | None:
    """Return which horizon to set: the one with the least memory whose step is within 1 % of not offloading.

    The advice says too what offloading saves and costs against keeping all, what is in the way of a smaller horizon,
    and what other release windows and the other unit would change; ``advice.sentence`` has it in words. None comes back
    where no horizon decides: without activation checkpointing, and for plans of other decisions. Costs are those of
    :func:`simulate`.
    """
    from loadahead.arguments import costs_given
    from loadahead.jobs import job_of, with_costs
    from loadahead.prediction import advice_on

    tell = progress or silent
    job, known = with_costs(job_of(source, overrides, costs_given(costs), order=order, progress=tell), progress=tell)
    return advice_on(job, known, progress or silent)


@tells_of_compiling
def inspect(
    source: ScenarioSource,
    overrides: Overrides | None = None,
    *,
    costs: Costs | str | Path | None = None,
    progress: ProgressCallback | None = None,
) -> Inspection:
    """Return what was understood of a scenario, before anything is simulated or run.

    That is each unit's bytes, FLOPs and times, where each process stands, what GPUs share, how long each stage's copies
    take beside its computing, and what fits. Costs are those given, or the scenario's; where a module has none, times
    and what follows from them are None.
    """
    from loadahead.arguments import costs_given
    from loadahead.inspection import inspect_prepared
    from loadahead.jobs import prepared_of

    return inspect_prepared(prepared_of(source, overrides, costs_given(costs)))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SweepTable(Shown):
    """A sweep's points, one row each: the axes' values, then the step's metrics. Times are in ns, sizes in bytes.

    Attributes:
        rows: the points, the first axis changing slowest; each is a mapping by column as well.
        warnings: sentences about settings that do not do what they seem to.
        advice: which horizon to set for the best point (the first model's), searched over all horizons; None where no
            horizon decides.
        advice_by_axes: for each combination of the axes beside the horizon, what the swept horizons say.
        facts: what the rows follow from: scenario, axes, costs and version.
    """

    rows: tuple[SweepRow, ...]
    warnings: tuple[str, ...] = ()
    advice: Advice | None = None
    advice_by_axes: tuple[SweptAdvice, ...] = ()
    facts: SweepFacts | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def _in_a_line(self) -> str:
        """Return how many points there are, of which axes, and the best of them where they are of one model."""
        from loadahead.sim.choice import axes_text, varying_axes
        from loadahead.sim.units import counted, format_bytes, format_duration

        axes = varying_axes(self.rows)
        points = counted(len(self.rows), "point") + (f" over {', '.join(axes)}" if axes else "")
        chosen = self.choices()
        if len(chosen) != 1:
            return f": {points}" + (f"; {len(chosen)} models" if chosen else "")
        best = chosen[0].best
        if best is None:
            return f": {points}; nothing fits"
        figures = f"{format_duration(best.step_time_ns)}, {format_bytes(best.peak_device_bytes)}"
        return f": {points}; the best that fits: {axes_text(best, axes)} ({figures})"

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per point.

        Columns: the axes; then the metrics of :class:`loadahead.sim.step_metrics.SweepRow`, times in ns and sizes in
        bytes; ``fits`` says whether the point fits the device and the host.
        """
        from loadahead.reports.run_directory import sweep_frame

        return sweep_frame(self.rows)

    def best(
        self,
        memory: int | str | None = None,
        host_memory: int | str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> SweepRow | None:
        """Return the best point that fits the device and the host; None where none does.

        :data:`loadahead.sim.choice.RULE` says which is the best. Raise InputError where the points are of several
        models, which are not compared.

        Args:
            memory: device memory in place of the points' own, a number of bytes or a text such as ``"60 GiB"``.
            host_memory: host memory for all ranks, alike.
            where: values of axes, e.g. ``{"model.layers": 12}``: only points with these count.
        """
        chosen = self.choices(memory, host_memory, where)
        if len(chosen) == 1:
            return chosen[0].best
        if not chosen:
            return None
        axes = list(chosen[0].model)
        first = ", ".join(f"{axis!r}: {value!r}" for axis, value in chosen[0].model.items())
        raise InputError(
            f"the sweep has {len(chosen)} models, which differ in {', '.join(axes)} and are not compared; choose one, "
            f"e.g. where={{{first}}}, or take the choices, one for each",
            parameters=("where",),
        )

    def choices(
        self,
        memory: int | str | None = None,
        host_memory: int | str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> tuple[Choice, ...]:
        """Return the choice for each model among the points: its best one, or what the nearest to fit lacks.

        The arguments are those of :meth:`best`. ``choice.best`` is a point or None, and ``choice.sentence`` says it.
        """
        from loadahead.sim.choice import choices, rows_where
        from loadahead.sim.units import parse_bytes

        rows = rows_where(self.rows, where or {})
        device, host = (None if size is None else parse_bytes(size) for size in (memory, host_memory))
        return choices(rows, device, host, () if self.facts is None else self.facts.model_axes)


@tells_of_compiling
def sweep(
    source: ScenarioSource,
    axes: Mapping[str, Iterable[Any]],
    *,
    overrides: Overrides | None = None,
    workers: int | Workers = 1,
    directory: str | Path | None = None,
    fresh: bool = False,
    costs: Costs | str | Path | None = None,
    engine: str | None = None,
    progress: ProgressCallback | None = None,
) -> SweepTable:
    """Predict the step of every combination of the axes' values, and return the table.

    Each point is the step of the plan that :func:`plan` would make of it.

    Args:
        axes: values by axis: ``horizon``, ``microbatches``, ``release_window``, ``receive_ahead``, ``pipeline``,
            ``horizon_unit``, ``active_microbatches``, ``decisions``, or any key's full path, e.g.
            ``{"hardware.d2h": ["8 GB/s", "32 GB/s"]}``.
        workers: processes here, 0 for one each core; or :class:`loadahead.sweeps.workers.Workers`, a cluster.
        directory: a run directory that keeps finished points, so that the same sweep goes on where it was stopped, and
            that gets the table as CSV and Parquet.
        fresh: start anew, whatever the directory holds.
    """
    from loadahead.arguments import costs_given
    from loadahead.sim.engines import DEFAULT_ENGINE, find_engine
    from loadahead.sweeps.axes import axes_of
    from loadahead.sweeps.grid import Grid, Sweep
    from loadahead.sweeps.run import run_sweep
    from loadahead.sweeps.workers import Workers, workers_of

    chosen = engine or DEFAULT_ENGINE
    find_engine(chosen)
    if fresh and directory is None:
        raise InputError("fresh needs the directory to start anew in", parameters=("directory",))
    crew = workers if isinstance(workers, Workers) else workers_of("loky", workers, None)
    whole = Sweep(source, overrides or {}, costs_given(costs), progress=progress or silent)
    grid = Grid(whole, axes_of(axes))
    grid.try_out()
    grid.compile_first()
    folder = None if directory is None else Path(directory)
    done = run_sweep(grid, chosen, crew, directory=folder, fresh=fresh, progress=progress or silent)
    return SweepTable(
        rows=done.rows,
        warnings=tuple(whole.warnings),
        advice=done.advice.marked,
        advice_by_axes=done.advice.each,
        facts=done.facts,
    )


def calibrate(
    source: ScenarioSource,
    overrides: Overrides | None = None,
    *,
    device: str = "cpu",
    repeats: int | None = None,
    check: bool = True,
    progress: ProgressCallback | None = None,
) -> Costs:
    """Measure on this machine what the units of a scenario's module cost, and return the costs.

    ``repeats`` is how often each operation is timed. With ``check`` the kernels are those of runs whose gradients are
    checked.
    """
    from loadahead.arguments import require_device
    from loadahead.jobs import CALIBRATION_REPEATS, calibrate_prepared, uncalibrated
    from loadahead.modules import module_of

    require_device(device)
    prepared = uncalibrated(source, overrides, device)
    module_of(prepared.scenario)
    (progress or silent)(Progress(f"calibrating {prepared.scenario.name} on {device}"))
    count = CALIBRATION_REPEATS if repeats is None else repeats
    if type(count) is not int:
        raise InputError(f"repeats is {count!r:.40}; it must be a whole number")
    return calibrate_prepared(prepared, count, device, deterministic=check)


@tells_of_compiling
def execute(
    source: ScenarioSource | Plan,
    overrides: Overrides | None = None,
    *,
    order: OrderSource | None = None,
    decisions: DecisionsSource | None = None,
    device: str = "cpu",
    costs: Costs | str | Path | None = None,
    steps: int | None = None,
    check: bool = True,
    progress: ProgressCallback | None = None,
) -> Run:
    """Run a plan on real tensors for some optimizer steps, beside its prediction.

    Args:
        order, decisions: those of :func:`plan`. A model in memory needs them here, as a plan does not hold the model.
        costs: what the prediction uses, ``"estimate"`` too; None: the scenario's, or a calibration on the device.
        steps: None means the scenario's number.
        check: compare every gradient, loss and buffer with plain training's, bit for bit: ``run.check``.
    """
    from loadahead.arguments import costs_given, require_device
    from loadahead.jobs import job_of, with_costs
    from loadahead.runs import run_job

    require_device(device)
    tell = progress or silent
    job = job_of(source, overrides, costs_given(costs), device, order, decisions, tell)
    job, known = with_costs(job, device=device, deterministic=check, progress=tell)
    return run_job(job, known, device=device, steps=steps, check=check, progress=tell)


def compare(
    predicted: Timeline | Run | TrainingStep | SweepTable | str | Path,
    measured: Timeline | Run | TrainingStep | SweepTable | str | Path,
) -> Comparison | ComparisonOfMany | StepComparison | SweepComparison:
    """Return a prediction beside a measurement: step time, peak memory, every operation and kind of operation.

    Each is a timeline, or a run or a :class:`loadahead.TrainingStep` (its prediction, or its measurement), or the path
    of a timeline, of a run directory or of a directory of timelines; then both are paths. Two that are no prediction
    and measurement of one plan are compared as two steps, A and B: measurements where both have one, else predictions.

    Two sweeps, each a :class:`SweepTable` or the path of its directory or table, are compared as well: which points
    moved from the first to the second, which is chosen now, and what joined or left the front.
    """
    from loadahead.comparison import compare_arguments, compare_sides, run_side, timeline_side
    from loadahead.runs import Run
    from loadahead.training import TrainingStep

    if isinstance(predicted, SweepTable) or isinstance(measured, SweepTable):
        return _compare_sweeps(predicted, measured)
    if isinstance(predicted, str | Path) or isinstance(measured, str | Path):
        if not (isinstance(predicted, str | Path) and isinstance(measured, str | Path)):
            raise InputError("one side of the comparison is a path and the other is not; give two paths or none")
        return compare_arguments(Path(predicted), Path(measured))
    sides = []
    for name, what, side in (("prediction", "first", predicted), ("measurement", "second", measured)):
        if isinstance(side, Timeline):
            sides.append(timeline_side(side, f"the {what} timeline"))
        elif isinstance(side, Run | TrainingStep):
            sides.append(run_side(side, f"the {what} run"))
        else:
            raise InputError(
                f"the {name} is of type {type(side).__name__}; it must be a timeline, a run, a TrainingStep, a "
                "sweep's table or a path"
            )
    return compare_sides(*sides)


def _compare_sweeps(first: object, second: object) -> SweepComparison:
    """Compare two sweeps, of which at least one is a table; InputError where the other is none."""
    from loadahead.comparison import read_side
    from loadahead.reports.sweep_comparison import SweepSide, compare_sweeps

    sides = []
    for name, given in (("first", first), ("second", second)):
        if isinstance(given, SweepTable):
            sides.append(SweepSide(name=f"the {name} table", rows=given.rows, facts=given.facts))
        elif isinstance(given, str | Path):
            sides.append(read_side(Path(given)))
        else:
            raise InputError(
                f"one side of the comparison is a sweep's table and the {name} is of type {type(given).__name__}; "
                "give two sweeps, or two timelines or runs"
            )
    return compare_sweeps(*sides)


def report(subject: Run | SweepTable | Timeline | Tuned | str | Path, directory: str | Path | None = None) -> Path:
    """Write a page of plots and numbers and return its path.

    The subject is a run, a sweep's table, a timeline or a tuned plan, whose files are written into the directory first;
    or a run directory's path, whose page is written there.
    """
    from loadahead.reports import run_directory
    from loadahead.reports.page import write_report
    from loadahead.runs import Run, write_run
    from loadahead.sim.timeline import write_timeline
    from loadahead.tuning import Tuned, write_tuned

    if isinstance(subject, str | Path):
        return write_report(Path(subject))
    if not isinstance(subject, Run | SweepTable | Timeline | Tuned):
        raise InputError(
            f"the report's subject is of type {type(subject).__name__}; it must be a run, a sweep's table, a timeline, "
            "a tuned plan or a run directory's path"
        )
    if directory is None:
        raise InputError("the report needs a directory to be written to; give one", parameters=("directory",))
    folder = run_directory.make(Path(directory))
    if isinstance(subject, Run):
        write_run(subject, folder)
    elif isinstance(subject, Tuned):
        write_tuned(subject, folder)
    elif isinstance(subject, SweepTable):
        run_directory.write_sweep(folder, subject.rows, subject.facts)
    elif isinstance(subject, Timeline):
        name = run_directory.MEASURED if subject.is_measured else run_directory.PREDICTED
        for other in run_directory.FILES:
            if other != name and (folder / other).exists():
                raise InputError(f"{folder}: holds a run or a sweep already ({other}); give another directory")
        write_timeline(subject, folder / name)
    return write_report(folder)


@tells_of_compiling
def export(
    subject: Plan | Timeline | Run | str | Path,
    to: str,
    path: str | Path,
    *,
    side: str | None = None,
    costs: Costs | str | Path | None = None,
) -> Exported:
    """Write what other tools open, and return what has been written.

    Args:
        subject: a plan, which is predicted first; a timeline; a run, or a run directory's path, whose prediction and
            measurement come side by side; or the path of a plan or of a timeline.
        to: ``"perfetto"`` or ``"chrome"``, a trace; or ``"memory-viz"``, the plan's allocations.
        path: the file to write.
        side: ``"predicted"`` or ``"measured"`` alone.
        costs: those of the prediction; None: the scenario's, or the run's.
    """
    from loadahead.exporting import export_subject

    return export_subject(subject, to, Path(path), side, costs)
