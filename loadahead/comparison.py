"""Comparisons of files: which timelines two paths mean, and how well the order of horizons was predicted."""

from __future__ import annotations

from pathlib import Path

from loadahead.reports.compare import Comparison, ComparisonOfMany, compare_paths
from loadahead.reports.run_data import read_horizons
from loadahead.reports.run_directory import HORIZONS, MEASURED, PREDICTED
from loadahead.reports.statistics import kendall_tau


def compare_arguments(predicted: Path, measured: Path) -> Comparison | ComparisonOfMany:
    """Compare two files, or two directories of files with equal names; a run directory stands for its timeline."""
    return compare_paths(_timeline_in(predicted, PREDICTED), _timeline_in(measured, MEASURED))


def _timeline_in(path: Path, name: str) -> Path:
    return path / name if (path / name).is_file() else path


def horizons_tau(directory: Path) -> float | None:
    """Return Kendall's tau of the step times of a run directory's horizons, predicted and measured; None without."""
    path = directory / HORIZONS
    if not path.is_file():
        return None
    pairs = [(p.predicted, p.measured) for p in read_horizons(path) if p.predicted and p.measured]
    return kendall_tau([p.step_time_ns for p, _ in pairs], [m.step_time_ns for _, m in pairs])
