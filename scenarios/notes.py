"""What is to be said of a scenario that was made of something else, and is no part of what it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Note:
    """Holds a sentence, and the tables and keys that it is about, by full path: set by hand they need no note."""

    text: str
    about: tuple[str, ...] = ()

    def is_about(self, key: str) -> bool:
        """Return whether setting a key by hand answers the note."""
        return any(key == own or key.startswith(f"{own}.") or own.startswith(f"{key}.") for own in self.about)


@dataclass(frozen=True, slots=True)
class Notes:
    """Holds a scenario's notes; scenarios that say the same are equal in spite of them.

    ``by_default`` are the keys, by their full paths, that nobody wrote: no caution is said of them.
    """

    said: tuple[Note, ...] = field(default=(), compare=False)
    by_default: frozenset[str] = field(default=frozenset(), compare=False)

    def __bool__(self) -> bool:
        return bool(self.said or self.by_default)

    def sentences(self) -> list[str]:
        """Return the notes' texts."""
        return [note.text for note in self.said]

    def to_dict(self) -> dict[str, Any]:
        """Return the notes as plain data."""
        return {
            "said": [{"text": note.text, "about": list(note.about)} for note in self.said],
            "by_default": sorted(self.by_default),
        }

    @classmethod
    def from_dict(cls, data: object) -> Notes:
        """Return the notes of plain data; what is none of it, as in a file that a stranger made, says nothing."""
        if not isinstance(data, dict):
            return cls()
        rows = data.get("said")
        said = [
            Note(row["text"], tuple(filter(_is_text, row.get("about") or ())))
            for row in (rows if isinstance(rows, list) else [])
            if isinstance(row, dict) and _is_text(row.get("text")) and isinstance(row.get("about") or (), list | tuple)
        ]
        keys = data.get("by_default")
        return cls(tuple(said), frozenset(filter(_is_text, keys if isinstance(keys, list) else ())))

    def and_also(self, notes: Iterable[Note]) -> Notes:
        """Return these notes and others."""
        more = tuple(notes)
        return Notes((*self.said, *more), self.by_default) if more else self

    def beside(self, keys: Iterable[str]) -> Notes:
        """Return what is left of them once these keys are set by hand."""
        by_hand = list(keys)
        if not by_hand:
            return self
        said = tuple(note for note in self.said if not any(note.is_about(key) for key in by_hand))
        return Notes(said, self.by_default - frozenset(by_hand))


def _is_text(value: object) -> bool:
    return isinstance(value, str)
