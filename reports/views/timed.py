"""Says by which time the points of a sweep compare: a step's, or its share where steps differ in work or GPUs.

All that a page shows of one sweep has the time of :func:`time_of`, so that a point has one number everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loadahead.sim.choice import gpu_ns_per_microbatch
from loadahead.sim.step_metrics import SweepRow

STEP_TIME, GPU_TIME = "step time", "GPU time per microbatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Says whether a row's time is its step's, or :func:`loadahead.sim.choice.gpu_ns_per_microbatch`.

    ``gpus_known`` says whether any row has its number of GPUs; they count as one where it is not.
    """

    per_gpu_and_microbatch: bool
    gpus_known: bool = False

    @property
    def name(self) -> str:
        """Return what the time is called."""
        return GPU_TIME if self.per_gpu_and_microbatch else STEP_TIME

    @property
    def sentence(self) -> str:
        """Return what the time is where it is not the step's; else nothing."""
        if not self.per_gpu_and_microbatch:
            return ""
        times = " times the GPUs" if self.gpus_known else ""
        return f"{GPU_TIME} is the step time{times}, divided by the step's microbatches."

    def of(self, row: SweepRow) -> float:
        """Return the row's time in ns."""
        return gpu_ns_per_microbatch(row) if self.per_gpu_and_microbatch else float(row.step_time_ns)


def time_of(rows: Iterable[SweepRow]) -> Timed:
    """Return the time by which all of the rows compare: the step's where all do as much work on as many GPUs."""
    known = list(rows)
    differ = len({row.microbatches for row in known}) > 1 or len({row.gpus or 1 for row in known}) > 1
    return Timed(per_gpu_and_microbatch=differ, gpus_known=any(row.gpus is not None for row in known))
