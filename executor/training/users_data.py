"""The batches of a step in a user's own loop: taken from whatever holds them, and looked at before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from loadahead.executor.model.spec import Batch, require_batch
from loadahead.executor.tensors.layout import Layout
from loadahead.sim.errors import InputError

# What is looked at of each tensor of an input: its shape and type.
Shapes = tuple[tuple[torch.Size, torch.dtype], ...]


def batches_of(given: Any, microbatches: int, device: torch.device) -> list[Batch]:
    """Return a step's batches, one for each microbatch; InputError for what a plan of so many cannot run."""
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping | torch.Tensor):
        raise InputError(
            f"the batches are of type {type(given).__name__}; give a sequence of {microbatches} pairs (input, target), "
            "one for each microbatch"
        )
    # Of a stream of batches no more is taken than shows that there are too many.
    batches = list(given) if isinstance(given, Sequence) else list(islice(given, microbatches + 1))
    if len(batches) != microbatches:
        beyond = len(batches) > microbatches and not isinstance(given, Sequence)
        many = f"more than {microbatches}" if beyond else str(len(batches))
        raise InputError(
            f"the step was given {many} batches and its plan has parallel.microbatches = {microbatches}; give one "
            "(input, target) for each"
        )
    for number, batch in enumerate(batches):
        require_batch(batch, f"batch {number} is")
        for tensor in _tensors(batch[0]):
            if tensor.device != device:
                raise InputError(
                    f"the input of batch {number} is on {tensor.device} and the step runs on {device}: move it there "
                    f'with .to("{device}")'
                )
            if tensor.requires_grad:
                raise InputError(
                    f"the input of batch {number} requires a gradient, which a plan's step does not compute: give it "
                    "detached, or make what it comes from the model's first layer"
                )
    return [(batch[0], batch[1]) for batch in batches]


def shapes_of(batch: Batch) -> Shapes:
    """Return the shapes and types of the tensors of a batch's input."""
    return tuple((tensor.shape, tensor.dtype) for tensor in _tensors(batch[0]))


def require_shapes(batches: Sequence[Batch], planned: Shapes) -> None:
    """Raise InputError for a batch whose input has other shapes than the one that the step was planned with."""
    for number, batch in enumerate(batches):
        found = shapes_of(batch)
        if found != planned:
            raise InputError(
                f"the input of batch {number} is {_shown(found)}; the step was planned for {_shown(planned)}, and a "
                "plan's memory is for one shape: make a TrainingStep for each shape, pad what is smaller, or leave the "
                "last, smaller batch out (drop_last)"
            )


def _shown(shapes: Shapes) -> str:
    return " and ".join(str(Layout(tuple(shape), (), dtype)) for shape, dtype in shapes)


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]
