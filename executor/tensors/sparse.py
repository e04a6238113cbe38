"""Weights whose gradients are sparse tensors, as many rows as microbatches use; and gradients kept apart."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import nn

from loadahead.executor.tensors.layout import storage_id


def sparse_weights(layers: Iterable[nn.Module]) -> dict[int, nn.Parameter]:
    """Return the weights of layers that say ``sparse=True``, as embeddings do, by id."""
    parts = [part for layer in layers for part in layer.modules() if getattr(part, "sparse", False) is True]
    return {id(parameter): parameter for part in parts for parameter in part.parameters(recurse=False)}


def without_rows(weight: torch.Tensor) -> torch.Tensor:
    """Return a sparse gradient of a weight that has no row; where a weight has no numbers it needs none."""
    indices = torch.empty((1, 0), dtype=torch.int64, device=weight.device)
    values = weight.new_empty((0, *weight.shape[1:]))
    return torch.sparse_coo_tensor(indices, values, weight.shape, check_invariants=False)


def keep_apart(weights: Iterable[nn.Parameter], foreign: Collection[int]) -> None:
    """Copy gradients that lie in memory of something else: ids that were looked up, a gradient that is handed on.

    ``foreign`` holds ids of storages. Autograd takes a first gradient as it comes, and adds the next ones to it.
    """
    for weight in weights:
        gradient = weight.grad
        if gradient is None:
            continue
        if gradient.layout is torch.strided and storage_id(gradient) in foreign:
            weight.grad = gradient.clone()
        if gradient.layout is not torch.sparse_coo:
            continue
        parts = gradient._indices(), gradient._values()
        if any(storage_id(part) in foreign for part in parts):
            indices, values = (part.clone() for part in parts)
            weight.grad = torch.sparse_coo_tensor(
                indices, values, gradient.shape, is_coalesced=gradient.is_coalesced(), check_invariants=False
            )
