"""Says what a plan's step asks for beside the model in units: loss, seeds, and what comes before and at its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch

from loadahead.executor.model.unit import LossOf


class Training(Protocol):
    """Is what a step trains with."""

    def begin_step(self) -> None:
        """Do what comes before a step, outside the measured time."""

    def loss_of(self, target: Any, microbatches: int) -> LossOf:
        """Return the loss function of one microbatch, scaled so that a step's losses add up to their mean."""

    def seed(self, step: int, stage: int, unit: int, microbatch: int) -> int:
        """Return the seed of a unit's random numbers for one step and microbatch."""

    def optimizer_step(self, rank: int) -> None:
        """Do what a rank's OPTIMIZER_STEP does."""

    def resident(self, rank: int) -> Iterator[torch.Tensor]:
        """Yield the tensors that a rank holds between steps, some of them maybe twice."""
