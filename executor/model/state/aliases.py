"""Finds where else tensors hang, so that a tensor that is swapped for its copy is swapped there too."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any, Final

import torch

from loadahead.executor.model.state.capture import Capture
from loadahead.executor.model.state.images import TensorImage
from loadahead.executor.model.state.objects import are_same, rebuilt
from loadahead.executor.model.state.places import Element, NameInObject, Place, Slot

# Stands for any copy.
_FOUND: Final = torch.empty(0)


def find_aliases(tensors: Iterable[torch.Tensor], slots: Sequence[Slot], swapped: Collection[object]) -> list[Place]:
    """Return where tensors hang besides, in these slots and what is in them.

    ``swapped`` holds the keys of the slots that are swapped as they are.
    """
    found = {id(tensor): _FOUND for tensor in tensors}
    capture = Capture(strong=True)
    for slot in slots:
        capture.slot(slot, alone=True)
    places = [slot.place for slot in slots if slot.key not in swapped]
    for held in capture.holders():
        if held.items is not None and not isinstance(held.kept, set):
            keys = range(len(held.items)) if held.keys is None else held.keys
            places += [Element(held.kept, key) for key in keys]
        places += [NameInObject(partial(_itself, held.kept), name) for name in held.attributes]
    return [place for place in places if _substituted(place.get(), found) is not place.get()]


def swap_aliases(places: Iterable[Place], images: Iterable[TensorImage], swapped: list[tuple[Place, Any]]) -> None:
    """Put the copies where the tensors themselves are; what was there is added to ``swapped`` at once."""
    pairs = [(image.original(), image.copy) for image in images]
    copies = {id(tensor): copy for tensor, copy in pairs if tensor is not None and copy is not None}
    for place in places:
        value = place.get()
        other = _substituted(value, copies)
        if other is not value:
            swapped.append((place, value))
            place.set(other)


def _itself(value: Any) -> Any:
    return value


def _substituted(value: Any, copies: dict[int, torch.Tensor]) -> Any:
    """Return a tensor's copy, or a tuple with such copies; the value itself where it mentions none."""
    if isinstance(value, torch.Tensor):
        return copies.get(id(value), value)
    if isinstance(value, tuple) and (type(value) is tuple or hasattr(value, "_make")):
        items = [_substituted(item, copies) for item in value]
        return value if are_same(items, value) else rebuilt(type(value), None, items)
    return value
