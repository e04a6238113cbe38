"""Registers the backends by device name. To add one: write its file, add its line; tests run over this registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from loadahead.executor.backends.base import Backend, DeviceMeter, Link, Measured, Work
from loadahead.executor.backends.cpu import CpuBackend
from loadahead.executor.backends.cuda import CudaBackend
from loadahead.sim.errors import InputError

BACKENDS: dict[str, Callable[..., Backend]] = {"cpu": CpuBackend, "cuda": CudaBackend}


def make_backend(device: str, **settings: Any) -> Backend:
    """Return a backend for that device, by its class's own settings; InputError when there is none, or no device."""
    if device not in BACKENDS:
        raise InputError(f"device is {device!r}; it must be one of {', '.join(BACKENDS)}")
    return BACKENDS[device](**settings)


def torch_device(device: str) -> torch.device:
    """Return where that device's tensors live; InputError unless there is a backend and a device."""
    backend = make_backend(device)
    backend.close()
    return backend.device


__all__ = ["BACKENDS", "Backend", "DeviceMeter", "Link", "Measured", "Work", "make_backend", "torch_device"]
