"""Comparisons of files and results: which two timelines or sweeps two arguments mean, and what is written of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loadahead.reports import run_directory
from loadahead.reports.compare import Comparison, ComparisonOfMany, compare_paths
from loadahead.reports.run_data import load_run, read_horizons, read_sweep
from loadahead.reports.run_directory import HORIZONS, MEASURED, PREDICTED, SWEEP_CSV, SWEEP_FACTS, SWEEP_PARQUET
from loadahead.reports.statistics import kendall_tau
from loadahead.reports.sweep_comparison import SweepComparison, SweepSide, compare_sweeps
from loadahead.reports.sweep_facts import read_facts
from loadahead.sim.errors import InputError

if TYPE_CHECKING:
    from loadahead.reports.sweep_facts import SweepFacts

_TABLES = (".csv", ".parquet")


def compare_arguments(first: Path, second: Path) -> Comparison | ComparisonOfMany | SweepComparison:
    """Compare two files or two directories: a prediction with a measurement, or a sweep with another.

    A run directory stands for its timeline, and where both have one, timelines are compared, whatever sweeps lie beside
    them. InputError for a sweep and a run.
    """
    if _has_timeline(first, PREDICTED) and _has_timeline(second, MEASURED):
        return compare_paths(_timeline_in(first, PREDICTED), _timeline_in(second, MEASURED))
    swept = [_has_sweep(path) for path in (first, second)]
    if all(swept):
        return compare_sweeps(read_side(first), read_side(second))
    if any(swept):
        sweep, other = (first, second) if swept[0] else (second, first)
        raise InputError(f"{sweep} is a sweep and {other} is none; give two sweeps, or two timelines or runs")
    return compare_paths(_timeline_in(first, PREDICTED), _timeline_in(second, MEASURED))


def _has_timeline(path: Path, name: str) -> bool:
    """Return whether a path is a timeline or a directory that has some; a sweep's directory has them by their names."""
    if not path.is_dir():
        return not _is_table(path)
    if any((path / own).is_file() for own in (name, PREDICTED, MEASURED)):
        return True
    return not _has_sweep(path) and any(path.glob("*.jsonl"))


def _timeline_in(path: Path, name: str) -> Path:
    return path / name if (path / name).is_file() else path


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
        raise InputError(f"{path}: there is no such file; give a sweep's directory, or its {SWEEP_CSV}")
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
