"""Tells whether two layers run the same operators on tensors of the same shapes that share memory alike.

What a layer's graph keeps and what it has to do follow from that: where a model has no numbers, one of them is enough
to be looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from loadahead.executor.tensors.meter import storages_of


class OperatorLog(TorchDispatchMode):
    """Notes every operator while it is active: its operands' shapes and memory, and its other arguments.

    Memory goes by the order in which it is first seen, so that the same operators on other tensors read the same.

    Args:
        whole: keep all memory until it is taken. Tensors that are made unseen could lie where others were, otherwise.
    """

    def __init__(self, whole: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._whole = whole
        self._kept: list[torch.UntypedStorage] = []
        self._noted: list[Hashable] = []
        self._memory: dict[int, int] = {}
        self._count = 0

    def take(self) -> tuple[Hashable, ...]:
        """Return what was noted, and begin anew."""
        noted = tuple(self._noted)
        self._noted, self._memory, self._count, self._kept = [], {}, 0, []
        return noted

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace == "prim":  # it asks what a tensor is, as Python code that looks on does
            return func(*args, **(kwargs or {}))
        given, spec = tree_flatten((args, kwargs))
        known = {storage._cdata for leaf in given if isinstance(leaf, torch.Tensor) for storage in storages_of(leaf)}
        self._noted.append((func, str(spec), tuple([self._described(leaf, None) for leaf in given])))
        out = func(*args, **(kwargs or {}))
        made, spec = tree_flatten(out)
        self._noted.append((str(spec), tuple([self._described(leaf, known) for leaf in made])))
        return out

    def _described(self, leaf: Any, old: Collection[int] | None) -> Hashable:
        """Return what is noted of a leaf; ``old`` is memory that an operator was given, None for what it is given."""
        if not isinstance(leaf, torch.Tensor):
            return type(leaf), repr(leaf)
        numbers = []
        for storage in storages_of(leaf):
            key = storage._cdata
            # Memory that an operator gives may lie where other memory was.
            if key not in self._memory or (old is not None and key not in old):
                self._memory[key] = self._count
                self._count += 1
                if self._whole:
                    self._kept.append(storage)
            numbers.append(self._memory[key])
        offset = leaf.storage_offset() if leaf.layout is torch.strided else 0
        strides = leaf.stride() if leaf.layout is torch.strided else ()
        return tuple(numbers), tuple(leaf.shape), strides, offset, leaf.dtype, leaf.device, leaf.requires_grad
