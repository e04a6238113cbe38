"""What passes between two units: tensors, alone or in tuples, lists and dictionaries, beside what is no tensor.

A boundary of several tensors is one buffer of the plan, so they are taken, copied and freed together; here each lies in
memory of its own. A tensor without gradient that units hand on unchanged, such as a mask, belongs to no boundary: the
plan has a buffer of its own for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from loadahead.executor.tensors.layout import Layout, is_dense, own_storage, storage_id
from loadahead.executor.tensors.numbers import is_fake
from loadahead.sim.errors import InputError

# Kernels may go other ways where memory does not begin at a multiple of so many bytes, those of a cache line.
ALIGNMENT = 64
# The place of a leaf that is no tensor. Others are an index of the boundary's own tensors, or ``handed_place``.
CONSTANT = -1


def handed_place(number: int) -> int:
    """Return the place of a leaf that is the tensor of this number among those handed on unchanged."""
    return CONSTANT - 1 - number


def handed_number(place: int) -> int:
    """Return the number of the tensor handed on whose place this is; negative where it is none."""
    return CONSTANT - 1 - place


@dataclass(frozen=True, slots=True)
class Value:
    """Holds the tensors of one boundary, or of its gradient, for one microbatch.

    Attributes:
        tensors: each alone in its memory.
        constants: the boundary's leaves that are no tensors, in order.
        absent: which tensors stand for a gradient that plain training does not have; they hold zeros.
        views: how a tensor lay that did not fill its memory without gaps; None for others, empty for no such tensor.
    """

    tensors: tuple[torch.Tensor, ...]
    constants: tuple[Any, ...] = ()
    absent: frozenset[int] = frozenset()
    views: tuple[View | None, ...] = ()

    def as_made(self) -> tuple[torch.Tensor, ...]:
        """Return the tensors as they lay when they were made: kernels may compute other bits from other strides."""
        if not self.views:
            return self.tensors
        return tuple([t if view is None else view.of(t) for t, view in zip(self.tensors, self.views, strict=True)])

    @property
    def nbytes(self) -> int:
        """Return the bytes of all storages."""
        return sum([tensor.untyped_storage().nbytes() for tensor in self.tensors])

    def described(self) -> Description:
        """Return all that is known of it but the numbers."""
        layouts = tuple([Layout.of(tensor) for tensor in self.tensors])
        return Description(layouts, self.constants, self.absent, self.views)


@dataclass(frozen=True, slots=True)
class Description:
    """Says how a value's tensors lie in their memory, and what a value holds beside them."""

    layouts: tuple[Layout, ...]
    constants: tuple[Any, ...] = ()
    absent: frozenset[int] = frozenset()
    views: tuple[View | None, ...] = ()

    @property
    def sizes(self) -> list[int]:
        """Return each tensor's bytes."""
        return [layout.nbytes for layout in self.layouts]

    def over(self, memory: Sequence[torch.Tensor]) -> Value:
        """Return the value whose tensors lie in this memory, each in one of the tensors given; nothing is copied."""
        tensors = [over(mine, layout) for mine, layout in zip(memory, self.layouts, strict=True)]
        return Value(tuple(tensors), self.constants, self.absent, self.views)


@dataclass(frozen=True, slots=True)
class View:
    """Describes how a tensor lies in a larger piece of memory.

    Attributes:
        stride: with gaps, or 0 where elements are repeated.
        offset: elements from an aligned address to the first.
    """

    stride: tuple[int, ...]
    offset: int

    @classmethod
    def of_tensor(cls, tensor: torch.Tensor) -> View | None:
        """Return how a tensor lies; None for one that fills memory from an aligned address on, and for integers."""
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return None
        if tensor.is_conj() or tensor.is_neg():
            return None
        itemsize, offset = tensor.element_size(), tensor.storage_offset()
        odd = offset * itemsize % ALIGNMENT
        if not odd and is_dense(tensor):
            return None
        return cls(tuple(tensor.stride()), odd // itemsize)

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a copy of a tensor that lies so."""
        repeated = [dim for dim, stride in enumerate(self.stride) if not stride and tensor.shape[dim] > 1]
        once = tensor
        for dim in repeated:
            once = once.narrow(dim, 0, 1)
        extent = self.offset + 1 + sum((n - 1) * st for n, st in zip(once.shape, self.stride, strict=True))
        memory = torch.empty(max(extent, 0), dtype=tensor.dtype, device=tensor.device)
        out = memory.as_strided(once.shape, self.stride, self.offset) if once.numel() else torch.empty_like(once)
        return out.copy_(once).expand(tensor.shape)


def views_of(tensors: Sequence[torch.Tensor]) -> tuple[View | None, ...]:
    """Return how each tensor lies in its memory; empty where all fill theirs."""
    views = tuple([View.of_tensor(tensor) for tensor in tensors])
    return views if any(view is not None for view in views) else ()


def over(memory: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return a tensor of this layout in the memory of another, which it fills exactly: itself, or no view of it."""
    if Layout.of(memory) == layout:
        return memory
    out = torch.empty(0, dtype=layout.dtype, device=memory.device)
    return out.set_(memory.untyped_storage(), 0, layout.shape, layout.stride)


@dataclass(frozen=True, slots=True)
class Form:
    """Says how a boundary is put together, the same for every microbatch.

    Attributes:
        spec: the tuples, lists and dictionaries.
        places: for each leaf, where it comes from: see :data:`CONSTANT`.
        layouts: of the boundary's own tensors, as the traced microbatch had them. Others may have other strides.
        needs: which of these have a gradient in plain training.
        gradient_layouts: of these alone.
        handed: the numbers of the tensors that are handed on and part of it.
    """

    spec: TreeSpec
    places: tuple[int, ...]
    layouts: tuple[Layout, ...]
    needs: tuple[bool, ...]
    gradient_layouts: tuple[Layout, ...] = field(init=False)
    handed: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        needed = [layout for layout, need in zip(self.layouts, self.needs, strict=True) if need]
        object.__setattr__(self, "gradient_layouts", tuple(needed))
        numbers = {handed_number(place): None for place in self.places if place < CONSTANT}
        object.__setattr__(self, "handed", tuple(numbers))

    @property
    def single(self) -> bool:
        """Return whether the boundary is one tensor of its own and nothing else."""
        return self.places == (0,) and self.spec.is_leaf()

    @property
    def nbytes(self) -> int:
        """Return the boundary's bytes."""
        return sum([layout.nbytes for layout in self.layouts])

    @property
    def gradient_bytes(self) -> int:
        """Return the bytes of the boundary's gradient."""
        return sum([layout.nbytes for layout in self.gradient_layouts])

    @property
    def text(self) -> str:
        """Return types and shapes as errors show them."""
        return " and ".join(map(str, self.layouts)) or "no tensor"

    def build(
        self, tensors: Sequence[torch.Tensor], handed: Mapping[int, torch.Tensor], constants: Sequence[Any]
    ) -> Any:
        """Return what a unit's first layer is called with; ``handed`` holds the tensors handed on, by their numbers."""
        if self.spec.is_leaf():
            place = self.places[0]
            return tensors[place] if place >= 0 else handed[handed_number(place)]
        rest = iter(constants)
        leaves = [
            tensors[place] if place >= 0 else next(rest) if place == CONSTANT else handed[handed_number(place)]
            for place in self.places
        ]
        return tree_unflatten(leaves, self.spec)

    def take_apart(self, value: Any, who: str) -> Parts:
        """Return a value's parts; InputError where it is put together in another way. ``who`` made the value."""
        leaves, spec = tree_flatten(value)
        if spec != self.spec:
            raise InputError(
                f"{who} returns {_shown(spec)}, and it returned {_shown(self.spec)} when it was traced; it must be "
                "put together alike for every microbatch"
            )
        own: list[torch.Tensor | None] = [None] * len(self.layouts)
        handed: dict[int, torch.Tensor] = {}
        constants = []
        for leaf, place in zip(leaves, self.places, strict=True):
            if place == CONSTANT:
                constants.append(leaf)
            if isinstance(leaf, torch.Tensor) != (place != CONSTANT):
                raise InputError(
                    f"{who} returns a value of type {type(leaf).__name__} in a place in which "
                    f"{'no' if place == CONSTANT else 'a'} tensor was when it was traced; it must be the same for "
                    "every microbatch"
                )
            if place >= 0:
                if own[place] is not None and own[place] is not leaf:
                    raise InputError(
                        f"{who} returns two tensors where it returned one tensor twice when it was traced; it must be "
                        "the same for every microbatch"
                    )
                own[place] = leaf
            elif place != CONSTANT:
                handed[handed_number(place)] = leaf
        return Parts(tuple([tensor for tensor in own if tensor is not None]), handed, tuple(constants))


@dataclass(frozen=True, slots=True)
class Parts:
    """Holds what a unit returned, taken apart: the boundary's own tensors, those handed on by number, the rest."""

    own: tuple[torch.Tensor, ...]
    handed: dict[int, torch.Tensor]
    constants: tuple[Any, ...]


def _shown(spec: TreeSpec) -> str:
    """Return a structure in words."""
    if spec.is_leaf():
        return "one value"
    kind = getattr(spec.type, "__name__", str(spec.type))
    return f"{kind} of {spec.num_leaves} values"


def owned(tensors: Sequence[torch.Tensor], foreign: frozenset[int]) -> tuple[torch.Tensor, ...]:
    """Return the tensors, each dense and alone in a storage of exactly its bytes; ``foreign`` storages are others'."""
    if len(tensors) == 1:
        return (own_storage(tensors[0], foreign),)
    taken, out = set(foreign), []
    for tensor in tensors:
        out.append(own_storage(tensor, taken))
        taken.add(storage_id(out[-1]))
    return tuple(out)


def storages(tensors: Sequence[torch.Tensor]) -> frozenset[int]:
    """Return the ids of the tensors' storages."""
    return frozenset([storage_id(tensor) for tensor in tensors])


def plain_tensor(leaf: Any, who: str) -> torch.Tensor:
    """Return a tensor that can lie in a plan's memory; InputError for other kinds, and for what is no tensor."""
    if not isinstance(leaf, torch.Tensor):
        raise InputError(f"{who} returns a value of type {type(leaf).__name__}; it must return a tensor")
    kind = _odd_kind(leaf)
    if kind is not None:
        raise InputError(f"{who} returns a {kind} tensor; only dense, strided tensors can be moved and planned")
    return leaf


def _odd_kind(tensor: torch.Tensor) -> str | None:
    """Return what is odd about a tensor's memory; None for a dense one."""
    if tensor.is_nested:
        return "nested"
    if tensor.layout is not torch.strided:
        return "mkldnn" if tensor.is_mkldnn else "sparse"
    if tensor.is_quantized:
        return "quantized"
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) and not is_fake(tensor):
        return type(tensor).__name__
    return None
