"""Says by which time the points of a sweep compare: a step's, or its share where steps differ in work or GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loadahead.sim.step_metrics import SweepRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Says what a row's time is divided by microbatches, and multiplied by GPUs.

    Within a figure it orders rows as :func:`loadahead.sim.choice.gpu_ns_per_microbatch` does.
    """

    per_microbatch: bool
    of_all_gpus: bool

    @property
    def name(self) -> str:
        """Return what the time is called."""
        what = "GPU time" if self.of_all_gpus else "step time"
        return f"{what} per microbatch" if self.per_microbatch else f"{what} of a step" if self.of_all_gpus else what

    @property
    def sentence(self) -> str:
        """Return what the time is where it is not the step's; else nothing."""
        product = "the step time times the GPUs" if self.of_all_gpus else "the step time"
        if self.per_microbatch:
            return f"{self.name[0].upper()}{self.name[1:]} is {product} divided by the step's microbatches."
        return f"{self.name} is {product}." if self.of_all_gpus else ""

    def of(self, row: SweepRow) -> float:
        """Return the row's time in ns."""
        gpus = (row.gpus or 1) if self.of_all_gpus else 1
        return row.step_time_ns * gpus / (row.microbatches if self.per_microbatch else 1)


def timed(groups: Iterable[Sequence[SweepRow]]) -> Timed:
    """Return the time by which the rows of each group compare with each other."""
    known = [list(group) for group in groups]
    return Timed(
        per_microbatch=any(len({row.microbatches for row in group}) > 1 for group in known),
        of_all_gpus=any(len({row.gpus or 1 for row in group}) > 1 for group in known),
    )
