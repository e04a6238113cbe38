"""Makes values of images again and puts them where they belong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from loadahead.executor.model.state.capture import Capture
from loadahead.executor.model.state.handles import Handle, Seen
from loadahead.executor.model.state.images import GONE, Fresh, Held, Image, Parked, TensorImage
from loadahead.executor.model.state.objects import MISSING, attributes_of, rebuilt, set_attribute, set_contents
from loadahead.executor.model.state.places import Slot
from loadahead.executor.model.state.tensors import overwrite


class Placing:
    """Makes values of images again.

    Args:
        now: the images of what hangs there now, whose objects are used again.
        in_place: write into tensors that live, instead of using the copies.
    """

    def __init__(self, now: Capture, in_place: bool = False) -> None:
        self._live, self._in_place = now.live(), in_place
        self._made: dict[int, Any] = {}

    def put(self, images: Iterable[tuple[Slot, Any]]) -> None:
        """Put values into their slots."""
        for slot, image in images:
            if image is not GONE:
                slot.place.set(self.value(image))

    def value(self, image: Any) -> Any:
        """Return the value of an image."""
        if not isinstance(image, Image):
            return image
        if isinstance(image, TensorImage):
            return self._tensor(image)
        if isinstance(image, Parked):
            output = image.output()
            return torch.empty(0) if output is None else output
        if isinstance(image, Fresh):
            return rebuilt(image.kind, image.keys, [self.value(item) for item in image.items])
        if id(image) in self._made:
            return self._made[id(image)]
        if isinstance(image, Held):
            return self._holder(image)
        assert isinstance(image, (Handle, Seen))
        self._made[id(image)] = image.value
        if isinstance(image, Handle):
            image.put()
        return image.value

    def _tensor(self, image: TensorImage) -> torch.Tensor:
        original = image.original()
        if image.copy is None:
            assert original is not None, "what is not copied is kept"
            return original
        if not self._in_place or original is None:
            return image.copy
        if not image.is_unchanged(original):
            overwrite(original, image.copy)
        return original

    def _holder(self, image: Held) -> Any:
        self._made[id(image)] = target = image.target(self._live)
        if image.items is not None:
            set_contents(target, image.keys, [self.value(item) for item in image.items])
        for name in set(attributes_of(target)) - set(image.attributes):
            set_attribute(target, name, MISSING)
        for name, part in image.attributes.items():
            set_attribute(target, name, self.value(part))
        return target
