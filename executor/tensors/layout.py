"""Describes how a tensor lies in memory, and makes tensors that lie alone in a storage of exactly their bytes.

A plan counts a boundary as its bytes. A view of a larger storage would keep that storage alive, and an alias of another
tensor could not be freed by itself; :func:`own_storage` mends both, by copying.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Layout:
    """Holds shape, strides and type of a dense tensor: one that fills its storage without gaps or overlaps."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Layout:
        """Return the tensor's layout."""
        return cls(tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)

    @classmethod
    def of_bytes(cls, nbytes: int) -> Layout:
        """Return the layout of a block of so many bytes."""
        return cls((nbytes,), (1,), torch.uint8)

    @property
    def nbytes(self) -> int:
        """Return the bytes of a tensor of this layout."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()

    def empty(self, device: torch.device) -> torch.Tensor:
        """Return uninitialised memory of this layout."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=device)

    def ones(self, device: torch.device) -> torch.Tensor:
        """Return memory of this layout, filled with ones."""
        return self.empty(device).fill_(1)

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.shape)}"


def is_dense(tensor: torch.Tensor) -> bool:
    """Return whether the elements fill one block of memory without gaps or overlaps, in any order of dimensions."""
    if tensor.is_conj() or tensor.is_neg():
        return False  # its memory holds other numbers
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted((st, sz) for sz, st in zip(tensor.shape, tensor.stride(), strict=True) if sz != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def dense_layout(tensor: torch.Tensor) -> Layout:
    """Return the layout that :func:`own_storage` gives the tensor, or its copy."""
    layout = Layout.of(tensor)
    return layout if is_dense(tensor) else Layout(layout.shape, _contiguous(layout.shape), layout.dtype)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def storage_id(tensor: torch.Tensor) -> int:
    """Return a number that is equal for tensors that share memory."""
    return int(tensor.untyped_storage()._cdata)


def own_storage(tensor: torch.Tensor, foreign: Collection[int] = ()) -> torch.Tensor:
    """Return the tensor itself if it is dense and alone in a storage of exactly its bytes, else a copy that is.

    ``foreign`` holds :func:`storage_id` of memory that belongs to something else. The copy keeps the strides of a
    dense tensor, so that kernels further on see what they would have seen; others become contiguous.
    """
    tensor = tensor.resolve_conj().resolve_neg()
    dense = is_dense(tensor)
    exact = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    if dense and exact and storage_id(tensor) not in foreign:
        return tensor
    return tensor.clone(memory_format=torch.preserve_format if dense else torch.contiguous_format)


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Return a dense tensor's memory as a flat uint8 view, shape (bytes,)."""
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)
