"""The backends by device name. To add one: write its file, add its line here; tests run over this registry."""

from __future__ import annotations

from collections.abc import Callable

from executor.backends.base import Backend, Link, Measured, Work
from executor.backends.cpu import CpuBackend
from sim.errors import InputError

BACKENDS: dict[str, Callable[..., Backend]] = {"cpu": CpuBackend}


def make_backend(device: str, *, delays: int | None = None, poisoned: bool = False) -> Backend:
    """A backend for that device; InputError when there is none."""
    if device not in BACKENDS:
        raise InputError(f"device is {device!r}; it must be one of {', '.join(BACKENDS)}")
    return BACKENDS[device](delays=delays, poisoned=poisoned)


__all__ = ["BACKENDS", "Backend", "Link", "Measured", "Work", "make_backend"]
