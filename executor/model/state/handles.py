"""Reads and sets random generators and arrays, and sees how far files and iterators are, which cannot be set."""

from __future__ import annotations

import io
import itertools
import random
import types
from array import array
from collections.abc import Callable
from operator import length_hint
from typing import Any

import numpy as np
import torch

from loadahead.executor.model.state.images import Image
from loadahead.executor.model.state.objects import PLAIN


class Handle(Image):
    """Holds the state of a random generator or an array."""

    __slots__ = ("_read", "_write", "state", "value")

    def __init__(self, value: Any, read: Callable[[Any], Any], write: Callable[[Any, Any], object]) -> None:
        self.value, self._read, self._write = value, read, write
        self.state = read(value)

    def is_unchanged(self) -> bool:
        """Return whether the state is what it was."""
        return _is_same_state(self.state, self._read(self.value))

    def put(self) -> None:
        """Give it the state that it had."""
        if not self.is_unchanged():
            self._write(self.value, self.state)


class Seen(Image):
    """Holds what can be seen of an object that cannot be put back, and the cause."""

    __slots__ = ("_look", "_seen", "cause", "value")

    def __init__(self, value: Any, look: Callable[[Any], Any], cause: str) -> None:
        self.value, self._look, self.cause = value, look, cause
        self._seen = look(value)

    def is_unchanged(self) -> bool:
        """Return whether it looks as it did."""
        return bool(self._seen == self._look(self.value))


def _is_process_wide(value: Any) -> bool:
    """Return whether a random generator is one that belongs to the process: those are not a module's state."""
    if isinstance(value, torch.Generator):
        return value is torch.default_generator or any(value is own for own in torch.cuda.default_generators)
    return value is getattr(random, "_inst", None) or value is getattr(np.random.mtrand, "_rand", None)


def is_generator(value: Any) -> bool:
    """Return whether a value is a random generator of a module's own, whose state can be read and set."""
    kinds = (torch.Generator, random.Random, np.random.Generator, np.random.BitGenerator, np.random.RandomState)
    return isinstance(value, kinds) and not isinstance(value, random.SystemRandom) and not _is_process_wide(value)


def _set_array(value: Any, state: Any) -> None:
    value[...] = state


def _set_bytes(value: Any, state: Any) -> None:
    value[:] = state


def handle_of(value: Any) -> Image | None:
    """Return the image of a random generator, an array, a file or an iterator; None for anything else."""
    if isinstance(value, np.ndarray):
        return Handle(value, np.ndarray.copy, _set_array) if value.flags.writeable else None
    if isinstance(value, (bytearray, array)):
        return Handle(value, lambda it: it[:], _set_bytes)
    if isinstance(value, io.IOBase):
        return Seen(value, _file_position, "a file, where what is read or written cannot be taken back")
    if is_generator(value):
        if isinstance(value, torch.Generator):
            return Handle(value, torch.Generator.get_state, torch.Generator.set_state)
        if isinstance(value, random.Random):
            return Handle(value, random.Random.getstate, random.Random.setstate)
        if isinstance(value, np.random.RandomState):
            return Handle(value, lambda it: it.get_state(legacy=False), np.random.RandomState.set_state)
        bits = value.bit_generator if isinstance(value, np.random.Generator) else value
        return Handle(value, lambda _: bits.state, lambda _, state: setattr(bits, "state", state))
    if hasattr(type(value), "__next__") and type(value).__module__ in ("builtins", "itertools"):
        return Seen(value, _iterator_position, "an iterator, which cannot be set back")
    return None


def _file_position(file: Any) -> Any:
    try:
        return file.closed or file.tell()
    except (OSError, ValueError):
        return None


def _iterator_position(iterator: Any) -> Any:
    """Return what can be seen of how far an iterator is."""
    if isinstance(iterator, types.GeneratorType):
        frame = iterator.gi_frame
        return frame and (frame.f_lasti, [value for value in frame.f_locals.values() if type(value) in PLAIN])
    if isinstance(iterator, itertools.count):
        return repr(iterator)
    try:
        return length_hint(iterator, -1)
    except Exception:
        return -1


def _is_same_state(a: Any, b: Any) -> bool:
    """Return whether two states, made of numbers, arrays and containers, are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_is_same_state(a[key], b[key]) for key in a)
    return bytes(a) == bytes(b) if isinstance(a, array) else bool(a == b)
