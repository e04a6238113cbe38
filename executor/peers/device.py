"""The device as peers need it: waiting for it, its memory, and what it is."""

from __future__ import annotations

import gc
from typing import Any

import torch

from executor.cuda.driver import TorchDriver
from executor.machine import machine


def is_cuda(device: str) -> bool:
    return torch.device(device).type == "cuda"


def synchronize(device: str) -> None:
    """Wait until the device has nothing left to do."""
    if is_cuda(device):
        torch.cuda.synchronize(device)


def allocated(device: str) -> int:
    """Bytes that tensors hold on the device; 0 where the device does not say."""
    return torch.cuda.memory_allocated(device) if is_cuda(device) else 0


def begin_peak(device: str) -> None:
    """The peak of :func:`peak_allocated` begins anew."""
    if is_cuda(device):
        torch.cuda.reset_peak_memory_stats(device)


def peak_allocated(device: str) -> int | None:
    """The most that tensors held since :func:`begin_peak`; None where the device does not say."""
    return torch.cuda.max_memory_allocated(device) if is_cuda(device) else None


def clear(device: str) -> None:
    """Drop what nobody refers to any more, and give it back to the device."""
    gc.collect()
    if is_cuda(device):
        torch.cuda.empty_cache()


def facts(device: str) -> dict[str, Any]:
    """Machine and versions; the GPU's too where the device is one."""
    return machine() | (TorchDriver().describe() if is_cuda(device) else {})
