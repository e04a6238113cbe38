"""What a run directory holds, read and checked. Every part is optional; a part that is there must be sound."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from loadahead.reports.about import COMMAND, About, read_about, read_command
from loadahead.reports.findings import Found, read_found
from loadahead.reports.points import Points, read_points, require_rows
from loadahead.reports.run_directory import (
    ADVICE,
    COSTS,
    HORIZONS,
    KEEP_ALL,
    MEASURED,
    PLAN,
    PREDICTED,
    RESULT,
    SWEEP_COMMAND,
    SWEEP_CSV,
    SWEEP_FACTS,
    SWEEP_PARQUET,
    SWEEP_POINTS,
    TUNING,
)
from loadahead.reports.smp_options import SmpOptions, read_smp
from loadahead.reports.statistics import relative_error
from loadahead.reports.summary import headline, read_step_metrics
from loadahead.reports.sweep_facts import SweepFacts, read_facts
from loadahead.reports.training_check import ALLOWED, DIFFERENCES, MAX_ERROR, TrainingCheck
from loadahead.reports.tuning_facts import TuningFacts, read_tuning
from loadahead.sim.costs import Costs, is_estimate, load_costs
from loadahead.sim.errors import InputError
from loadahead.sim.ir.json_form import OutdatedPlan, load_plan
from loadahead.sim.ir.plan import Plan
from loadahead.sim.step_metrics import (
    CAPACITY,
    IF_MISSING,
    LATER_COLUMNS,
    METRIC_COLUMNS,
    ROOM_COLUMNS,
    SAME_AS,
    StepMetrics,
    SweepRow,
)
from loadahead.sim.timeline import Timeline, read_timeline

Row = dict[str, Any]
T = TypeVar("T")

# What horizons.json keeps of each horizon's run beside its metrics.
STEP_TIMES, KINDS, KIND_SUMS = "step_times_ns", "per_kind", ("predicted_ns", "measured_ns")
REQUIRED_AXES = ("microbatches", "horizon")
# Any of these makes a run directory.
PARTS = (PLAN, PREDICTED, MEASURED, COSTS, SWEEP_CSV, HORIZONS, RESULT)


def _finite(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise InputError(f"{where} is {value!r:.60}; it must be a finite number")
    return float(value)


def read_check(result: Mapping[str, Any], where: str) -> TrainingCheck:
    """Return the comparison with plain training in a result; earlier ones have the gradients' error alone."""
    error, allowed, differences = (result.get(key) for key in (MAX_ERROR, ALLOWED, DIFFERENCES))
    if not isinstance(differences, str | None):
        raise InputError(f"{where}{DIFFERENCES} is {differences!r:.60}; it must be a text")
    return TrainingCheck(
        max_grad_error=None if error is None else _finite(error, f"{where}{MAX_ERROR}"),
        grad_error_allowed=0.0 if allowed is None else _finite(allowed, f"{where}{ALLOWED}"),
        differences=differences,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonPoint:
    """One horizon that was run: the step as it was predicted and as it was measured, either may be missing.

    ``check`` is how its run compared with plain training. ``steps_ns`` are its timed steps, and ``kinds`` how long all
    operations of each kind took together in the measured step, as predicted and as measured; both are empty in earlier
    files.
    """

    horizon: int
    microbatches: int | None
    predicted: StepMetrics | None
    measured: StepMetrics | None
    check: TrainingCheck = field(default_factory=TrainingCheck)
    steps_ns: tuple[int, ...] = ()
    kinds: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def error(self) -> float | None:
        """Return the predicted step time's relative error; None where one side is missing."""
        if self.predicted is None or self.measured is None:
            return None
        return relative_error(self.predicted.step_time_ns, self.measured.step_time_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """The parts of a run.

    ``sweep`` holds one row per configuration; empty where a sweep was not made. ``facts`` is what it says of itself.
    ``advice`` is in words which horizon to set; None where the run has none. ``findings`` is the whole of
    ``advice.json``. ``tuning`` is what tuning found where it made the plan; None where it did not. ``keep_all`` is the
    predicted step with every boundary kept: its header and its memory alone.
    ``points`` has memory and operations of some of the sweep's points.
    ``sweep_command`` is the command line that made the sweep; empty where none is known.
    ``unread`` has a sentence for each file that is there, only adds to the others, and cannot be used.
    """

    directory: Path | None = None
    plan: Plan | None = None
    predicted: Timeline | None = None
    measured: Timeline | None = None
    costs: Costs | None = None
    sweep: tuple[SweepRow, ...] = ()
    facts: SweepFacts | None = None
    horizons: tuple[HorizonPoint, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)
    advice: str | None = None
    findings: Mapping[str, Any] = field(default_factory=dict)
    tuning: TuningFacts | None = None
    keep_all: Timeline | None = None
    points: Points | None = None
    sweep_command: tuple[str, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def about(self) -> About:
        """What the run is of, from the timelines' headers, else from the sweep's facts."""
        for timeline, name in ((self.predicted, PREDICTED), (self.measured, MEASURED)):
            found = None if timeline is None else read_about(timeline.header, name)
            if found is not None:
                return found
        return (None if self.facts is None else self.facts.about) or About()

    @property
    def found(self) -> Found | None:
        """What was found of the run's horizons, or of those of a sweep's marked point; None where none decides."""
        if self.tuning is not None:
            return None
        if self.findings:
            return read_found(self.findings, ADVICE)
        return read_found((self.facts and self.facts.findings) or {}, SWEEP_FACTS)

    @property
    def capacity_bytes(self) -> int | None:
        """Device memory of one rank, from the timelines' headers, else the costs, else a sweep in which it is one."""
        for timeline in (self.predicted, self.measured):
            value = timeline.header.get(CAPACITY) if timeline is not None else None
            if value is not None:
                if type(value) is not int or value < 1:
                    raise InputError(f"{CAPACITY} is {value!r:.60}; it must be an integer of at least 1")
                return value
        if self.costs is not None:
            return self.costs.memory_bytes
        swept = {row.capacity_bytes for row in self.sweep}
        return swept.pop() if len(swept) == 1 else None

    @property
    def made_by(self) -> tuple[tuple[str, ...], ...]:
        """The command lines, in words, that made the timelines and the sweep, each once."""
        timelines = ((self.predicted, PREDICTED), (self.measured, MEASURED))
        found = [read_command(t.header.get(COMMAND, []), name) for t, name in timelines if t is not None]
        return tuple(dict.fromkeys(words for words in (*found, self.sweep_command) if words))

    @property
    def smp(self) -> SmpOptions | None:
        """What SageMaker's options became, of which the prediction is; None where it is of a scenario."""
        return None if self.predicted is None else read_smp(self.predicted.header, PREDICTED)

    @property
    def estimates(self) -> tuple[str, ...]:
        """Where times come from that are an estimate, as the costs say it, each once."""
        sources = [] if self.costs is None else [self.costs.source]
        sources += [] if self.predicted is None else [str(self.predicted.header.get("costs"))]
        sources += [] if self.facts is None else [costs.source for costs in self.facts.costs]
        return tuple(dict.fromkeys(source for source in sources if is_estimate(source)))

    @property
    def losses(self) -> tuple[float, ...]:
        """The result's loss of each step; empty where there is none."""
        found = self.result.get("losses", self.result.get("loss"))
        losses = found if isinstance(found, list) else [] if found is None else [found]
        return tuple(_finite(loss, f"{RESULT}: loss") for loss in losses)

    @property
    def check(self) -> TrainingCheck:
        """How the result compares with plain training."""
        return read_check(self.result, f"{RESULT}: ")

    @property
    def model_axes(self) -> tuple[str, ...]:
        """The sweep's axes beside those under ``model.`` that make the model another one."""
        return () if self.facts is None else self.facts.model_axes

    @property
    def microbatches(self) -> int | None:
        return self.plan.microbatches if self.plan is not None else None


def load_run(directory: str | Path) -> RunData:
    """Read a run directory; InputError when it is none, holds no part at all, or a part is malformed.

    A file that only adds to the others is left out instead, and :attr:`RunData.unread` says why.
    """
    root = Path(directory)
    if not root.is_dir():
        raise InputError(f"{root}: is not a directory; give the directory of a demo, a run, a sweep or a validation")

    def there(name: str) -> Path | None:
        return root / name if (root / name).is_file() else None

    plan, predicted, measured = there(PLAN), there(PREDICTED), there(MEASURED)
    costs, horizons, result, advice = there(COSTS), there(HORIZONS), there(RESULT), there(ADVICE)
    tuning = there(TUNING)
    sweep, facts = there(SWEEP_CSV) or there(SWEEP_PARQUET), there(SWEEP_FACTS)
    keep_all, points, swept_by = there(KEEP_ALL), there(SWEEP_POINTS), there(SWEEP_COMMAND)
    if not any((plan, predicted, measured, sweep, horizons, result)):
        raise InputError(f"{root}: holds nothing to report on; it needs at least one of {', '.join(PARTS)}")
    unread: dict[str, str] = {}
    rows = read_sweep(sweep) if sweep else ()
    data = RunData(
        directory=root,
        plan=_plan(plan) if plan else None,
        predicted=read_timeline(predicted) if predicted else None,
        measured=read_timeline(measured) if measured else None,
        costs=load_costs(costs) if costs else None,
        sweep=rows,
        facts=read_facts(facts) if sweep and facts else None,
        horizons=read_horizons(horizons) if horizons else (),
        result=_object(result) if result else {},
        advice=_advice(advice) if advice else None,
        findings=_object(advice) if advice else {},
        tuning=read_tuning(tuning) if tuning else None,
        keep_all=_added(keep_all, unread, _keep_all) if keep_all else None,
        points=_added(points, unread, lambda path: _points(path, rows)) if sweep and points else None,
        sweep_command=read_command(_object(swept_by).get(COMMAND), str(swept_by)) if sweep and swept_by else (),
        unread=unread,
    )
    _check(data)
    return replace(data, sweep=_with_capacity(data.sweep, data.capacity_bytes))


# What is to be done about a file that only adds to the others.
_MADE_AGAIN = {
    KEEP_ALL: "the page goes on without the memory of the step with every boundary kept; simulate again to have it",
    SWEEP_POINTS: "the page goes on without memory and operations of the sweep's points; sweep again to have them",
}


def _added(path: Path, unread: dict[str, str], read: Callable[[Path], T]) -> T | None:
    """Return what ``read`` makes of a file that only adds to the others; where it cannot, note why."""
    try:
        return read(path)
    except InputError as error:
        unread[path.name] = f"{error}; {_MADE_AGAIN[path.name]}"
        return None


def _keep_all(path: Path) -> Timeline:
    timeline = read_timeline(path)
    headline(timeline, path.name)
    return timeline


def _points(path: Path, rows: tuple[SweepRow, ...]) -> Points:
    points = read_points(path)
    require_rows(path, points, rows)
    return points


def _with_capacity(rows: tuple[SweepRow, ...], capacity: int | None) -> tuple[SweepRow, ...]:
    """Return a sweep's rows; those of an earlier version, which have no capacity, get the run's."""
    return tuple(row if row.capacity_bytes is not None else replace(row, capacity_bytes=capacity) for row in rows)


def _plan(path: Path) -> Plan | None:
    """Read a plan; None for one of an earlier version that cannot be read as one any more: its timelines still can."""
    try:
        return load_plan(path)
    except OutdatedPlan:
        return None


def _advice(path: Path) -> str:
    """Read the sentence of ``advice.json``."""
    sentence = _object(path).get("sentence")
    if not isinstance(sentence, str) or not sentence:
        raise InputError(f"{path}: sentence is {sentence!r:.60}; it must be a text")
    return sentence


def _check(data: RunData) -> None:
    """Everything that can be wrong is found before anything is drawn or written."""
    _check_rows(data)
    _check_tuning(data)
    _check_communication(data)
    for timeline, name in ((data.predicted, PREDICTED), (data.measured, MEASURED)):
        if timeline is not None:
            headline(timeline, name)
    _ = data.capacity_bytes, data.losses, data.check, data.about, data.found, data.made_by, data.smp


def _check_communication(data: RunData) -> None:
    """What a predicted step's ranks spend on collectives is a part of the step."""
    step = data.predicted
    about = None if step is None else read_about(step.header, PREDICTED)
    if step is None or about is None or about.communication_ns is None:
        return
    longest, whole = max(about.communication_ns, default=0), headline(step, PREDICTED).step_time_ns
    if longest > whole:
        raise InputError(
            f"{PREDICTED}: about.communication_ns has {longest}; it must be at most the step's time, {whole} ns"
        )


def _check_tuning(data: RunData) -> None:
    """What tuning found must be of the plan beside it."""
    if data.tuning is None or data.plan is None:
        return
    said, chosen = data.plan.policy.get("offloaded"), data.tuning.chosen.offloaded
    if type(said) is int and said != chosen:
        raise InputError(
            f"{data.directory}: {TUNING} is of a plan that offloads {chosen} boundaries and {PLAN} offloads {said}; "
            "both must come from the same run, tune again"
        )


def _check_rows(data: RunData) -> None:
    """A timeline beside a plan must have the plan's rows, in its order."""
    if data.plan is None:
        return
    for name, timeline in ((PREDICTED, data.predicted), (MEASURED, data.measured)):
        if timeline is None:
            continue
        ids = range(len(data.plan)) if data.plan.op_ids is None else data.plan.op_ids.tolist()
        if timeline.op.tolist() != list(ids) or (timeline.kind != data.plan.ops.kind).any():
            raise InputError(
                f"{data.directory}: {name} has {len(timeline)} operations that are not those of {PLAN} "
                f"({len(data.plan)}); both must come from the same run"
            )


def _object(path: Path) -> Row:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error.__class__.__name__}); one JSON object is needed") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds {str(found)[:40]!r}; one JSON object is needed")
    return found


def read_horizons(path: Path) -> tuple[HorizonPoint, ...]:
    """Read ``horizons.json``, ordered by horizon and microbatches; InputError when malformed."""
    points = _object(path).get("points")
    if not isinstance(points, list):
        raise InputError(f"{path}: points is {points!r:.60}; it must be a list of objects")
    out = []
    for index, point in enumerate(points):
        where = f"{path}: points[{index}]"
        if not isinstance(point, dict):
            raise InputError(f"{where} is {point!r:.60}; it must be an object")
        horizon, microbatches = point.get("horizon"), point.get("microbatches")
        for name, value in (("horizon", horizon), ("microbatches", microbatches)):
            if (value is not None or name == "horizon") and (type(value) is not int or value < 1):
                raise InputError(f"{where}.{name} is {value!r:.60}; it must be an integer of at least 1")
        sides = {
            side: None if point.get(side) is None else read_step_metrics(point[side], f"{where}.{side}")
            for side in ("predicted", "measured")
        }
        out.append(
            HorizonPoint(
                horizon=int(horizon or 0),
                microbatches=microbatches,
                check=read_check(point, f"{where}."),
                steps_ns=_steps(point.get(STEP_TIMES, []), f"{where}.{STEP_TIMES}"),
                kinds=_kinds(point.get(KINDS, {}), f"{where}.{KINDS}"),
                **sides,
            )
        )
    return tuple(sorted(out, key=lambda point: (point.horizon, point.microbatches or 0)))


def _steps(value: object, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(step) is int and step > 0 for step in value):
        raise InputError(f"{where} is {value!r:.60}; it must be a list of integers above 0")
    return tuple(value)


def _kinds(value: object, where: str) -> dict[str, tuple[int, int]]:
    """Return the summed times of each kind of operation, as predicted and as measured."""
    if not isinstance(value, dict):
        raise InputError(f"{where} is {value!r:.60}; it must be an object")
    out = {}
    for name, sums in value.items():
        predicted, measured = (sums.get(key) if isinstance(sums, dict) else None for key in KIND_SUMS)
        if type(predicted) is not int or type(measured) is not int or min(predicted, measured) < 0:
            raise InputError(
                f"{where}.{name} is {sums!r:.60}; it must have {' and '.join(KIND_SUMS)}, integers of at least 0"
            )
        out[str(name)] = (predicted, measured)
    return out


def read_sweep(path: Path) -> tuple[SweepRow, ...]:
    """Read ``sweep.csv`` or ``sweep.parquet``; InputError when a column is missing or holds what it must not."""
    rows = _csv_rows(path) if path.suffix == ".csv" else _parquet_rows(path)
    return tuple(read_sweep_row(row, f"{path} row {number}") for number, row in enumerate(rows, 1))


def _csv_rows(path: Path) -> list[Row]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            return [{key: _value(text) for key, text in row.items()} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error.__class__.__name__})") from error


def _value(text: Any) -> Any:
    """An int where the text is one, else a finite float, else the text; None for nothing."""
    if not isinstance(text, str) or not text:
        return None
    for convert in (int, float):
        try:
            value = convert(text)
        except ValueError:
            continue
        # JSON has no number for what is not finite; as an axis' value it is a name like others.
        return value if math.isfinite(value) else text
    return text


def _parquet_rows(path: Path) -> list[Row]:
    import pandas as pd  # slow to import, and needed only where there is no CSV beside the Parquet file

    try:
        frame = pd.read_parquet(path)
    except Exception as error:  # pyarrow's errors have no common base that pandas documents
        raise InputError(f"{path}: cannot be read as Parquet ({error.__class__.__name__})") from error
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def read_sweep_row(columns: Row, where: str) -> SweepRow:
    """Return the row of a table from a file; InputError when a column is missing or holds what it must not."""
    for key in (*REQUIRED_AXES, *METRIC_COLUMNS):
        if key not in columns:
            if key in IF_MISSING or key in SAME_AS:
                continue
            raise InputError(f"{where}: column {key} is missing; a sweep's table has {', '.join(METRIC_COLUMNS)}")
        value = columns[key]
        if key == "overlap":
            if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= 1:
                raise InputError(f"{where}: overlap is {value!r:.60}; it must be a number from 0 to 1")
        elif value is None and key in ROOM_COLUMNS:
            continue
        elif type(value) is not int or value < _lowest(key):
            raise InputError(f"{where}: {key} is {value!r:.60}; it must be an integer of at least {_lowest(key)}")
    for key in LATER_COLUMNS:
        value = columns.get(key)
        if value is not None and (type(value) not in (int, float) or not math.isfinite(value) or value < 0):
            raise InputError(f"{where}: {key} is {value!r:.60}; it must be a number of at least 0, or nothing")
    for key, value in columns.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where}: {key} is {value!r}; it must be a finite number, or a text")
    replicas = columns.get("replicas")
    # A column of whole numbers in which some are missing comes back as one of floats.
    return SweepRow.from_dict({**columns, "replicas": replicas if replicas is None else int(replicas)})


def _lowest(key: str) -> int:
    """Return the least value of a column of integers: there is no step without work, nor a capacity of nothing."""
    return int(key in REQUIRED_AXES or key in ROOM_COLUMNS)
