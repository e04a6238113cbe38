"""What a plan's step trains with in a user's own loop: the user's loss, seeds to be looked up, and no optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from loadahead.executor.model.in_units import ModelInUnits, UnitKey
from loadahead.executor.model.spec import LossFunction, mean_loss
from loadahead.executor.model.unit import LossOf
from loadahead.executor.tensors.randomness import seed_of


def unit_seed(seed: int, step: int, unit: int, microbatch: int) -> int:
    """Return the seed of a unit's random numbers; units are counted through the model, whatever the stages are."""
    return seed_of(seed, step, unit, microbatch)


class _Scaled(torch.autograd.Function):
    """Is the identity whose gradient is a scale's: what ``GradScaler.scale`` does to gradients, and not to the loss."""

    @staticmethod
    def forward(ctx: Any, loss: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        ctx.scale = scale
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor, None]:
        return gradients[0] * ctx.scale, None


@dataclass(slots=True)
class UsersTraining:
    """Is a step's training where optimizer, gradients and data are the user's.

    Attributes:
        base_seed: what all seeds are made of.
        scale: what gradients are multiplied by, a number on the device; None for nothing.
        kind: type and shape of the loss, once one was computed.
    """

    model: ModelInUnits
    loss: LossFunction
    loss_name: str
    base_seed: int
    scale: torch.Tensor | None = None
    kind: tuple[torch.dtype, torch.Size] = (torch.float32, torch.Size())
    _number: dict[UnitKey, int] = field(init=False)

    def __post_init__(self) -> None:
        self._number = {key: number for number, key in enumerate(self.model.units)}

    def begin_step(self) -> None:
        """Do nothing: gradients are added to what is there."""

    def loss_of(self, target: Any, microbatches: int) -> LossOf:
        """Return the loss function of one microbatch, scaled so that a step's losses add up to their mean."""
        return self._noted(mean_loss(self.loss, self.loss_name, target, microbatches))

    def _noted(self, loss: Callable[[Any], torch.Tensor]) -> LossOf:
        def noted(out: Any) -> torch.Tensor:
            value = loss(out)
            self.kind = value.dtype, value.shape
            scaled: torch.Tensor = value if self.scale is None else _Scaled.apply(value, self.scale)  # type: ignore[no-untyped-call]
            return scaled

        return noted

    def mean(self, losses: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a step's losses, each a part of it, as a loop that adds them up one by one has it.

        The losses are float64 and hold numbers of the loss's own type; so does the sum.
        """
        dtype, shape = self.kind
        parts = losses.to(dtype, copy=True).unbind()
        total = parts[0].clone()
        for part in parts[1:]:
            total = total + part
        return total.reshape(shape)

    def seed(self, step: int, stage: int, unit: int, microbatch: int) -> int:
        """Return the seed of a unit's random numbers for one step and microbatch."""
        return unit_seed(self.base_seed, step, self._number[stage, unit], microbatch)

    def optimizer_step(self, rank: int) -> None:
        """Do nothing: the optimizer is the user's."""

    def resident(self, rank: int) -> Iterator[torch.Tensor]:
        """Yield weights, their gradients and module buffers of a rank."""
        yield from self.model.held(rank)
