"""What was made is kept for whoever asks for the same again, up to a total size."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

_Value = TypeVar("_Value")


class Kept(Generic[_Value]):
    """Holds values by key; when they become too many in all it forgets them and starts anew. No value is None."""

    def __init__(self, most: int, size: Callable[[_Value], int] = lambda _: 1) -> None:
        """Take the largest total size, and what tells a value's size."""
        self._most, self._size = most, size
        self._values: dict[Hashable, _Value] = {}
        self._total = 0

    def get(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """Return the value that was made for an equal key, or else make it now."""
        found = self._values.get(key)
        if found is not None:
            return found
        value = make()
        self._total += self._size(value)
        if self._total > self._most:
            self._values, self._total = {}, self._size(value)
        self._values[key] = value
        return value


class Same:
    """Stands for an object in a key: it equals only what stands for the same object, which it keeps alive."""

    __slots__ = ("it",)

    def __init__(self, it: Any) -> None:
        """Take the object, whose own equality and hash do not matter."""
        self.it = it

    def __hash__(self) -> int:
        """Return a hash that is the same for the same object."""
        return id(self.it)

    def __eq__(self, other: object) -> bool:
        """Return whether the other stands for the same object."""
        return isinstance(other, Same) and self.it is other.it
