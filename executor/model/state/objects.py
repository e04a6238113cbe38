"""Reads and writes what containers and plain objects hold, past the ways of a user's own classes."""

from __future__ import annotations

import argparse
import io
import random
import sys
import types
from array import array
from collections import OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Collection
from enum import Enum
from functools import lru_cache
from operator import is_
from typing import Any, Final

import numpy as np
import torch
from torch import nn

# Values that cannot change and are equal where they compare so.
PLAIN: Final[frozenset[type]] = frozenset(
    {type(None), bool, int, str, bytes, range, slice, torch.Size, torch.dtype, torch.device, torch.layout}
)
CONTAINERS: Final = (list, dict, set, deque)
# Objects of these packages are not looked into: they hold kernels, caches and handles of their own.
_CLOSED: Final = frozenset(sys.stdlib_module_names) | {"torch", "numpy", "triton", "numba", "cupy", "sympy"}
# Nor are these, whoever wrote their classes.
_NEVER_WALKED: Final = (
    *(nn.Module, torch.Tensor, torch._C._FunctionBase, type, Enum, BaseException, io.IOBase, array, bytearray),
    *(np.ndarray, np.generic, random.Random, np.random.Generator, np.random.BitGenerator, np.random.RandomState),
)
# Objects of the standard library that hold what a user puts into them.
_OPEN: Final = frozenset([types.SimpleNamespace, argparse.Namespace, UserDict, UserList])
# Stands for what is not there.
MISSING: Final[Any] = object()


@lru_cache(maxsize=512)
def _is_open(kind: Any) -> bool:
    """Return whether objects of this class are looked into."""
    if issubclass(kind, _NEVER_WALKED):
        return False
    return kind in _OPEN or kind.__module__.partition(".")[0] not in _CLOSED


def is_object(value: Any) -> bool:
    """Return whether a value is a plain object: what it holds are its attributes."""
    kind: Any = type(value)
    return kind not in PLAIN and not isinstance(value, (*CONTAINERS, tuple)) and _is_open(kind)


@lru_cache(maxsize=512)
def _slot_names(kind: Any) -> tuple[str, ...]:
    """Return the names in the ``__slots__`` of a class and its bases, as Python mangles them."""
    out = []
    for base in kind.__mro__:
        names = base.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            private = name.startswith("__") and not name.endswith("__")
            out.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return tuple(name for name in out if name not in ("__dict__", "__weakref__"))


def attributes_of(value: Any) -> dict[str, Any]:
    """Return an object's attributes; none where objects of its class are not looked into."""
    kind: Any = type(value)
    if kind in PLAIN or not _is_open(kind):
        return {}
    try:
        out: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        out = {}
    slots = _slot_names(kind)
    if slots:
        out = dict(out)
        for name in slots:
            try:
                out[name] = object.__getattribute__(value, name)
            except AttributeError:
                continue
    return out


def set_attribute(owner: Any, name: str, value: Any) -> None:
    """Set an attribute as ``object`` does, past the class's own ways; ``MISSING`` deletes it."""
    kind: Any = type(owner)
    if not _is_open(kind) or attributes_of(owner).get(name, MISSING) is value:
        return
    if name not in _slot_names(kind):
        set_name(object.__getattribute__(owner, "__dict__"), name, value)
    elif value is MISSING:
        object.__delattr__(owner, name)
    else:
        object.__setattr__(owner, name, value)


def set_name(names: dict[str, Any], name: str, value: Any) -> None:
    """Put a value into a dictionary of names, unless it is there; ``MISSING`` takes away what is."""
    if value is MISSING:
        names.pop(name, None)
    elif names.get(name, MISSING) is not value:
        names[name] = value


def base_of(container: Any) -> Any:
    """Return the built-in class whose methods read and write a container, past what a user's subclass does."""
    return next(base for base in (list, OrderedDict, dict, set, deque) if isinstance(container, base))


def contents_of(container: Any) -> tuple[list[Any] | None, list[Any]]:
    """Return a container's keys, if it has any, and its items."""
    base = base_of(container)
    if base in (dict, OrderedDict):
        return list(base.keys(container)), list(base.values(container))
    return None, list(base.__iter__(container))


def set_contents(container: Any, keys: list[Any] | None, items: list[Any]) -> None:
    """Give a container these contents, unless it has them."""
    old_keys, old_items = contents_of(container)
    if are_same(old_items, items) and are_same(old_keys or (), keys or ()):
        return
    base = base_of(container)
    if keys is None:
        base.clear(container)
        getattr(base, "update" if base is set else "extend")(container, items)
        return
    if not are_same(old_keys or (), keys):
        base.clear(container)
    for key, item in zip(keys, items, strict=True):
        base.__setitem__(container, key, item)


def are_same(a: Collection[Any], b: Collection[Any]) -> bool:
    """Return whether two collections hold the very same objects in the same order."""
    return len(a) == len(b) and all(map(is_, a, b))


def maker_of(value: Any) -> Callable[[], Any] | None:
    """Return what makes an empty container like this one; None for a user's class."""
    kind = type(value)
    if kind is deque:
        maxlen = value.maxlen
        return lambda: deque(maxlen=maxlen)
    if kind is defaultdict:
        factory = value.default_factory
        return lambda: defaultdict(factory)
    return kind if kind in (list, dict, set, OrderedDict) else None


def rebuilt(kind: Any, keys: list[Any] | None, items: list[Any]) -> Any:
    """Return a tuple, a named tuple, a list or a dictionary of this class."""
    if keys is not None:
        return kind(zip(keys, items, strict=True))
    return kind._make(items) if hasattr(kind, "_make") else kind(items)
