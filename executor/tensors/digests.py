"""Digests of tensors: equal numbers for equal bits, to tell later whether a tensor is what it was."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

# Kernels hand each other memory of this type, of which they may leave parts as they found it (recurrent layers).
_SCRATCH = torch.uint8


def digest(tensor: torch.Tensor) -> int | None:
    """Return a checksum of a tensor's bits; None for a kind of tensor of which nobody can tell.

    No operator of torch that takes memory runs: what measures memory at the time sees nothing. On another device than
    the CPU the tensor is copied to the host, and the host waits.
    """
    if tensor.is_nested or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return None
    with _disable_current_modes():
        return _checksum(tensor.detach())


def _checksum(tensor: torch.Tensor) -> int | None:
    if tensor.dtype == _SCRATCH or tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        return None
    if type(tensor) is not torch.Tensor or not tensor.numel():
        return None
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    tensor = tensor.resolve_conj().resolve_neg()
    if not tensor.dim():
        tensor = tensor.reshape(1)
    # numpy does not know bfloat16; bits are all that matters.
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(tensor.element_size())
    numbers = (tensor if whole is None else tensor.view(whole)).numpy()
    return zlib.crc32(np.ascontiguousarray(numbers).data.cast("B"))
