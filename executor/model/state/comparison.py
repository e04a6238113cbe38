"""Compares images with what is there now, bit for bit."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from loadahead.executor.model.state.handles import Handle, Seen
from loadahead.executor.model.state.images import Fresh, Gone, Held, Image, Parked, TensorImage
from loadahead.executor.model.state.objects import PLAIN, attributes_of, contents_of


class Comparison:
    """Compares images with values; a change of an object that hangs in several places is told once.

    With ``written``, a tensor differs too into which what it held was written again.
    """

    def __init__(self, written: bool = False) -> None:
        self._written = written
        self._done: set[int] = set()

    def difference(self, image: Any, value: Any) -> str | None:
        """Return None where they are equal, and else the cause why that cannot be put back; "" where it can."""
        if not isinstance(image, Image):
            return None if _is_same_leaf(image, value) else ""
        if isinstance(image, Fresh):
            return self._in_items(image, value)
        if isinstance(image, Gone):
            return None
        if isinstance(image, Parked):
            return None if image.output() is value else ""
        if isinstance(image, Held):
            if not image.stands_for(value):
                return ""
            return None if self._is_done(image) else self._in_holder(image, value)
        assert isinstance(image, (TensorImage, Handle, Seen))
        if (image.original() if isinstance(image, TensorImage) else image.value) is not value:
            return ""
        return None if self._is_done(image) else self._inside(image)

    def _is_done(self, image: Image) -> bool:
        done = id(image) in self._done
        self._done.add(id(image))
        return done

    def _inside(self, image: TensorImage | Handle | Seen) -> str | None:
        if isinstance(image, Seen):
            return None if image.is_unchanged() else image.cause
        if isinstance(image, Handle):
            return None if image.is_unchanged() else ""
        tensor = image.original()
        assert tensor is not None, "its identity was compared"
        if image.is_unchanged(tensor) and not (self._written and image.was_written(tensor)):
            return None
        if not image.strange:
            return ""
        return "a tensor of a kind that cannot be copied (lazy, sparse, quantized, nested or of a class of its own)"

    def _in_items(self, image: Fresh, value: Any) -> str | None:
        kind: Any = type(value)
        if kind is not image.kind:
            return ""
        items: list[Any] = list(value) if image.keys is None else list(value.values())
        if len(items) != len(image.items) or (image.keys is not None and list(value) != image.keys):
            return ""
        return _worst(self.difference(a, b) for a, b in zip(image.items, items, strict=True))

    def _in_holder(self, image: Held, value: Any) -> str | None:
        attributes = attributes_of(value)
        out = "" if list(attributes) != list(image.attributes) else None
        named = [
            self.difference(part, attributes[name]) for name, part in image.attributes.items() if name in attributes
        ]
        if image.items is None:
            return _worst([out, *named])
        keys, items = contents_of(value)
        if len(items) != len(image.items) or not all(map(_is_same_leaf, image.keys or (), keys or ())):
            out = ""
        return _worst([out, *named, *map(self.difference, image.items, items)])


def _worst(causes: Iterable[str | None]) -> str | None:
    """Return a cause why something cannot be put back, if there is one; else "" if there is a change."""
    return max((cause for cause in causes if cause is not None), key=len, default=None)


def _is_same_leaf(a: Any, b: Any) -> bool:
    """Return whether two values that cannot change are equal, bit for bit."""
    if a is b:
        return True
    kind: Any = type(a)
    other: Any = type(b)
    if kind is not other:
        return False
    if kind is float:
        return struct.pack("d", a) == struct.pack("d", b)
    if kind is complex:
        return struct.pack("dd", a.real, a.imag) == struct.pack("dd", b.real, b.imag)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_is_same_leaf, a, b))
    if isinstance(a, np.generic):
        return bool(a.dtype == b.dtype and a.tobytes() == b.tobytes())
    return (kind in PLAIN or kind is frozenset) and bool(a == b)
