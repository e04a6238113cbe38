"""Random states of units, on a device whose random generator is one per process.

A rank alone sets the generator's state and runs. Ranks that share a process would draw from each other's states; with
them every drawing operator runs under a lock, on the state of the unit it belongs to.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# The generator is the process's, so its lock is too.
_TURN = threading.Lock()


def seeded_state(seed: int) -> torch.Tensor:
    """The state of a CPU generator after ``manual_seed``."""
    return torch.Generator().manual_seed(seed).get_state()


@contextmanager
def drawing_from(state: torch.Tensor, shared: bool) -> Iterator[None]:
    """Inside, random numbers come from this state on. ``shared``: other threads draw at the same time."""
    if not shared:
        torch.default_generator.set_state(state)
        yield
        return
    with _OwnState(state):
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
