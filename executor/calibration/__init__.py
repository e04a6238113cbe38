"""Measures what a workload's operations cost on this machine, by the replay loop that runs use too."""

from __future__ import annotations

from loadahead.executor.calibration.run import MICROBATCHES, calibrate

__all__ = ["MICROBATCHES", "calibrate"]
