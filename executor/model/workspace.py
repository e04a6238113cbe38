"""Runs a unit's operations as a step does, and says what each holds beyond the buffers that a plan knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from loadahead.executor.model.boundaries import Handed
from loadahead.executor.model.unit import CheckpointedUnit, LossOf
from loadahead.executor.tensors.layout import Layout, storage_id
from loadahead.executor.tensors.meter import StorageMeter
from loadahead.executor.tensors.sparse import sparse_weights
from loadahead.executor.tensors.values import Description, Value, storages, views_of


@dataclass(frozen=True, slots=True)
class Workspace:
    """Holds bytes that operations of a checkpointed unit hold beyond a plan's buffers, what a graph keeps included."""

    forward: int
    recompute: int
    backward: int


def workspace_of(
    unit: CheckpointedUnit,
    given: Any,
    loss: LossOf | None,
    handed: Sequence[Handed],
    above: Description | None,
    seed: int,
) -> tuple[Workspace, Description]:
    """Return what a traced unit takes when it is checkpointed the sparing way, and how its input's gradient lies.

    Numbers do not matter: gradients are whatever memory holds. Its parameters have theirs from the start, as they have
    in training, where they are not sparse. All is then as it was before.

    Args:
        given: the unit's input in the traced microbatch.
        handed: the tensors that units hand on.
        above: the gradient of what it makes; None where it ends in the loss.
    """
    assert unit.form is not None
    parts = unit.form.take_apart(given, "the data")
    value = Value(_empty(unit.form.layouts, unit.device), parts.constants, views=views_of(parts.own))
    own = {number: handed[number].layout.empty(unit.device) for number in unit.form.handed}
    trained = [parameter for parameter in unit.parameters() if parameter.requires_grad]
    before, gradients = unit.state.everything(), [parameter.grad for parameter in trained]
    sparse = sparse_weights(unit.layers)
    for parameter in trained:
        parameter.grad = None if id(parameter) in sparse else torch.empty_like(parameter)
    grads = [parameter.grad for parameter in trained if parameter.grad is not None]
    meter = StorageMeter([*value.tensors, *own.values(), *unit.parameters(), *grads, *unit.state.held()])
    try:
        with meter:
            return _run(unit, value, loss, own, above, seed, meter)
    finally:
        unit.reset()
        unit.state.put_back(before)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient


def _run(
    unit: CheckpointedUnit,
    value: Value,
    loss: LossOf | None,
    handed: Mapping[int, torch.Tensor],
    gradient_above: Description | None,
    seed: int,
    meter: StorageMeter,
) -> tuple[Workspace, Description]:
    start = meter.live
    made = unit.forward(0, value, seed, loss, handed)
    new = [tensor for tensor in made.handed.values() if storage_id(tensor) not in storages(list(handed.values()))]
    above = 0 if loss is not None else made.value.nbytes
    forward = meter.peak - start - above - sum(tensor.untyped_storage().nbytes() for tensor in new)
    del made, new
    start = meter.live
    meter.start_operation()
    unit.recompute(0, value, loss, handed)
    recompute = meter.peak - start
    kept = meter.live - start
    gradient = None
    if gradient_above is not None:
        gradient = gradient_above.over(_empty(gradient_above.layouts, unit.device))
    start = meter.live - kept
    meter.start_operation()
    below = unit.backward(0, gradient)
    return Workspace(forward, recompute, max(0, meter.peak - start - below.nbytes)), below.described()


def _empty(layouts: Sequence[Layout], device: torch.device) -> tuple[torch.Tensor, ...]:
    return tuple([layout.empty(device) for layout in layouts])
