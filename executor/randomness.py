"""Random states of units, on a device whose random generator is one per process.

A rank alone sets the generator's state and runs. Ranks that share a process would draw from each other's states; with
them every drawing operator runs under a lock, on the state of the unit it belongs to.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# The generator is the process's, so its lock is too.
_TURN = threading.Lock()


@dataclass(frozen=True, slots=True)
class RandomState:
    """States of the generators that a unit may draw from: the CPU's, and its CUDA device's where it has one."""

    cpu: torch.Tensor
    cuda: torch.Tensor | None = None


def seeded_state(seed: int, device: torch.device) -> RandomState:
    """The states after ``manual_seed``."""
    cpu = torch.Generator().manual_seed(seed).get_state()
    if device.type != "cuda":
        return RandomState(cpu)
    return RandomState(cpu, torch.Generator(device).manual_seed(seed).get_state())


def set_state(state: RandomState, device: torch.device) -> None:
    """Put the process's generators into these states."""
    torch.default_generator.set_state(state.cpu)
    if state.cuda is not None:
        torch.cuda.set_rng_state(state.cuda, device)


@contextmanager
def drawing_from(state: RandomState, device: torch.device, shared: bool) -> Iterator[None]:
    """Inside, random numbers come from this state on. ``shared``: other threads draw at the same time, CPU only."""
    if not shared:
        set_state(state, device)
        yield
        return
    with _OwnState(state.cpu):
        yield


class _OwnState(TorchDispatchMode):
    """Gives each drawing operator of this thread the thread's own state, and keeps what is left of it."""

    def __init__(self, state: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._state = state

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        with _TURN:
            torch.default_generator.set_state(self._state)
            out = func(*args, **(kwargs or {}))
            self._state = torch.default_generator.get_state()
        return out
