"""Holds images: what is captured of a value that can change; a value that cannot is its own image."""

from __future__ import annotations

import weakref
from typing import Any, Final

import torch

from loadahead.executor.model.state.objects import maker_of
from loadahead.executor.model.state.tensors import has_same_bits, version_of


class Image:
    """Is the image of a value that can change."""

    __slots__ = ()


class Gone(Image):
    """Stands for outputs parked on a module, tensors with a graph: a FORWARD sets them and never reads them first."""

    __slots__ = ()


GONE: Final = Gone()


class Parked(Image):
    """Stands for such an output in a container that holds other things too; it does not keep the output alive."""

    __slots__ = ("output",)

    def __init__(self, output: torch.Tensor) -> None:
        self.output = weakref.ref(output)


class TensorImage(Image):
    """Holds a tensor's bits in ``copy``; None where nothing but its identity counts.

    A tensor whose bits cannot be copied or read is known by its version.
    """

    __slots__ = ("_strong", "_version", "_weak", "copy", "strange")

    def __init__(self, tensor: torch.Tensor, strong: bool, strange: bool = False) -> None:
        self._strong = tensor if strong else None
        self._weak = None if strong else weakref.ref(tensor)
        self.strange, self._version = strange, version_of(tensor)
        self.copy: torch.Tensor | None = None

    def original(self) -> torch.Tensor | None:
        """Return the tensor itself if it lives."""
        return self._strong if self._weak is None else self._weak()

    def was_written(self, original: torch.Tensor) -> bool:
        """Return whether something was written into the tensor, be it what was there."""
        return version_of(original) != self._version

    def is_unchanged(self, original: torch.Tensor) -> bool:
        """Return whether the tensor has the bits that it had, as far as they count."""
        same = True if self.copy is None else has_same_bits(original, self.copy)
        if same is None or self.strange:
            return version_of(original) == self._version
        return same


class Fresh(Image):
    """Holds what is in a tuple, or in a container of which TorchScript gives a fresh copy each time."""

    __slots__ = ("items", "keys", "kind")

    def __init__(self, kind: type, keys: list[Any] | None, items: list[Any]) -> None:
        self.kind, self.keys, self.items = kind, keys, items


class Held(Image):
    """Holds the contents of a list, deque, set or dictionary, and a plain object's attributes.

    A container that can be made anew is not kept alive: if FORWARD replaces it, it would keep alive what it holds.
    """

    __slots__ = ("_id", "_make", "attributes", "items", "kept", "keys", "kind")

    def __init__(self, value: Any, strong: bool) -> None:
        self.kind = type(value)
        self._make = maker_of(value)
        self._id = id(value)
        self.kept = value if strong or self._make is None else None
        self.keys: list[Any] | None = None
        self.items: list[Any] | None = None
        self.attributes: dict[str, Any] = {}

    def stands_for(self, value: Any) -> bool:
        """Return whether this is the captured object."""
        return value is self.kept if self.kept is not None else id(value) == self._id and type(value) is self.kind

    def target(self, live: dict[int, Any]) -> Any:
        """Return what gets the contents: the object, which may have to be found among live ones, or a new one."""
        if self.kept is not None:
            return self.kept
        value = live.get(self._id)
        if type(value) is self.kind:
            return value
        assert self._make is not None
        return self._make()


def is_output(image: Any, inside: tuple[Image, ...] = ()) -> bool:
    """Return whether an image stands for outputs alone, or for a container with nothing else."""
    if isinstance(image, Parked):
        return True
    if not isinstance(image, (Fresh, Held)) or any(image is outer for outer in inside):
        return False
    named = image.attributes.values() if isinstance(image, Held) else ()
    items = [item for item in (*(image.items or ()), *named) if item is not None]
    return bool(items) and all(is_output(item, (*inside, image)) for item in items)
