"""Names where pieces of state hang: in a module's dictionaries, in TorchScript, on plain objects, in containers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from loadahead.executor.model.state.objects import MISSING, attributes_of, base_of, set_attribute, set_name


class Place(Protocol):
    """Is where a piece of state hangs; what hangs there now is the state."""

    def get(self) -> Any:
        """Return what is there, or ``MISSING``."""

    def set(self, value: Any) -> None:
        """Put this there; ``MISSING`` takes away what is there."""


class NameInDict:
    """Is a place in a dictionary of names: a module's buffers, parameters or attributes."""

    __slots__ = ("name", "names")

    def __init__(self, names: dict[str, Any], name: str) -> None:
        self.names, self.name = names, name

    def get(self) -> Any:
        return self.names.get(self.name, MISSING)

    def set(self, value: Any) -> None:
        set_name(self.names, self.name, value)


class NameInScript:
    """Is a place in a TorchScript module, whose attributes live in C++; they are declared, so none comes or goes.

    Reading gives a fresh copy of a container each time.
    """

    __slots__ = ("_module", "_name")

    def __init__(self, module: Any, name: str) -> None:
        self._module, self._name = module, name

    def get(self) -> Any:
        return self._module._c.getattr(self._name)

    def set(self, value: Any) -> None:
        if value is not MISSING:
            self._module._c.setattr(self._name, value)


class NameInObject:
    """Is an attribute of a plain object, the one that ``owner`` returns at the time."""

    __slots__ = ("_name", "_owner")

    def __init__(self, owner: Callable[[], Any], name: str) -> None:
        self._owner, self._name = owner, name

    @property
    def identity(self) -> tuple[object, ...]:
        """Return what tells the attribute from others, on whatever way its object is found."""
        return "object", id(self._owner()), self._name

    def get(self) -> Any:
        return attributes_of(self._owner()).get(self._name, MISSING)

    def set(self, value: Any) -> None:
        set_attribute(self._owner(), self._name, value)


class RequiresGrad:
    """Is the flag of the parameter of a name."""

    __slots__ = ("_name", "_names")

    def __init__(self, names: dict[str, Any], name: str) -> None:
        self._names, self._name = names, name

    def get(self) -> Any:
        tensor = self._names.get(self._name)
        return MISSING if tensor is None else tensor.requires_grad

    def set(self, value: Any) -> None:
        tensor = self._names.get(self._name)
        if tensor is not None and value is not MISSING and tensor.requires_grad != value:
            tensor.requires_grad_(value)


class Element:
    """Is an element of a list, a deque or a dictionary."""

    __slots__ = ("_at", "_container")

    def __init__(self, container: Any, at: Any) -> None:
        self._container, self._at = container, at

    def get(self) -> Any:
        try:
            return base_of(self._container).__getitem__(self._container, self._at)
        except LookupError:
            return MISSING

    def set(self, value: Any) -> None:
        base_of(self._container).__setitem__(self._container, self._at, value)


@dataclass(frozen=True)
class Slot:
    """Names one piece of state.

    Attributes:
        path: where a user finds it, e.g. ``layer 2.experts.0: calls``.
        kind: ``buffer``, ``parameter``, ``tensor``, ``generator`` or ``value``, which is anything else.
        restorable: whether its change can be put back.
        cause: why not, as the end of a sentence.
        place: where it hangs.
        key: what tells its place from others; it begins with the key of the slot that it hangs on.
        module: the module that it belongs to.
    """

    path: str
    kind: str
    restorable: bool = True
    cause: str = ""
    place: Place = field(repr=False, compare=False, kw_only=True)
    key: tuple[object, ...] = field(repr=False, compare=False, kw_only=True)
    module: nn.Module = field(repr=False, compare=False, kw_only=True)

    @property
    def registered(self) -> bool:
        """Return whether the module itself knows it as a buffer or a parameter."""
        return self.kind in ("buffer", "parameter")

    def identities(self) -> set[tuple[object, ...]]:
        """Return what this and another slot have in common where they are the same piece of state."""
        place, value = self.place, self.place.get()
        out: set[tuple[object, ...]] = {self.key}
        if isinstance(place, NameInObject):
            out.add(place.identity)
        if value is not MISSING and not isinstance(value, (type(None), bool, int, float, str, bytes, tuple)):
            out.add(("value", id(value)))
        return out
