"""Units, what passes between them, and steps beside plain training, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from loadahead.executor.model.boundaries import Boundaries, trace_boundaries
from loadahead.executor.model.spec import CPU, Batch
from loadahead.executor.model.unit import CheckpointedUnit, Made
from loadahead.executor.tensors.layout import Layout
from loadahead.executor.tensors.values import Form, Value
from loadahead.executor.training.differences import Differences
from loadahead.executor.training.oracle import PlainTraining
from loadahead.executor.training.session import Session


def one(tensor: torch.Tensor) -> Value:
    """The boundary, or the gradient, that is one tensor."""
    return Value((tensor,))


def only(made: Made | Value) -> torch.Tensor:
    """The one tensor of a boundary or a gradient, or of what a FORWARD made."""
    (tensor,) = made.value.tensors if isinstance(made, Made) else made.tensors
    return tensor


def single_form(tensor: torch.Tensor, needs: bool | None = None) -> Form:
    """The form of a boundary of one tensor; it has a gradient if it is of a type that can have one."""
    needed = tensor.is_floating_point() if needs is None else needs
    return Form(tree_flatten(tensor)[1], (0,), (Layout.of(tensor),), (needed,))


def unit_of(
    *layers: nn.Module, reads: torch.Tensor, makes: torch.Tensor | None = None, name: str = "0.1", **settings: Any
) -> CheckpointedUnit:
    """A unit between boundaries of one tensor, as a trace would have left it that saw no state and no random numbers.

    ``makes`` is as ``reads`` where it is not given; ``settings`` are the unit's, with ``dtype`` that of autocast.
    """
    unit = CheckpointedUnit(layers, name, CPU, **{"dtype": None} | settings)
    unit.form, unit.out = single_form(reads), single_form(reads if makes is None else makes)
    return unit


def units_of(*layers: nn.Module | Sequence[nn.Module], **settings: Any) -> list[CheckpointedUnit]:
    """A model's units, not traced yet: one of each layer or sequence of layers."""
    units: list[CheckpointedUnit] = []
    at = 0
    for number, part in enumerate(layers):
        own = [part] if isinstance(part, nn.Module) else list(part)
        fields = {"dtype": None, "first_layer": at} | settings
        units.append(CheckpointedUnit(own, f"0.{number}", CPU, **fields))
        at += len(own)
    return units


def mean(out: Any) -> torch.Tensor:
    """A loss."""
    return out.float().mean()  # type: ignore[no-any-return]


def traced(units: Sequence[CheckpointedUnit], batch: Any, loss: Any = mean) -> Boundaries:
    """What passes between units, which know their forms from then on."""
    return trace_boundaries(units, batch, loss, lambda number: 100 + number)


def compared(
    step: int, session: Session, plain: PlainTraining, losses: Sequence[float], batches: Sequence[Batch]
) -> float:
    """Train the step plainly; the largest difference of a gradient, a loss or a buffer, 0.0 where all is equal."""
    found = Differences()
    found.compare(step, session, plain, losses, plain.train(step, batches))
    assert (found.sentence is None) == (found.worst == 0.0)
    plain.optimize()
    return found.worst
