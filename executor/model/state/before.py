"""Holds the values that slots had at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from loadahead.executor.model.state.images import TensorImage
from loadahead.executor.model.state.objects import MISSING
from loadahead.executor.model.state.places import Slot


class Before:
    """Holds the values of some slots at one moment. A run on them may change what this holds: it is used once.

    Args:
        images: of what each slot held.
        tensors: the images in there, of tensors, that hold copies.
        objects: what is put back in place, too: it may hang nowhere when these values are used.
        complete: whether these are all slots that there were.
        swaps: where each copy belongs, if every slot is a buffer that :class:`OwnBuffers` knows.
    """

    __slots__ = ("complete", "images", "objects", "swaps", "tensors")

    def __init__(
        self,
        images: Sequence[tuple[Slot, Any]] = (),
        tensors: Sequence[TensorImage] = (),
        objects: Sequence[Any] = (),
        complete: bool = False,
        swaps: Sequence[tuple[dict[str, Any], str, torch.Tensor]] = (),
    ) -> None:
        self.images, self.tensors, self.objects, self.complete, self.swaps = images, tensors, objects, complete, swaps

    @property
    def nbytes(self) -> int:
        """Return the bytes of the distinct storages of the copies of tensors in here."""
        storages = [image.copy.untyped_storage() for image in self.tensors if image.copy is not None]
        return sum({storage._cdata: storage.nbytes() for storage in storages}.values())

    def narrowed(self, slots: Sequence[Slot]) -> Before:
        """Return the values of these slots alone, to be put back; those that were not there are missing in it.

        What the other slots held, copies of all weights above all, can go then.
        """
        images = {slot.key: image for slot, image in self.images}
        return Before([(slot, images.get(slot.key, MISSING)) for slot in slots])
