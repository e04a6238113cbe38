"""Copies and swaps registered buffers quickly, where each has memory of its own: a BatchNorm's statistics."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch

from loadahead.executor.model.state.before import Before
from loadahead.executor.model.state.images import TensorImage
from loadahead.executor.model.state.objects import MISSING
from loadahead.executor.model.state.places import NameInDict, Slot
from loadahead.executor.model.state.tensors import is_strange, like
from loadahead.executor.tensors.layout import storage_id
from loadahead.executor.tensors.numbers import has_numbers


class OwnBuffers:
    """Knows the buffers of some slots; it does not keep them alive."""

    def __init__(self, buffers: Sequence[tuple[Slot, NameInDict, torch.Tensor]]) -> None:
        self._buffers = [
            (slot, place.names, place.name, weakref.ref(tensor), tensor.data_ptr()) for slot, place, tensor in buffers
        ]

    @classmethod
    def of(cls, slots: Sequence[Slot]) -> OwnBuffers | None:
        """Return the buffers of these slots; None where one holds anything else, no numbers, or shared memory."""
        buffers = []
        for slot in slots:
            place, value = slot.place, slot.place.get()
            if slot.kind != "buffer" or not isinstance(place, NameInDict) or not isinstance(value, torch.Tensor):
                return None
            if is_strange(value) or isinstance(value, torch.nn.Parameter) or not has_numbers(value):
                return None
            buffers.append((slot, place, value))
        distinct = len({storage_id(tensor) for _, _, tensor in buffers}) == len(buffers)
        return cls(buffers) if distinct else None

    def before(self) -> Before | None:
        """Return what the slots hold; None where that is no longer the same tensors in the same memory."""
        images: list[tuple[Slot, Any]] = []
        swaps = []
        for slot, names, name, known, pointer in self._buffers:
            tensor = known()
            if tensor is None or names.get(name, MISSING) is not tensor or tensor.data_ptr() != pointer:
                return None
            if tensor.requires_grad or not tensor.is_contiguous():
                return None
            image = TensorImage(tensor, strong=False)
            image.copy = copy = like(tensor, tensor.clone())
            images.append((slot, image))
            swaps.append((names, name, copy))
        return Before(images, [image for _, image in images], swaps=swaps)
