"""Makes seeds and random states of units, on a device whose random generator is one per process.

A rank alone sets the generator's state and runs. Ranks that share a process would draw from each other's states; with
them every drawing operator runs under a lock, on the state of the unit it belongs to. Python's and numpy's global
generators are seeded for a unit that draws from them, and put back after it; ranks take turns with such units.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

# The generator belongs to the process, so its lock does too.
_GENERATOR_LOCK = threading.Lock()
# A unit that draws Python's or numpy's random numbers has them for itself as long as it runs.
_GLOBAL_LOCK = threading.RLock()
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
class Draws:
    """Says which random numbers a unit draws beside those of generators of its own: torch's, Python's, numpy's."""

    torch: bool = True
    python: bool = False
    numpy: bool = False

    def __or__(self, other: Draws) -> Draws:
        return Draws(self.torch or other.torch, self.python or other.python, self.numpy or other.numpy)


@dataclass(frozen=True, slots=True)
class RandomState:
    """Holds the states of the generators that a unit may draw from: the CPU's, and its CUDA device's if it has one.

    Python's and numpy's follow from ``seed``.
    """

    cpu: torch.Tensor
    cuda: torch.Tensor | None = None
    seed: int = 0


def seeded_state(seed: int, device: torch.device) -> RandomState:
    """Return the states that the generators have after ``manual_seed``."""
    cpu = torch.Generator().manual_seed(seed).get_state()
    if device.type != "cuda":
        return RandomState(cpu, seed=seed)
    return RandomState(cpu, torch.Generator(device).manual_seed(seed).get_state(), seed)


def set_state(state: RandomState, device: torch.device) -> None:
    """Put the process's generators of torch into these states."""
    torch.default_generator.set_state(state.cpu)
    if state.cuda is not None:
        torch.cuda.set_rng_state(state.cuda, device)


def seed_globals(seed: int, draws: Draws) -> None:
    """Seed Python's and numpy's generators, as far as they are drawn from."""
    if draws.python:
        random.seed(seed)
    if draws.numpy:
        np.random.seed(seed % 2**32)


@contextmanager
def globals_kept() -> Iterator[None]:
    """Put Python's and numpy's random states back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def global_states() -> tuple[Any, ...]:
    """Return Python's and numpy's random states, to be compared."""
    numpy: Any = np.random.get_state()
    return random.getstate(), (numpy[1].tobytes(), *numpy[2:])


@contextmanager
def drawing_from(
    state: RandomState, device: torch.device, shared: bool, draws: Draws, turns: bool = False
) -> Iterator[DrawFromState | None]:
    """Let random numbers inside the context come from this state on.

    ``shared`` says that other threads draw at the same time, which is possible on the CPU only; ``turns`` that the body
    uses something else of the process as well, for which threads take turns. Return what draws for this thread, if
    there are others.
    """
    if not (draws.python or draws.numpy or shared):
        set_state(state, device)
        yield None
        return
    with ExitStack() as stack:
        if turns or draws.python or draws.numpy:
            stack.enter_context(_GLOBAL_LOCK)
        if draws.python or draws.numpy:
            stack.enter_context(globals_kept())
            seed_globals(state.seed, draws)
        if not shared:
            set_state(state, device)
        yield stack.enter_context(DrawFromState(state.cpu)) if shared and draws.torch else None


class _Thread(threading.local):
    """Knows on which state the thread draws now."""

    drawing: DrawFromState | None = None


_thread = _Thread()


class DrawFromState(TorchDispatchMode):
    """Gives each drawing operator of this thread the thread's own state, and keeps what is left of it."""

    def __init__(self, state: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.state = state
        self.drew = False
        self._outer: DrawFromState | None = None

    def __enter__(self) -> Any:
        self._outer, _thread.drawing = _thread.drawing, self
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        _thread.drawing = self._outer
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        self.drew = True
        with _GENERATOR_LOCK:
            torch.default_generator.set_state(self.state)
            out = func(*args, **(kwargs or {}))
            self.state = torch.default_generator.get_state()
        return out


def _copied(state: torch.Tensor) -> torch.Tensor:
    """Return a copy that no meter of tensors sees, as it sees none of the states that torch itself hands out."""
    with _disable_current_modes():
        return state.clone()


@contextmanager
def states_of_threads() -> Iterator[None]:
    """Let torch's functions that read, set or seed the random state mean the one that the calling thread draws from.

    A checkpoint inside a layer reads and sets the state so, to draw the same numbers again.
    """
    read, write, reseed = torch.get_rng_state, torch.set_rng_state, torch.manual_seed

    def get_rng_state() -> torch.Tensor:
        return read() if _thread.drawing is None else _copied(_thread.drawing.state)

    def set_rng_state(new_state: torch.Tensor) -> None:
        if _thread.drawing is None:
            write(new_state)
        else:
            _thread.drawing.state = _copied(new_state)

    def manual_seed(seed: int) -> torch.Generator:
        if _thread.drawing is None:
            return reseed(seed)
        _thread.drawing.state = torch.Generator().manual_seed(int(seed)).get_state()
        return torch.default_generator

    homes: tuple[Any, ...] = (torch, torch.random)
    for home in homes:
        home.get_rng_state, home.set_rng_state, home.manual_seed = get_rng_state, set_rng_state, manual_seed
    try:
        yield
    finally:
        for home in homes:
            home.get_rng_state, home.set_rng_state, home.manual_seed = read, write, reseed
