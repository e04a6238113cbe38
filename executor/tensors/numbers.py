"""Says which tensors have numbers, and which have a shape alone."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensor


def has_numbers(tensor: torch.Tensor) -> bool:
    """Return whether a tensor's numbers can be read: one on the meta device and a fake one have a shape alone."""
    return not tensor.is_meta and not is_fake(tensor)


def is_fake(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has a device, memory that it shares with its views, and no numbers."""
    return isinstance(tensor, FakeTensor)
