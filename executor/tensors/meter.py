"""Measures a rank's device memory from the storages of its live tensors, not from the plan.

On the CPU "device memory" is what the rank's compute thread allocates. A dispatch mode sees every tensor that an
operator returns; a finalizer on the tensor's storage sees it go. Scratch memory that a kernel takes and gives back
inside itself is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from loadahead.sim.errors import InternalError


class StorageMeter(TorchDispatchMode):
    """Counts the bytes of live storages while it is active on a thread.

    ``live`` and ``peak`` start at ``resident``, the bytes that were there before. ``ignored`` tensors outlive the meter
    and do not count.
    """

    blocks: tuple[int, int] | None = None
    reserved: int | None = None

    def __init__(self, resident: Iterable[torch.Tensor] = (), ignored: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen: set[int] = {storage._cdata for tensor in ignored for storage in storages_of(tensor)}
        self.live = self.peak = 0
        for tensor in resident:
            self._add(tensor)
        self.peak = self.resident = self.live

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        try:
            for leaf in tree_leaves(out):
                if isinstance(leaf, torch.Tensor):
                    self._add(leaf)
        except Exception as error:
            raise InternalError(f"metering what {func} returns fails: {type(error).__name__}: {error}") from error
        return out

    def start_operation(self) -> None:
        """Begin a new peak at what is live now."""
        self.peak = self.live

    def _add(self, tensor: torch.Tensor) -> None:
        for storage in storages_of(tensor):
            key = storage._cdata
            if key in self._seen:
                continue
            self._seen.add(key)
            nbytes = storage.nbytes()
            self.live += nbytes
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._drop, key, nbytes).atexit = False

    def _drop(self, key: int, nbytes: int) -> None:
        self._seen.discard(key)
        self.live -= nbytes


def storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the bytes of the tensors' distinct storages."""
    return sum({storage._cdata: storage.nbytes() for t in tensors for storage in storages_of(t)}.values())


def storages_of(tensor: torch.Tensor) -> list[torch.UntypedStorage]:
    """Return the memory that a tensor lies in: of a sparse one, that of its indices and values.

    Where a kind of tensor does not tell its memory, there is none.
    """
    if tensor.layout is torch.strided:
        try:
            return [tensor.untyped_storage()]
        except (NotImplementedError, RuntimeError):
            return []
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices().untyped_storage(), tensor._values().untyped_storage()]
    return []
