"""The backends by device name. To add one: write its file, add its line here; tests run over this registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from executor.backends.base import Backend, DeviceMeter, Link, Measured, Work
from executor.backends.cpu import CpuBackend
from executor.backends.cuda import CudaBackend
from sim.errors import InputError

BACKENDS: dict[str, Callable[..., Backend]] = {"cpu": CpuBackend, "cuda": CudaBackend}


def make_backend(device: str, **settings: Any) -> Backend:
    """A backend for that device, by its class's own settings; InputError when there is none, or no such device."""
    if device not in BACKENDS:
        raise InputError(f"device is {device!r}; it must be one of {', '.join(BACKENDS)}")
    return BACKENDS[device](**settings)


def require_device(device: str) -> None:
    """InputError, one line, unless there is a backend and a device of that name."""
    make_backend(device).close()


__all__ = ["BACKENDS", "Backend", "DeviceMeter", "Link", "Measured", "Work", "make_backend", "require_device"]
