"""What a workload's operations cost on this machine, measured through the same replay loop as a run."""

from __future__ import annotations

from loadahead.executor.calibration.run import MICROBATCHES, calibrate

__all__ = ["MICROBATCHES", "calibrate"]
