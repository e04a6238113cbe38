"""Copies tensors with their strides and the memory that they share, and compares and writes them bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from loadahead.executor.tensors.layout import is_dense
from loadahead.executor.tensors.numbers import has_numbers, is_fake


def is_strange(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is of a kind that is not copied: lazy, sparse, quantized, nested or a user's."""
    return (
        (type(tensor) not in (torch.Tensor, nn.Parameter) and not is_fake(tensor))
        or tensor.layout is not torch.strided
        or tensor.is_quantized
        or tensor.is_nested
        or tensor.is_conj()
        or tensor.is_neg()
    )


def version_of(tensor: torch.Tensor) -> int:
    """Return how often a tensor was written to; tensors of the inference mode and lazy ones do not count."""
    try:
        return tensor._version
    except (RuntimeError, ValueError):
        return 0


def has_same_bits(tensor: torch.Tensor, copy: torch.Tensor) -> bool | None:
    """Return whether a tensor has a copy's type, shape and bits; None where nobody can read its bits."""
    if tensor.dtype != copy.dtype or tensor.shape != copy.shape or tensor.device != copy.device:
        return False
    if not has_numbers(tensor):
        return None
    with torch.no_grad():
        try:
            return torch.equal(_raw(tensor), _raw(copy))
        except (RuntimeError, NotImplementedError):  # types of less than a byte
            return None


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def overwrite(tensor: torch.Tensor, copy: torch.Tensor) -> None:
    """Give a tensor the copy's bits."""
    with torch.inference_mode() if tensor.is_inference() else torch.no_grad():
        if tensor.shape == copy.shape and tensor.dtype == copy.dtype and is_dense(tensor):
            tensor.copy_(copy)
        else:
            tensor.data = copy.detach()


def copies_of(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return copies with the tensors' strides, each in a storage of exactly its bytes.

    Those that share memory go on to share it; they, and one with gaps, take the bytes from their first to their last
    element.
    """
    out: dict[int, torch.Tensor] = {}
    with torch.no_grad():
        for group in _by_storage(tensors):
            out.update(zip(map(id, group), _copied(group), strict=True))
    return [out[id(tensor)] for tensor in tensors]


def copied_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the bytes that :func:`copies_of` these tensors takes."""
    return sum(_span(group)[1] for group in _by_storage(tensors))


def like(tensor: torch.Tensor, copy: torch.Tensor) -> torch.Tensor:
    """Return a copy that layers take for the tensor itself."""
    if isinstance(tensor, nn.Parameter):
        copy = nn.Parameter(copy, requires_grad=tensor.requires_grad)
    elif tensor.requires_grad:
        copy.requires_grad_()
    if tensor.__dict__:
        copy.__dict__.update(tensor.__dict__)
    return copy


def _by_storage(tensors: Iterable[torch.Tensor]) -> Iterable[list[torch.Tensor]]:
    out: dict[int, list[torch.Tensor]] = {}
    for tensor in tensors:
        out.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
    return out.values()


def _copied(group: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return copies of tensors that share a storage, which share one too."""
    first = group[0]
    if _is_alone(group):
        return [like(first, first.detach().clone())]
    low, nbytes = _span(group)
    whole = torch.empty(0, dtype=torch.uint8, device=first.device).set_(first.untyped_storage())
    storage = whole[low : low + nbytes].clone().untyped_storage()
    out = []
    for tensor in group:
        offset = max(0, tensor.storage_offset() * tensor.element_size() - low) // tensor.element_size()
        copy = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        copy.set_(storage, offset, tensor.size(), tensor.stride())
        out.append(like(tensor, copy))
    return out


def _is_alone(group: list[torch.Tensor]) -> bool:
    """Return whether there is one tensor without gaps, of which a clone is an exact copy."""
    return len(group) == 1 and (group[0].is_contiguous() or is_dense(group[0]))


def _span(group: list[torch.Tensor]) -> tuple[int, int]:
    """Return where in their storage the memory of tensors begins, and its bytes."""
    if _is_alone(group):
        return int(group[0].storage_offset()) * group[0].element_size(), group[0].numel() * group[0].element_size()
    filled = [tensor for tensor in group if tensor.numel()] or group[:1]
    # Every type's elements have to begin at a multiple of their size.
    largest = max(tensor.element_size() for tensor in group)
    low = min(int(tensor.storage_offset()) * tensor.element_size() for tensor in filled) // largest * largest
    return low, max(map(_end, filled)) - low


def _end(tensor: torch.Tensor) -> int:
    """Return the byte in its storage after a tensor's last element."""
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return int(tensor.storage_offset() + reach + 1) * tensor.element_size() if tensor.numel() else 0
