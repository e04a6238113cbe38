"""Compares two sweeps: which points moved, which is chosen now, what joined or left the front, and why it may be so."""

from loadahead.reports.sweep_comparison.compare import compare_sweeps
from loadahead.reports.sweep_comparison.result import (
    BestChange,
    FactDifference,
    FrontChange,
    PointChange,
    SweepComparison,
    SweepSide,
)
from loadahead.reports.sweep_comparison.words import comparison_sentences, sweeps_grid

__all__ = [
    "BestChange",
    "FactDifference",
    "FrontChange",
    "PointChange",
    "SweepComparison",
    "SweepSide",
    "compare_sweeps",
    "comparison_sentences",
    "sweeps_grid",
]
