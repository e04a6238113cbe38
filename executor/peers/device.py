"""Waits for the device that a peer runs on, reads its memory, and describes it."""

from __future__ import annotations

import gc
from typing import Any

import torch

from loadahead.executor.cuda.driver import TorchDriver
from loadahead.executor.machine import machine


def is_cuda(device: torch.device) -> bool:
    """Return whether the device is a GPU."""
    return device.type == "cuda"


def synchronize(device: torch.device) -> None:
    """Wait until the device has nothing left to do."""
    if is_cuda(device):
        torch.cuda.synchronize(device)


def allocated(device: torch.device) -> int:
    """Return the bytes that tensors asked for on the device and hold; 0 where the device does not say."""
    return TorchDriver().requested() if is_cuda(device) else 0


def begin_peak(device: torch.device) -> None:
    """Begin the peak of :func:`peak_allocated` anew."""
    if is_cuda(device):
        TorchDriver().reset_peaks()


def peak_allocated(device: torch.device) -> int | None:
    """Return the most bytes that tensors held since :func:`begin_peak`; None where the device does not say."""
    return TorchDriver().peak_requested() if is_cuda(device) else None


def clear(device: torch.device) -> None:
    """Drop what nobody refers to any more, and give it back to the device."""
    gc.collect()
    if is_cuda(device):
        # cuBLAS keeps workspaces for the process; who runs next takes its own, and is charged for them.
        clear_workspaces: Any = torch._C._cuda_clearCublasWorkspaces
        clear_workspaces()
        torch.cuda.empty_cache()


def describe(device: torch.device) -> dict[str, Any]:
    """Return machine and versions; the GPU's too where the device is one."""
    return machine() | (TorchDriver().describe() if is_cuda(device) else {})
