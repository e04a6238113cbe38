"""A key of SageMaker's options: what it takes, its default, and what becomes of it here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loadahead.scenarios.smp.values import Allowed, NotKnown, shown
from loadahead.sim.errors import InputError

# So many values that cannot be read are told at once.
MOST_TOLD = 3
UNUSED = "known, does not change this prediction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Describes one key.

    Attributes:
        allowed: the values that it takes.
        default: its value where it is not given, as the documentation has it; None: there is none.
        becomes: the scenario's key that it becomes, by its full path; empty where it changes no prediction.
        instead: the key that a value becomes in place of that.
        why: why it changes none; or, for a key that is used, what else is to be known of it.
        default_text: the default in words, where it follows from other keys.
    """

    name: str
    allowed: Allowed
    default: Any = None
    becomes: str = ""
    why: str = ""
    default_text: str = ""
    instead: Mapping[Any, str] = field(default_factory=dict)

    def path(self, value: Any) -> str:
        """Return the scenario's key that a value becomes, by its full path."""
        return self.instead.get(value, self.becomes) if self.instead else self.becomes

    def says(self) -> str:
        """Return what becomes of the key, in words."""
        if self.becomes:
            others = "".join(f", or `{path}` where it is {shown(value)}" for value, path in self.instead.items())
            return f"`{self.becomes}`{others}" + (f": {self.why}" if self.why else "")
        return f"{UNUSED}: {self.why}"

    def shown_default(self) -> str:
        """Return the default in words; empty where there is none."""
        return self.default_text or ("" if self.default is None else shown(self.default))


Keys = Mapping[str, Key]


def table_of(*keys: Key) -> dict[str, Key]:
    """Return keys by name."""
    return {key.name: key for key in keys}


def require_known(names: Iterable[Any], known: Iterable[str], source: str, what: str) -> None:
    """Raise InputError for the first name that is unknown, with the nearest spelling."""
    allowed = list(known)
    for name in names:
        if name in allowed:
            continue
        close = difflib.get_close_matches(str(name), allowed, n=1)
        meant = f"; did you mean {close[0]}?" if close else f"; known are {', '.join(allowed)}"
        raise InputError(f"{source}: {str(name)[:60]!r} is not a key of {what}{meant}")


def require_allowed(keys: Keys, values: Mapping[str, Any], source: str) -> None:
    """Raise InputError for the first value that its key does not take; one that is computed is not looked at."""
    for name, value in values.items():
        if not isinstance(value, NotKnown) and not keys[name].allowed.holds(value):
            raise InputError(f"{source}: {name} is {shown(value)}; it must be {keys[name].allowed.text}")


def require_readable(keys: Keys, values: Mapping[str, Any], source: str) -> None:
    """Raise InputError for values that only running a file would tell, of keys that do not change the prediction not.

    The line tells the first of them.
    """
    hidden = [(name, value) for name, value in values.items() if isinstance(value, NotKnown) and keys[name].becomes]
    if not hidden:
        return
    told = "; ".join(f"line {value.line}: {name} is {shown(value)}" for name, value in hidden[:MOST_TOLD])
    more = f"; and {len(hidden) - MOST_TOLD} more" if len(hidden) > MOST_TOLD else ""
    raise InputError(
        f"{source} {told}{more}, which only running the file would tell; write the "
        f"value{'s' if len(hidden) > 1 else ''}"
    )
