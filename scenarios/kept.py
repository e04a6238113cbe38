"""What was made is kept for whoever asks for the same again, up to a total size."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

_Value = TypeVar("_Value")


class Kept(Generic[_Value]):
    """Holds values by key; when they become too many in all it forgets them and starts anew.

    A key may hold the identities of objects, so that their own equality does not matter. They are given too, and kept
    alive as long as the value, so that no other object gets theirs.
    """

    def __init__(self, most: int, size: Callable[[_Value], int] = lambda _: 1) -> None:
        """Take the largest total size, and what tells a value's size."""
        self._most, self._size = most, size
        self._values: dict[Hashable, tuple[_Value, Any]] = {}
        self._total = 0

    def get(self, key: Hashable, make: Callable[[], _Value], alive: Any = None) -> _Value:
        """Return the value made for an equal key, or make it now; ``alive`` is what has its identity in the key."""
        found = self._values.get(key)
        if found is not None:
            return found[0]
        value = make()
        self._total += self._size(value)
        if self._total > self._most:
            self._values, self._total = {}, self._size(value)
        self._values[key] = value, alive
        return value
