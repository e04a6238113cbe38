"""Makes seeds and random states of units, on a device whose random generator is one per process.

A rank alone seeds the generators and runs. Ranks that share a process would draw from each other's states; with them
every drawing operator runs under a lock, on the state of the unit it belongs to. Python's and numpy's global generators
are seeded for a unit that draws from them, and put back after it; ranks take turns with such units. For a unit that
draws nothing nothing is done.
"""

from __future__ import annotations

import ctypes
import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

# The generator belongs to the process, so its lock does too.
_GENERATOR_LOCK = threading.Lock()
# A unit that draws Python's or numpy's random numbers has them for itself as long as it runs.
_GLOBAL_LOCK = threading.RLock()
_NOTHING_MORE: Final = nullcontext()
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


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's generators that a unit may draw from: the CPU's, and its CUDA device's if it has one.

    Seeding takes less time than putting a state back.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        _cuda_generator(device).manual_seed(seed)


def _cuda_generator(device: torch.device) -> torch.Generator:
    index: int | None = device.index
    generator: torch.Generator = torch.cuda.default_generators[torch.cuda.current_device() if index is None else index]
    return generator


def drawing_mark(device: torch.device) -> tuple[bytes, int]:
    """Return a mark of torch's generators that is another once something was drawn from them; nothing is waited for."""
    # A CUDA generator counts what was drawn, its whole state would be copied.
    drawn = _cuda_generator(device).get_offset() if device.type == "cuda" else 0
    state = torch.default_generator.get_state()
    # Read where it lies: what a tensor's own functions return is seen by meters of tensors.
    return ctypes.string_at(state.data_ptr(), state.numel()), drawn


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Put the random states of torch's generators back afterwards."""
    cpu = torch.default_generator.get_state()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        torch.default_generator.set_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)


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


def drawing_from(
    seed: int, device: torch.device, shared: bool, draws: Draws, turns: bool = False
) -> AbstractContextManager[DrawFromState | None]:
    """Return a context in which random numbers come from this seed on, if they are among those that are drawn.

    ``shared`` says that other threads draw at the same time, which is possible on the CPU only; ``turns`` that the body
    uses something else of the process as well, for which threads take turns. The context's value draws for this thread,
    if there are others. It has to be entered at once.
    """
    if draws.python or draws.numpy or shared:
        return _drawing_among_others(seed, device, shared, draws, turns)
    if draws.torch:
        seed_generators(seed, device)
    return _NOTHING_MORE


@contextmanager
def _drawing_among_others(
    seed: int, device: torch.device, shared: bool, draws: Draws, turns: bool
) -> Iterator[DrawFromState | None]:
    with ExitStack() as stack:
        if turns or draws.python or draws.numpy:
            stack.enter_context(_GLOBAL_LOCK)
        if draws.python or draws.numpy:
            stack.enter_context(globals_kept())
            seed_globals(seed, draws)
        if draws.torch and not shared:
            seed_generators(seed, device)
        yield stack.enter_context(DrawFromState(seed)) if shared and draws.torch else None


class _Thread(threading.local):
    """Knows on which state the thread draws now."""

    drawing: DrawFromState | None = None


_thread = _Thread()


class DrawFromState(TorchDispatchMode):
    """Gives each drawing operator of this thread the thread's own state, and keeps what is left of it."""

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed = seed
        self._state: torch.Tensor | None = None
        self.drew = False
        self._outer: DrawFromState | None = None

    @property
    def state(self) -> torch.Tensor:
        """Return the state from which the next number is drawn."""
        if self._state is None:
            self._state = torch.Generator().manual_seed(self._seed).get_state()
        return self._state

    @state.setter
    def state(self, state: torch.Tensor) -> None:
        self._state = state

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
