"""Comparisons of files and results: which two timelines or sweeps two arguments mean, and what is written of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from loadahead.reports import run_directory
from loadahead.reports.compare import Comparison, ComparisonOfMany, compare, compare_directories, of_one_plan
from loadahead.reports.run_data import load_run, read_horizons, read_sweep
from loadahead.reports.run_directory import HORIZONS, MEASURED, PREDICTED, SWEEP_CSV, SWEEP_FACTS, SWEEP_PARQUET
from loadahead.reports.statistics import kendall_tau
from loadahead.reports.step_comparison import StepComparison, compare_steps
from loadahead.reports.sweep_comparison import SweepComparison, SweepSide, compare_sweeps
from loadahead.reports.sweep_facts import read_facts
from loadahead.sim.errors import InputError
from loadahead.sim.timeline import read_timeline

if TYPE_CHECKING:
    from loadahead.reports.sweep_facts import SweepFacts
    from loadahead.sim.timeline import Timeline

_TABLES = (".csv", ".parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """Holds one step that may be compared: its name, which may be its file's, and what reads or makes its timeline."""

    name: str
    timeline: Callable[[], Timeline]
    is_file: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSide:
    """Holds one side of a comparison: its prediction, its measurement, or both where it is a run."""

    predicted: _Step | None = None
    measured: _Step | None = None

    @property
    def steps(self) -> list[_Step]:
        """Return what there is."""
        return [step for step in (self.predicted, self.measured) if step is not None]


def compare_arguments(first: Path, second: Path) -> Comparison | ComparisonOfMany | StepComparison | SweepComparison:
    """Compare two files or two directories: a prediction with a measurement, a step with another, or two sweeps.

    A run directory stands for its timelines, and where both have some, these are compared, whatever sweeps lie beside
    them. InputError for a sweep and a run, and for what is not there.
    """
    for path in (first, second):
        if not path.exists():
            raise InputError(f"{path}: there is no such file or directory; give timelines, runs or sweeps")
    if _has_timeline(first) and _has_timeline(second):
        return _compare_timelines(first, second)
    swept = [_has_sweep(path) for path in (first, second)]
    if all(swept):
        return compare_sweeps(read_side(first), read_side(second))
    if any(swept):
        sweep, other = (first, second) if swept[0] else (second, first)
        raise InputError(f"{sweep} is a sweep and {other} is none; give two sweeps, or two timelines or runs")
    return _compare_timelines(first, second)


def _compare_timelines(first: Path, second: Path) -> Comparison | ComparisonOfMany | StepComparison:
    """Compare two timelines or runs, or directories of timelines by their names; InputError for one of each."""
    folders = [path.is_dir() and not _is_run(path) for path in (first, second)]
    if all(folders):
        return compare_directories(first, second)
    if any(folders):
        folder, other = (first, second) if folders[0] else (second, first)
        raise InputError(
            f"{folder} is a directory without {PREDICTED} and {MEASURED}, and {other} is a timeline or a run; give two "
            "timelines or runs, or two directories of timelines with equal names"
        )
    found = compare_sides(_run_side(first), _run_side(second))
    files = {path: _files(path) for path in (first, second) if path.is_dir()}
    if first == second or not files:
        return found
    a, b = (files.get(path, [path]) for path in (first, second))
    used = _used(found)
    pairs = [(str(one), str(other)) for one, other in ((a[-1], b[-1]), (a[0], b[0])) if (str(one), str(other)) != used]
    return replace(found, others=tuple(dict.fromkeys(pairs)))


def _used(found: Comparison | StepComparison) -> tuple[str, str] | None:
    return found.files if isinstance(found, Comparison) else (found.a.name, found.b.name)


def _is_run(directory: Path) -> bool:
    return bool(_files(directory))


def _files(directory: Path) -> list[Path]:
    """Return the timelines of a run directory, the prediction first."""
    return [directory / name for name in (PREDICTED, MEASURED) if (directory / name).is_file()]


def _run_side(path: Path) -> RunSide:
    if path.is_dir():
        steps = {
            file.name: _Step(name=str(file), timeline=partial(read_timeline, file), is_file=True)
            for file in _files(path)
        }
        return RunSide(predicted=steps.get(PREDICTED), measured=steps.get(MEASURED))
    return timeline_side(read_timeline(path), str(path), is_file=True)


def timeline_side(timeline: Timeline, name: str, *, is_file: bool = False) -> RunSide:
    """Return a side of one timeline, which says itself whether it was measured."""
    step = _Step(name=name, timeline=lambda: timeline, is_file=is_file)
    return RunSide(measured=step) if timeline.is_measured else RunSide(predicted=step)


class _PredictedAndMeasured(Protocol):
    @property
    def predicted(self) -> Timeline: ...

    @property
    def measured(self) -> Timeline: ...


def run_side(run: _PredictedAndMeasured, name: str) -> RunSide:
    """Return the side of a run in memory."""
    return RunSide(
        predicted=_Step(name=f"the prediction of {name}", timeline=lambda: run.predicted),
        measured=_Step(name=f"the measurement of {name}", timeline=lambda: run.measured),
    )


def compare_sides(a: RunSide, b: RunSide) -> Comparison | StepComparison:
    """Compare A's prediction with B's measurement where they are of one plan, else like with like.

    Where there is neither, or plans differ, two measurements are compared before two predictions; and where the sides
    have nothing of one sort, what they have.
    """
    if a.predicted is not None and b.measured is not None:
        predicted, measured = a.predicted.timeline(), b.measured.timeline()
        # Where nothing else can be meant, another plan's measurement is a mistake, which comparing them tells.
        if of_one_plan(predicted, measured) or (len(a.steps), len(b.steps)) == (1, 1):
            files = (a.predicted.name, b.measured.name) if a.predicted.is_file and b.measured.is_file else None
            return replace(compare(predicted, measured), files=files)
    pairs = [(a.measured, b.measured), (a.predicted, b.predicted), (a.steps[0], b.steps[0])]
    one, other = next((one, other) for one, other in pairs if one is not None and other is not None)
    return compare_steps(one.timeline(), other.timeline(), (one.name, other.name))


def _has_timeline(path: Path) -> bool:
    """Return whether a path is a timeline or a directory that has some; a sweep's directory has them by their names."""
    if not path.is_dir():
        return not _is_table(path)
    return _is_run(path) or (not _has_sweep(path) and any(path.glob("*.jsonl")))


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in _TABLES


def _has_sweep(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in (SWEEP_CSV, SWEEP_PARQUET))
    return _is_table(path)


def read_side(path: Path) -> SweepSide:
    """Return the sweep of a run directory, or of a table's file, with what lies beside it of how it was made."""
    if path.is_dir():
        data = load_run(path)
        return SweepSide(name=str(path), rows=data.sweep, facts=data.facts)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file or directory; give a sweep's directory, or its {SWEEP_CSV}")
    return SweepSide(name=str(path), rows=read_sweep(path), facts=_facts_beside(path))


def _facts_beside(path: Path) -> SweepFacts | None:
    facts = path.with_name(SWEEP_FACTS)
    return read_facts(facts) if path.name in (SWEEP_CSV, SWEEP_PARQUET) and facts.is_file() else None


def write_sweep_comparison(found: SweepComparison, directory: Path) -> list[Path]:
    """Write the comparison with every point as JSON, and the fronts as a figure; return what was written."""
    from loadahead.reports.plots.base import Drawing
    from loadahead.reports.plots.fronts import fronts

    run_directory.make(directory)
    try:
        run_directory.write_json(directory, run_directory.SWEEP_COMPARISON, found.to_dict())
        written = [directory / run_directory.SWEEP_COMPARISON]
        drawing = fronts(found)
        if isinstance(drawing, Drawing):
            drawing.save(directory / run_directory.FRONTS)
            written.append(directory / run_directory.FRONTS)
    except OSError as error:
        raise InputError(f"{directory}: the comparison cannot be written there ({error.strerror})") from error
    return written


def horizons_tau(directory: Path) -> float | None:
    """Return Kendall's tau of the step times of a run directory's horizons, predicted and measured; None without."""
    path = directory / HORIZONS
    if not path.is_file():
        return None
    pairs = [(p.predicted, p.measured) for p in read_horizons(path) if p.predicted and p.measured]
    return kendall_tau([p.step_time_ns for p, _ in pairs], [m.step_time_ns for _, m in pairs])
