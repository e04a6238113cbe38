"""Knows what state a unit's modules hold, what a FORWARD changed of it, and puts earlier values into place for a while.

RECOMPUTE runs a unit's layers a second time, on the values that this state had before FORWARD, and leaves no trace.
For that, tensors are swapped and never written: BatchNorm's FORWARD saves its running statistics for BACKWARD, and
autograd would notice if they were copied over. Containers and plain objects get other contents and stay the objects
they are, since others may know them. Random generators are set.

State is found by walking what the modules hold: registered buffers and parameters, and plain attributes with the
containers and plain objects in them. What is captured of a value is its image: the value itself where it cannot
change, else a :class:`_Node`.
"""

from __future__ import annotations

import argparse
import io
import itertools
import random
import struct
import sys
import types
import weakref
from array import array
from collections import OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from operator import length_hint
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import nn

from loadahead.executor.layout import is_dense
from loadahead.sim.errors import InputError

# What nn.Module itself keeps for every module: its dictionaries, hooks and flags.
_MODULE_NAMES: Final = frozenset(nn.Module().__dict__) | {"_compiled_call_impl"}
# Values that cannot change and are equal where they compare so.
_PLAIN: Final[frozenset[type]] = frozenset(
    {type(None), bool, int, str, bytes, range, slice, torch.Size, torch.dtype, torch.device, torch.layout}
)
_CONTAINERS: Final = (list, dict, set, deque)
# Objects of these packages are not looked into: they hold kernels, caches and handles of their own.
_CLOSED: Final = frozenset(sys.stdlib_module_names) | {"torch", "numpy", "triton", "numba", "cupy", "sympy"}
# Nor are these, whoever wrote their classes.
_NEVER_WALKED: Final = (
    *(nn.Module, torch.Tensor, torch._C._FunctionBase, type, Enum, BaseException, io.IOBase, array, bytearray),
    *(np.ndarray, np.generic, random.Random, np.random.Generator, np.random.BitGenerator, np.random.RandomState),
)
# Objects of the standard library that hold what a user puts into them.
_OPEN: Final = frozenset([types.SimpleNamespace, argparse.Namespace, UserDict, UserList])
# How deep objects in objects, containers in containers and modules in containers are followed.
_MOST_OBJECTS, _MOST_NESTED, _MOST_HIDDEN = 5, 20, 3


class _Missing:
    """Stands for an attribute that is not there."""


_MISSING: Final = _Missing()


# -- Places ------------------------------------------------------------------------------------------------------------


class _Place(Protocol):
    """Names where a piece of state hangs; what hangs there now is the state.

    ``by_value`` says that reading gives a fresh copy of a container each time.
    """

    by_value: bool

    @property
    def key(self) -> tuple[object, ...]:
        """Return what tells this place from others; it begins with the key of the place that it hangs on."""

    def get(self) -> Any:
        """Return what is there, or ``_MISSING``."""

    def set(self, value: Any) -> None:
        """Put this there; ``_MISSING`` takes away what is there."""


class _NameInDict:
    """Is a place in a dictionary of names: a module's buffers, parameters or attributes."""

    __slots__ = ("_name", "_names")
    by_value = False

    def __init__(self, names: dict[str, Any], name: str) -> None:
        self._names, self._name = names, name

    @property
    def key(self) -> tuple[object, ...]:
        return id(self._names), self._name

    def get(self) -> Any:
        return self._names.get(self._name, _MISSING)

    def set(self, value: Any) -> None:
        if value is _MISSING:
            self._names.pop(self._name, None)
        elif self._names.get(self._name, _MISSING) is not value:
            self._names[self._name] = value


class _NameInScript:
    """Is a place in a TorchScript module, whose attributes live in C++; they are declared, so none comes or goes."""

    __slots__ = ("_module", "_name")
    by_value = True

    def __init__(self, module: Any, name: str) -> None:
        self._module, self._name = module, name

    @property
    def key(self) -> tuple[object, ...]:
        return id(self._module), self._name

    def get(self) -> Any:
        return self._module._c.getattr(self._name)

    def set(self, value: Any) -> None:
        if value is not _MISSING:
            self._module._c.setattr(self._name, value)


class _NameInObject:
    """Is an attribute of the plain object that another place holds now."""

    __slots__ = ("_name", "_parent")
    by_value = False

    def __init__(self, parent: _Place, name: str) -> None:
        self._parent, self._name = parent, name

    @property
    def key(self) -> tuple[object, ...]:
        return *self._parent.key, self._name

    def get(self) -> Any:
        return _attributes(self._parent.get()).get(self._name, _MISSING)

    def set(self, value: Any) -> None:
        _set_attribute(self._parent.get(), self._name, value)


class _Fixed:
    """Is a place that holds one object for ever."""

    __slots__ = ("_value",)
    by_value = False

    def __init__(self, value: Any) -> None:
        self._value = value

    @property
    def key(self) -> tuple[object, ...]:
        return (id(self._value),)

    def get(self) -> Any:
        return self._value

    def set(self, value: Any) -> None:
        raise AssertionError("nothing else can be put here")


class _Element:
    """Is an element of a list, a deque or a dictionary."""

    __slots__ = ("_at", "_container")
    by_value = False

    def __init__(self, container: Any, at: Any) -> None:
        self._container, self._at = container, at

    @property
    def key(self) -> tuple[object, ...]:
        return id(self._container), self._at

    def get(self) -> Any:
        try:
            return _base(self._container).__getitem__(self._container, self._at)
        except LookupError:
            return _MISSING

    def set(self, value: Any) -> None:
        _base(self._container).__setitem__(self._container, self._at, value)


@dataclass(frozen=True)
class Slot:
    """Names one piece of state.

    Attributes:
        path: where a user finds it, e.g. ``layer 2.experts.0: calls``.
        kind: ``buffer``, ``parameter``, ``tensor``, ``generator`` or ``value``, which is anything else.
        restorable: whether its change can be put back.
        cause: why not, as the end of a sentence.
    """

    path: str
    kind: str
    restorable: bool = True
    cause: str = ""
    _place: _Place = field(repr=False, compare=False, kw_only=True)
    _module: nn.Module = field(repr=False, compare=False, kw_only=True)

    @property
    def _registered(self) -> bool:
        return self.kind in ("buffer", "parameter")

    @property
    def _key(self) -> tuple[object, ...]:
        return self._place.key


# -- Values ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _is_open(kind: Any) -> bool:
    """Return whether objects of this class are looked into."""
    if issubclass(kind, _NEVER_WALKED):
        return False
    return kind in _OPEN or kind.__module__.partition(".")[0] not in _CLOSED


def _is_object(value: Any) -> bool:
    """Return whether a value is a plain object: what it holds are its attributes."""
    kind: Any = type(value)
    return kind not in _PLAIN and not isinstance(value, (*_CONTAINERS, tuple)) and _is_open(kind)


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


def _attributes(value: Any) -> dict[str, Any]:
    """Return an object's attributes; none where objects of its class are not looked into."""
    kind: Any = type(value)
    if kind in _PLAIN or not _is_open(kind):
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


def _set_attribute(owner: Any, name: str, value: Any) -> None:
    """Set an attribute as ``object`` does, past the class's own ways; ``_MISSING`` deletes it."""
    kind: Any = type(owner)
    if not _is_open(kind) or _attributes(owner).get(name, _MISSING) is value:
        return
    if name not in _slot_names(kind):
        _NameInDict(object.__getattribute__(owner, "__dict__"), name).set(value)
    elif value is _MISSING:
        object.__delattr__(owner, name)
    else:
        object.__setattr__(owner, name, value)


def _base(container: Any) -> Any:
    """Return the built-in class whose methods read and write a container, past what a user's subclass does."""
    return next(base for base in (list, OrderedDict, dict, set, deque) if isinstance(container, base))


def _contents(container: Any) -> tuple[list[Any] | None, list[Any]]:
    """Return a container's keys, if it has any, and its items."""
    base = _base(container)
    if base in (dict, OrderedDict):
        return list(base.keys(container)), list(base.values(container))
    return None, list(base.__iter__(container))


def _set_contents(container: Any, keys: list[Any] | None, items: list[Any]) -> None:
    """Give a container these contents, unless it has them."""
    old_keys, old_items = _contents(container)
    if _are_same(old_items, items) and _are_same(old_keys or (), keys or ()):
        return
    base = _base(container)
    if keys is None:
        base.clear(container)
        getattr(base, "update" if base is set else "extend")(container, items)
        return
    if not _are_same(old_keys or (), keys):
        base.clear(container)
    for key, item in zip(keys, items, strict=True):
        base.__setitem__(container, key, item)


def _are_same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(map(lambda x, y: x is y, a, b))


def _maker(value: Any) -> Callable[[], Any] | None:
    """Return what makes an empty container like this one; None for a user's class."""
    kind = type(value)
    if kind is deque:
        maxlen = value.maxlen
        return lambda: deque(maxlen=maxlen)
    if kind is defaultdict:
        factory = value.default_factory
        return lambda: defaultdict(factory)
    return kind if kind in (list, dict, set, OrderedDict) else None


def _rebuilt(kind: Any, keys: list[Any] | None, items: list[Any]) -> Any:
    """Return a tuple, a named tuple, a list or a dictionary of this class."""
    if keys is not None:
        return kind(zip(keys, items, strict=True))
    return kind._make(items) if hasattr(kind, "_make") else kind(items)


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
    return (kind in _PLAIN or kind is frozenset) and bool(a == b)


def _is_same_state(a: Any, b: Any) -> bool:
    """Return whether two states, made of numbers, arrays and containers, are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_is_same_state(a[key], b[key]) for key in a)
    return bytes(a) == bytes(b) if isinstance(a, array) else bool(a == b)


# -- Tensors -----------------------------------------------------------------------------------------------------------


def _is_strange(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is of a kind that is not copied: lazy, sparse, quantized, nested or a user's."""
    return (
        type(tensor) not in (torch.Tensor, nn.Parameter)
        or tensor.layout is not torch.strided
        or tensor.is_quantized
        or tensor.is_nested
        or tensor.is_conj()
        or tensor.is_neg()
    )


def _version(tensor: torch.Tensor) -> int:
    """Return how often a tensor was written to; tensors of the inference mode and lazy ones do not count."""
    try:
        return tensor._version
    except (RuntimeError, ValueError):
        return 0


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _has_same_bits(node: _Tensor, tensor: torch.Tensor) -> bool:
    copy = node.copy
    assert copy is not None
    if tensor.dtype != copy.dtype or tensor.shape != copy.shape or tensor.device != copy.device:
        return False
    if tensor.is_meta:
        return _version(tensor) == node.version
    with torch.no_grad():
        try:
            return torch.equal(_raw(tensor), _raw(copy))
        except (RuntimeError, NotImplementedError):  # types of less than a byte
            return _version(tensor) == node.version


def _overwrite(tensor: torch.Tensor, copy: torch.Tensor) -> None:
    """Give a tensor the copy's bits."""
    with torch.inference_mode() if tensor.is_inference() else torch.no_grad():
        if tensor.shape == copy.shape and tensor.dtype == copy.dtype and is_dense(tensor):
            tensor.copy_(copy)
        else:
            tensor.data = copy.detach()


class _Group:
    """Holds tensors that share a storage, and makes copies that share one too."""

    __slots__ = ("_low", "_tensors", "nbytes")

    def __init__(self, tensors: list[tuple[_Tensor, torch.Tensor]]) -> None:
        self._tensors = tensors
        self._low: int | None = None
        first = tensors[0][1]
        if len(tensors) == 1 and (first.is_contiguous() or is_dense(first)):
            self.nbytes = first.numel() * first.element_size()
            return
        filled = [tensor for _, tensor in tensors if tensor.numel()] or [first]
        lows = [tensor.storage_offset() * tensor.element_size() for tensor in filled]
        # Every type's elements have to begin at a multiple of their size.
        largest = max(tensor.element_size() for _, tensor in tensors)
        self._low = min(lows) // largest * largest
        self.nbytes = max(map(_end, filled)) - self._low

    def copy(self) -> None:
        if self._low is None:
            node, tensor = self._tensors[0]
            node.copy = _like(tensor, tensor.detach().clone())
            return
        first = self._tensors[0][1]
        whole = torch.empty(0, dtype=torch.uint8, device=first.device).set_(first.untyped_storage())
        storage = whole[self._low : self._low + self.nbytes].clone().untyped_storage()
        for node, tensor in self._tensors:
            offset = max(0, tensor.storage_offset() * tensor.element_size() - self._low) // tensor.element_size()
            copy = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
            copy.set_(storage, offset, tensor.size(), tensor.stride())
            node.copy = _like(tensor, copy)


def _end(tensor: torch.Tensor) -> int:
    """Return the byte in its storage after a tensor's last element."""
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return int(tensor.storage_offset() + reach + 1) * tensor.element_size() if tensor.numel() else 0


def _like(tensor: torch.Tensor, copy: torch.Tensor) -> torch.Tensor:
    """Return a copy that layers take for the tensor itself."""
    if isinstance(tensor, nn.Parameter):
        copy = nn.Parameter(copy, requires_grad=tensor.requires_grad)
    elif tensor.requires_grad:
        copy.requires_grad_()
    if tensor.__dict__:
        copy.__dict__.update(tensor.__dict__)
    return copy


def _groups(tensors: Iterable[tuple[_Tensor, torch.Tensor]]) -> list[_Group]:
    by_storage: dict[int, list[tuple[_Tensor, torch.Tensor]]] = {}
    for node, tensor in tensors:
        by_storage.setdefault(tensor.untyped_storage()._cdata, []).append((node, tensor))
    return [_Group(members) for members in by_storage.values()]


# -- Images ------------------------------------------------------------------------------------------------------------


class _Node:
    """Is the image of a value that can change."""

    __slots__ = ()


class _Gone(_Node):
    """Stands for outputs parked on a module, tensors with a graph: a FORWARD sets them and never reads them first."""

    __slots__ = ()


_GONE: Final = _Gone()


class _Parked(_Node):
    """Stands for such an output in a container that holds other things too; it does not keep the output alive."""

    __slots__ = ("output",)

    def __init__(self, output: torch.Tensor) -> None:
        self.output = weakref.ref(output)


class _Tensor(_Node):
    """Holds a tensor's bits in ``copy``; None where nothing but its identity counts.

    A tensor that cannot be copied is known by its version.
    """

    __slots__ = ("_strong", "_weak", "copy", "strange", "version")

    def __init__(self, tensor: torch.Tensor, strong: bool, strange: bool) -> None:
        self._strong = tensor if strong else None
        self._weak = None if strong else weakref.ref(tensor)
        self.strange, self.version = strange, _version(tensor) if strange or tensor.is_meta else 0
        self.copy: torch.Tensor | None = None

    def original(self) -> torch.Tensor | None:
        """Return the tensor itself if it lives."""
        return self._strong if self._weak is None else self._weak()


class _Fresh(_Node):
    """Holds what is in a tuple, or in a container of which TorchScript gives a fresh copy each time."""

    __slots__ = ("items", "keys", "kind")

    def __init__(self, kind: type, keys: list[Any] | None, items: list[Any]) -> None:
        self.kind, self.keys, self.items = kind, keys, items


class _Holder(_Node):
    """Holds the contents of a list, deque, set or dictionary, and a plain object's attributes.

    A container that can be made anew is not kept alive: if FORWARD replaces it, it would keep alive what it holds.
    """

    __slots__ = ("_id", "_make", "attributes", "items", "kept", "keys", "kind")

    def __init__(self, value: Any, strong: bool) -> None:
        self.kind = type(value)
        self._make = _maker(value)
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


def _is_output(image: Any, inside: tuple[_Node, ...] = ()) -> bool:
    """Return whether an image stands for outputs alone, or for a container with nothing else."""
    if isinstance(image, _Parked):
        return True
    if not isinstance(image, (_Fresh, _Holder)) or any(image is outer for outer in inside):
        return False
    named = image.attributes.values() if isinstance(image, _Holder) else ()
    items = [item for item in (*(image.items or ()), *named) if item is not None]
    return bool(items) and all(_is_output(item, (*inside, image)) for item in items)


class _Handle(_Node):
    """Holds the state of a random generator or an array."""

    __slots__ = ("_read", "_write", "state", "value")

    def __init__(self, value: Any, read: Callable[[Any], Any], write: Callable[[Any, Any], None]) -> None:
        self.value, self._read, self._write = value, read, write
        self.state = read(value)

    def is_unchanged(self) -> bool:
        return _is_same_state(self.state, self._read(self.value))

    def put(self) -> None:
        if not self.is_unchanged():
            self._write(self.value, self.state)


class _Seen(_Node):
    """Holds what can be seen of an object that cannot be put back, and the cause."""

    __slots__ = ("_look", "_seen", "cause", "value")

    def __init__(self, value: Any, look: Callable[[Any], Any], cause: str) -> None:
        self.value, self._look, self.cause = value, look, cause
        self._seen = look(value)

    def is_unchanged(self) -> bool:
        return bool(self._seen == self._look(self.value))


def _is_process_wide(value: Any) -> bool:
    """Return whether a random generator is one that belongs to the process: those are not a module's state."""
    if isinstance(value, torch.Generator):
        return value is torch.default_generator or any(value is own for own in torch.cuda.default_generators)
    return value is getattr(random, "_inst", None) or value is getattr(np.random.mtrand, "_rand", None)


def _is_generator(value: Any) -> bool:
    kinds = (torch.Generator, random.Random, np.random.Generator, np.random.BitGenerator, np.random.RandomState)
    return isinstance(value, kinds) and not isinstance(value, random.SystemRandom) and not _is_process_wide(value)


def _set_generator(value: Any, state: Any) -> None:
    value.set_state(state)


def _set_array(value: Any, state: Any) -> None:
    value[...] = state


def _set_bytes(value: Any, state: Any) -> None:
    value[:] = state


def _handle(value: Any) -> _Node | None:
    """Return the image of a random generator, an array, a file or an iterator; None for anything else."""
    if isinstance(value, np.ndarray):
        return _Handle(value, np.ndarray.copy, _set_array) if value.flags.writeable else None
    if isinstance(value, (bytearray, array)):
        return _Handle(value, lambda it: it[:], _set_bytes)
    if isinstance(value, io.IOBase):
        return _Seen(value, _file_position, "a file, where what is read or written cannot be taken back")
    if _is_generator(value):
        if isinstance(value, torch.Generator):
            return _Handle(value, torch.Generator.get_state, _set_generator)
        if isinstance(value, random.Random):
            return _Handle(value, random.Random.getstate, random.Random.setstate)
        if isinstance(value, np.random.RandomState):
            return _Handle(value, lambda it: it.get_state(legacy=False), np.random.RandomState.set_state)
        bits = value.bit_generator if isinstance(value, np.random.Generator) else value
        return _Handle(value, lambda _: bits.state, lambda _, state: setattr(bits, "state", state))
    if hasattr(type(value), "__next__") and type(value).__module__ in ("builtins", "itertools"):
        return _Seen(value, _iterator_position, "an iterator, which cannot be set back")
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
        return frame and (frame.f_lasti, [value for value in frame.f_locals.values() if type(value) in _PLAIN])
    if isinstance(iterator, itertools.count):
        return repr(iterator)
    try:
        return length_hint(iterator, -1)
    except Exception:
        return -1


class _Capture:
    """Makes images of values; a value that hangs in several places has one image.

    Args:
        strong: keep what is captured alive.
        kept: ids of tensors that are taken as they are where they hang in a container: registered ones that no FORWARD
            changes.
    """

    def __init__(self, strong: bool = False, kept: Callable[[], set[int]] = set) -> None:
        self.to_copy: list[tuple[_Tensor, torch.Tensor]] = []
        self._strong, self._find_kept = strong, kept
        self._kept: set[int] | None = None
        self._nodes: dict[int, _Node] = {}

    def slot(self, slot: Slot, alone: bool = False) -> Any:
        """Return the image of what a slot holds.

        ``alone`` says that the attributes of a plain object there have slots of their own.
        """
        value = slot._place.get()
        if isinstance(value, torch.Tensor):
            return self._tensor(value, outermost=True, registered=slot._registered)
        if alone and _is_object(value):
            return value
        image = self._by_value(value) if slot._place.by_value else self.value(value)
        return _GONE if not self._strong and _is_output(image) else image

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return the image of a value."""
        if type(value) in _PLAIN or depth > _MOST_NESTED:
            return value
        node = self._nodes.get(id(value))
        if node is not None:
            return node
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, tuple):
            return self._tuple(value, depth)
        if isinstance(value, _CONTAINERS) or _is_object(value):
            return self._holder(value, depth)
        node = _handle(value)
        if node is None:
            return value
        self._nodes[id(value)] = node
        return node

    def live(self) -> dict[int, Any]:
        """Return the captured objects that hold others, by id."""
        return {at: node.kept for at, node in self._nodes.items() if isinstance(node, _Holder)}

    def objects(self) -> list[Any]:
        """Return the captured objects that are put back in place wherever they hang."""
        handles = [node.value for node in self._nodes.values() if isinstance(node, _Handle)]
        return handles + [kept for kept in self.live().values() if kept is not None]

    def holders(self) -> Iterator[_Holder]:
        """Yield the images of the objects that hold others."""
        return (node for node in self._nodes.values() if isinstance(node, _Holder))

    def _by_value(self, value: Any) -> Any:
        if isinstance(value, list):
            return _Fresh(list, None, [self._by_value(item) for item in value])
        if isinstance(value, dict):
            return _Fresh(dict, list(value), [self._by_value(item) for item in value.values()])
        return self.value(value)

    def _tuple(self, value: tuple[Any, ...], depth: int) -> Any:
        if type(value) is not tuple and not hasattr(value, "_make"):
            return value
        items = [self.value(item, depth + 1) for item in value]
        return _Fresh(type(value), None, items) if any(isinstance(item, _Node) for item in items) else value

    def _holder(self, value: Any, depth: int) -> _Holder:
        self._nodes[id(value)] = node = _Holder(value, self._strong)
        if isinstance(value, _CONTAINERS):
            node.keys, items = _contents(value)
            node.items = [self.value(item, depth + 1) for item in items]
        node.attributes = {name: self.value(item, depth + 1) for name, item in _attributes(value).items()}
        return node

    def _tensor(self, tensor: torch.Tensor, outermost: bool = False, registered: bool = False) -> Any:
        node = self._nodes.get(id(tensor))
        if node is not None:
            return node
        is_output = tensor.grad_fn is not None and not registered
        if is_output and not self._strong:
            return _GONE if outermost else _Parked(tensor)
        strange = _is_strange(tensor)
        as_it_is = is_output or strange or not (outermost or id(tensor) not in self._taken_as_they_are())
        self._nodes[id(tensor)] = node = _Tensor(tensor, self._strong or as_it_is, strange)
        if not as_it_is:
            self.to_copy.append((node, tensor))
        return node

    def _taken_as_they_are(self) -> set[int]:
        if self._kept is None:
            self._kept = self._find_kept()
        return self._kept


class _Comparison:
    """Compares images with values; a change of an object that hangs in several places is told once."""

    def __init__(self) -> None:
        self._done: set[int] = set()

    def difference(self, image: Any, value: Any) -> str | None:
        """Return None where they are equal, and else the cause why that cannot be put back; "" where it can."""
        if not isinstance(image, _Node):
            return None if _is_same_leaf(image, value) else ""
        if isinstance(image, _Fresh):
            return self._in_items(image, value)
        if isinstance(image, _Gone):
            return None
        if isinstance(image, _Parked):
            return None if image.output() is value else ""
        if isinstance(image, _Holder):
            if not image.stands_for(value):
                return ""
            return None if self._is_done(image) else self._in_holder(image, value)
        assert isinstance(image, (_Tensor, _Handle, _Seen))
        if (image.original() if isinstance(image, _Tensor) else image.value) is not value:
            return ""
        return None if self._is_done(image) else self._inside(image)

    def _is_done(self, image: _Node) -> bool:
        done = id(image) in self._done
        self._done.add(id(image))
        return done

    @staticmethod
    def _inside(image: _Tensor | _Handle | _Seen) -> str | None:
        if isinstance(image, _Seen):
            return None if image.is_unchanged() else image.cause
        if isinstance(image, _Handle):
            return None if image.is_unchanged() else ""
        tensor = image.original()
        assert tensor is not None, "its identity was compared"
        if image.copy is not None:
            return None if _has_same_bits(image, tensor) else ""
        if not image.strange or _version(tensor) == image.version:
            return None
        return "a tensor of a kind that cannot be copied (lazy, sparse, quantized, nested or of a class of its own)"

    def _in_items(self, image: _Fresh, value: Any) -> str | None:
        kind: Any = type(value)
        if kind is not image.kind:
            return ""
        items: list[Any] = list(value) if image.keys is None else list(value.values())
        if len(items) != len(image.items) or (image.keys is not None and list(value) != image.keys):
            return ""
        return _worst(self.difference(a, b) for a, b in zip(image.items, items, strict=True))

    def _in_holder(self, image: _Holder, value: Any) -> str | None:
        attributes = _attributes(value)
        out = "" if list(attributes) != list(image.attributes) else None
        named = [
            self.difference(part, attributes[name]) for name, part in image.attributes.items() if name in attributes
        ]
        if image.items is None:
            return _worst([out, *named])
        keys, items = _contents(value)
        if len(items) != len(image.items) or not all(map(_is_same_leaf, image.keys or (), keys or ())):
            out = ""
        return _worst([out, *named, *map(self.difference, image.items, items)])


def _worst(causes: Iterable[str | None]) -> str | None:
    """Return a cause why something cannot be put back, if there is one; else "" if there is a change."""
    return max((cause for cause in causes if cause is not None), key=len, default=None)


class _Placing:
    """Makes values of images again.

    Args:
        now: the images of what hangs there now, whose objects are used again.
        in_place: write into tensors that live, instead of using the copies.
    """

    def __init__(self, now: _Capture, in_place: bool = False) -> None:
        self._live, self._in_place = now.live(), in_place
        self._made: dict[int, Any] = {}

    def put(self, images: Iterable[tuple[Slot, Any]]) -> None:
        """Put values into their slots."""
        for slot, image in images:
            if image is not _GONE:
                slot._place.set(self.value(image))

    def value(self, image: Any) -> Any:
        """Return the value of an image."""
        if not isinstance(image, _Node):
            return image
        if isinstance(image, _Tensor):
            return self._tensor(image)
        if isinstance(image, _Parked):
            output = image.output()
            return torch.empty(0) if output is None else output
        if isinstance(image, _Fresh):
            return _rebuilt(image.kind, image.keys, [self.value(item) for item in image.items])
        if id(image) in self._made:
            return self._made[id(image)]
        if isinstance(image, _Holder):
            return self._holder(image)
        assert isinstance(image, (_Handle, _Seen))
        self._made[id(image)] = image.value
        if isinstance(image, _Handle):
            image.put()
        return image.value

    def _tensor(self, image: _Tensor) -> torch.Tensor:
        original = image.original()
        if image.copy is None:
            assert original is not None, "what is not copied is kept"
            return original
        if not self._in_place or original is None:
            return image.copy
        if not _has_same_bits(image, original):
            _overwrite(original, image.copy)
        return original

    def _holder(self, image: _Holder) -> Any:
        self._made[id(image)] = target = image.target(self._live)
        if image.items is not None:
            _set_contents(target, image.keys, [self.value(item) for item in image.items])
        for name in set(_attributes(target)) - set(image.attributes):
            _set_attribute(target, name, _MISSING)
        for name, part in image.attributes.items():
            _set_attribute(target, name, self.value(part))
        return target


# -- The walk ----------------------------------------------------------------------------------------------------------


def _modules(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[nn.Module, str]]:
    """Yield a module and those registered in it, each once, with their paths."""
    module = module.__dict__.get("_actual_script_module", module)  # of a traced module
    if id(module) in seen:
        return
    seen.add(id(module))
    yield module, path
    for name, child in module._modules.items():
        if child is not None:
            # torch.compile wraps a module; its user knows it by the path of the wrapper.
            yield from _modules(child, path if name == "_orig_mod" else f"{path}.{name}", seen)


def _module_slots(module: nn.Module, path: str) -> Iterator[Slot]:
    """Yield the slots of a module's own parameters, buffers and attributes."""
    if isinstance(module, torch.jit.ScriptModule):
        names = [("parameter", name) for name in dict(module._parameters)]
        names += [("buffer", name) for name in dict(module._buffers)]
        registered = {name for _, name in names}
        kind = getattr(module, "_concrete_type", None)
        attributes = set(kind.get_attributes()) - registered - _MODULE_NAMES if kind is not None else ()
        for what, name in (*names, *(("", name) for name in sorted(attributes))):
            yield _slot(module, f"{path}: {name}", _NameInScript(module, name), what)
        return
    for what, names_of in (("parameter", module._parameters), ("buffer", module._buffers)):
        for name in names_of:
            yield _slot(module, f"{path}: {name}", _NameInDict(names_of, name), what)
    if type(module).__module__.startswith("torch._dynamo"):
        return
    for name in [name for name in module.__dict__ if name not in _MODULE_NAMES]:
        yield _slot(module, f"{path}: {name}", _NameInDict(module.__dict__, name))


def _slot(module: nn.Module, path: str, place: _Place, kind: str = "") -> Slot:
    if not kind:
        value = place.get()
        kind = "tensor" if isinstance(value, torch.Tensor) else "generator" if _is_generator(value) else "value"
    return Slot(path, kind, _place=place, _module=module)


def _with_objects(slot: Slot, seen: set[int], depth: int = 0) -> Iterator[Slot]:
    """Yield a slot, and those of the attributes of a plain object in it, each object once."""
    yield slot
    value = slot._place.get()
    if not _is_object(value) or id(value) in seen or depth == _MOST_OBJECTS:
        return
    seen.add(id(value))
    for name in list(_attributes(value)):
        inner = _slot(slot._module, f"{slot.path}.{name}", _NameInObject(slot._place, name))
        yield from _with_objects(inner, seen, depth + 1)


def _hidden_modules(value: Any, path: str, depth: int = 0) -> Iterator[tuple[nn.Module, str]]:
    """Yield modules that hang on an attribute without being registered, with their paths."""
    if isinstance(value, nn.Module):
        yield value, path
    elif isinstance(value, (list, tuple, dict)) and depth < _MOST_HIDDEN:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for at, item in list(pairs):
            yield from _hidden_modules(item, f"{path}[{at!r}]", depth + 1)


def _substituted(value: Any, copies: dict[int, torch.Tensor]) -> Any:
    """Return a tensor's copy, or a tuple with such copies; the value itself where it mentions none."""
    if isinstance(value, torch.Tensor):
        return copies.get(id(value), value)
    if isinstance(value, tuple) and (type(value) is tuple or hasattr(value, "_make")):
        items = [_substituted(item, copies) for item in value]
        return value if _are_same(items, value) else _rebuilt(type(value), None, items)
    return value


def _is_parked(slot: Slot) -> bool:
    value = slot._place.get()
    return isinstance(value, torch.Tensor) and value.grad_fn is not None and not slot._registered


def _mark(slot: Slot) -> tuple[int, int]:
    value = slot._place.get()
    return id(value), _version(value) if isinstance(value, torch.Tensor) else 0


# -- What others use ---------------------------------------------------------------------------------------------------


class Before:
    """Holds the values of some slots at one moment. A run on them may change what this holds: it is used once."""

    __slots__ = ("_complete", "_images", "_objects", "_tensors")

    def __init__(self, images: Sequence[tuple[Slot, Any]], capture: _Capture, complete: bool) -> None:
        self._images, self._complete = images, complete
        # They may hang nowhere when these values are used; what they hold at that time is put back, too.
        self._objects = [] if complete else capture.objects()
        self._tensors = [node for node, _ in capture.to_copy]
        with torch.no_grad():
            for group in _groups(capture.to_copy):
                group.copy()

    @property
    def nbytes(self) -> int:
        """Return the bytes of the distinct storages of the copies of tensors in here."""
        storages = [node.copy.untyped_storage() for node in self._tensors if node.copy is not None]
        return sum({storage._cdata: storage.nbytes() for storage in storages}.values())

    def narrowed(self, slots: Sequence[Slot]) -> Before:
        """Return the values of these slots alone; those that were not there are missing in it."""
        images = {slot._key: image for slot, image in self._images}
        out = Before((), _Capture(), complete=False)
        out._images = [(slot, images.get(slot._key, _MISSING)) for slot in slots]
        return out

    def __repr__(self) -> str:
        return f"Before({len(self._images)} slots, {self.nbytes} bytes)"


_NOTHING_BEFORE: Final = Before((), _Capture(), complete=False)
_NOTHING_TO_DO: Final = nullcontext()


class ModuleState:
    """Reads and writes the state of a unit's modules.

    Args:
        layers: the unit's, consecutive ones of the model.
        name: the unit's, for messages.
        first_layer: the number of the first of them in the model.
    """

    def __init__(self, layers: Sequence[nn.Module], name: str, first_layer: int = 0) -> None:
        self._layers, self._name, self._first = tuple(layers), name, first_layer
        self._watched: dict[tuple[object, ...], Slot] = {}
        # Those of them in which a FORWARD parks an output, whatever they held before the first.
        self._parked: set[tuple[object, ...]] = set()
        self._order: tuple[Slot, ...] = ()
        # The attributes of the modules with watched slots, by name.
        self._namespaces: list[dict[str, Any]] = []
        # Where tensors of watched slots hang besides.
        self._aliases: list[_Place] = []
        # Registered buffers and parameters that are not watched.
        self._cheap: list[Slot] | None = None

    def everything(self) -> Before:
        """Return the values of all there is; slow, and it keeps alive what it finds."""
        self._cheap = None  # modules may have come
        capture = _Capture(strong=True)
        return Before([(slot, capture.slot(slot, alone=True)) for slot in self._slots()], capture, complete=True)

    def changed_since(self, before: Before) -> tuple[Slot, ...]:
        """Return the slots whose values differ from these, bit for bit, each change once.

        Attributes that came, went or hold another object count. ``before`` must not have been used by :meth:`at`.
        """
        comparison = _Comparison()
        changed: dict[tuple[object, ...], Slot] = {}
        for slot, image in before._images:
            cause = comparison.difference(image, slot._place.get())
            if cause is not None:
                changed[slot._key] = replace(slot, restorable=not cause, cause=cause)
        changed.update((slot._key, slot) for slot in self._slots_beside(before))
        # Where an object was replaced, what hangs on it goes without saying.
        return tuple(
            slot for key, slot in changed.items() if not any(key[:length] in changed for length in range(2, len(key)))
        )

    def cheap_marks(self) -> tuple[object, ...]:
        """Return marks by which :meth:`changed_marks` knows a change of a registered tensor that is not watched.

        Unlike :meth:`everything` this is cheap enough for every FORWARD, and keeps nothing alive. A few kernels write
        unseen; of BatchNorm's buffers the count of batches shows, its mean and variance do not.
        """
        return tuple(map(_mark, self._unwatched()))

    def changed_marks(self, marks: Sequence[object]) -> tuple[Slot, ...]:
        """Return the registered buffers and parameters, of those not watched, that are others or were written since.

        ``marks`` are of :meth:`cheap_marks`; of the other methods, only those that use watched slots may come between.
        """
        pairs = zip(self._cheap or (), marks, strict=True)
        return tuple(slot for slot, mark in pairs if _mark(slot) != mark)

    def watch(self, slots: Iterable[Slot]) -> None:
        """Remember that a FORWARD, which has just run, changes these slots, besides those of earlier calls.

        Raises InputError, and remembers none, where one of them cannot be put back.
        """
        slots = tuple(slots)
        for slot in slots:
            if not slot.restorable:
                raise self.refusal(slot)
        if not slots:
            return
        self._watched.update((slot._key, slot) for slot in slots)
        self._parked.update(slot._key for slot in slots if _is_parked(slot))
        # An object comes before what hangs on it.
        self._order = tuple(sorted(self._watched.values(), key=lambda slot: len(slot._key)))
        self._cheap = None
        self._aliases = self._find_aliases()
        self._namespaces = [
            module.__dict__ for module in {id(slot._module): slot._module for slot in self._order}.values()
        ]

    def refusal(self, slot: Slot) -> InputError:
        """Return the error for a slot whose change cannot be put back."""
        return InputError(
            f"the model's unit {self._name} changes {slot.path} in FORWARD: {slot.cause}; RECOMPUTE runs FORWARD again "
            "and has to leave no trace: keep such state in buffers, numbers or containers, or switch checkpointing off"
        )

    @property
    def watched(self) -> tuple[Slot, ...]:
        """Return the slots that a FORWARD is known to change."""
        return self._order

    @property
    def nbytes(self) -> int:
        """Return the bytes of the tensors that :meth:`before` copies, as they are now."""
        capture = self._capture_watched()[0]
        return sum(group.nbytes for group in _groups(capture.to_copy))

    def before(self) -> Before:
        """Return the values of the watched slots.

        Tensors are copied with their strides, each into a storage of exactly its bytes. Those that share memory go on
        to share it; they, and one with gaps, take the bytes from their first to their last element.
        """
        if not self._order:
            return _NOTHING_BEFORE
        capture, images = self._capture_watched()
        return Before(images, capture, complete=False)

    def at(self, before: Before) -> AbstractContextManager[None]:
        """Let the slots hold these values inside the context; after it all is as it was, whatever happened inside.

        Tensors are swapped for the copies and back, never written. An output parked on a module stays there: it is not
        kept, as FORWARD sets it anew.
        """
        return self._holding(before) if before._images else _NOTHING_TO_DO

    def put_back(self, before: Before) -> None:
        """Give the slots these values for good, living tensors in place. So it undoes a run whose graph is dropped.

        If ``before`` is of :meth:`everything`, what came since goes. What cannot be put back stays.
        """
        images = self._wanted(before)
        now = _Capture(strong=True)
        for slot, _ in images:
            now.slot(slot)
        _Placing(now, in_place=True).put(images)

    @contextmanager
    def _holding(self, before: Before) -> Iterator[None]:
        images, now = self._wanted(before), _Capture(strong=True)
        entry = [(slot, now.slot(slot)) for slot, _ in images]
        others = [now.value(value) for value in before._objects]
        # A module may notice that a tensor is another and keep other things for it, as an LSTM does.
        namespaces = [(names, names.copy()) for names in self._namespaces]
        swapped: list[tuple[_Place, Any]] = []
        try:
            _Placing(now).put(images)
            self._swap_aliases(before, swapped)
            yield
        finally:
            for place, value in reversed(swapped):
                place.set(value)
            for names, attributes in namespaces:
                _set_contents(names, list(attributes), list(attributes.values()))
            back = _Placing(now)
            back.put(entry)
            for image in others:
                back.value(image)

    def _swap_aliases(self, before: Before, swapped: list[tuple[_Place, Any]]) -> None:
        if not self._aliases:
            return
        pairs = [(node.original(), node.copy) for node in before._tensors]
        copies = {id(tensor): copy for tensor, copy in pairs if tensor is not None and copy is not None}
        for place in self._aliases:
            value = place.get()
            other = _substituted(value, copies)
            if other is not value:
                swapped.append((place, value))
                place.set(other)

    def _wanted(self, before: Before) -> Sequence[tuple[Slot, Any]]:
        """Return what the slots shall hold; what came since all was captured shall not be there."""
        return [*before._images, *((slot, _MISSING) for slot in self._slots_beside(before))]

    def _slots_beside(self, before: Before) -> list[Slot]:
        """Return the slots that came since all was captured."""
        if not before._complete:
            return []
        known = {slot._key for slot, _ in before._images}
        return [slot for slot in self._slots() if slot._key not in known]

    def _slots(self) -> Iterator[Slot]:
        """Yield all slots, those of a module or an object once."""
        seen: set[int] = set()
        own = {id(layer) for layer in self._layers}
        waiting = deque((layer, f"layer {self._first + index}") for index, layer in enumerate(self._layers))
        while waiting:
            for module, path in list(_modules(*waiting.popleft(), seen)):
                for outer in _module_slots(module, path):
                    for slot in _with_objects(outer, seen):
                        yield slot
                        # A module that holds the unit is the model, or the part of it around the unit.
                        waiting.extend(
                            (hidden, where)
                            for hidden, where in _hidden_modules(slot._place.get(), slot.path.replace(": ", "."))
                            if id(hidden) not in seen and not any(id(child) in own for child in hidden.modules())
                        )

    def _capture_watched(self, strong: bool = False) -> tuple[_Capture, list[tuple[Slot, Any]]]:
        capture = _Capture(strong, self._unchanged_ids)
        return capture, [(s, _GONE if s._key in self._parked and not strong else capture.slot(s)) for s in self._order]

    def _unwatched(self) -> list[Slot]:
        """Return the registered slots that are not watched."""
        if self._cheap is None:
            unwatched = (slot for slot in self._slots() if slot._key not in self._watched)
            self._cheap = [slot for slot in unwatched if slot._registered]
        return self._cheap

    def _unchanged_ids(self) -> set[int]:
        """Return the ids of the registered tensors that no FORWARD changes."""
        watched = {id(slot._place.get()) for slot in self._order}
        return {id(slot._place.get()) for slot in self._unwatched()} - watched

    def _find_aliases(self) -> list[_Place]:
        """Return where tensors of watched slots hang besides, so that they are swapped there too."""
        ids = {id(tensor): _FOUND for _, tensor in self._capture_watched(strong=True)[0].to_copy}
        capture = _Capture(strong=True)
        slots = list(self._slots())
        for slot in slots:
            capture.slot(slot, alone=True)
        places = [slot._place for slot in slots if slot._key not in self._watched]
        for holder in capture.holders():
            if holder.items is not None and not isinstance(holder.kept, set):
                keys = range(len(holder.items)) if holder.keys is None else holder.keys
                places += [_Element(holder.kept, key) for key in keys]
            places += [_NameInObject(_Fixed(holder.kept), name) for name in holder.attributes]
        return [place for place in places if _substituted(place.get(), ids) is not place.get()]


# Stands for any copy.
_FOUND: Final = torch.empty(0)
