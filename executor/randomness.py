"""Makes seeds and random states of units, on a device whose random generator is one per process.

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

# The generator belongs to the process, so its lock does too.
_GENERATOR_LOCK = threading.Lock()
# The seeds' hash is a polynomial with this base over the field of this prime.
_PRIME, _BASE = 2**61 - 1, 1_000_003


def seed_of(*parts: int) -> int:
    """Return a seed for e.g. (seed, step, stage, unit, microbatch); it depends on these numbers alone.

    It is a polynomial hash over a prime field, scrambled once more since generators take few bits of a seed at a time:
    so neighbours get unrelated seeds.
    """
    value = 1
    for part in parts:
        value = (value * _BASE + part + 1) % _PRIME
    return pow(value, 3, _PRIME)


@dataclass(frozen=True, slots=True)
class RandomState:
    """Holds the states of the generators that a unit may draw from: the CPU's, and its CUDA device's if it has one."""

    cpu: torch.Tensor
    cuda: torch.Tensor | None = None


def seeded_state(seed: int, device: torch.device) -> RandomState:
    """Return the states that the generators have after ``manual_seed``."""
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
    """Let random numbers inside the context come from this state on.

    ``shared`` says that other threads draw at the same time, which is possible on the CPU only.
    """
    if not shared:
        set_state(state, device)
        yield
        return
    with _DrawFromState(state.cpu):
        yield


class _DrawFromState(TorchDispatchMode):
    """Gives each drawing operator of this thread the thread's own state, and keeps what is left of it."""

    def __init__(self, state: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._state = state

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        with _GENERATOR_LOCK:
            torch.default_generator.set_state(self._state)
            out = func(*args, **(kwargs or {}))
            self._state = torch.default_generator.get_state()
        return out
