"""Says which tensors have numbers, and which have a shape alone."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensor

# What torch raises where an operator's result depends on numbers that are not there.
NEEDS_NUMBERS = (DataDependentOutputException, DynamicOutputShapeException)


def has_numbers(tensor: torch.Tensor) -> bool:
    """Return whether a tensor's numbers can be read: one on the meta device and a fake one have a shape alone.

    Of those that a transform of torch.func wraps nobody can tell: they are taken to have none.
    """
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return not (tensor.is_meta or is_fake(tensor) or wrapped)


def is_fake(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has a device, memory that it shares with its views, and no numbers."""
    return isinstance(tensor, FakeTensor)
