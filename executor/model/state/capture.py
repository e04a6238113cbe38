"""Makes images of what slots hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import torch

from loadahead.executor.model.state.handles import Handle, handle_of
from loadahead.executor.model.state.images import GONE, Fresh, Held, Image, Parked, TensorImage, is_output
from loadahead.executor.model.state.objects import CONTAINERS, PLAIN, attributes_of, contents_of, is_object
from loadahead.executor.model.state.places import NameInScript, Slot
from loadahead.executor.model.state.tensors import copies_of, is_strange

# How deep containers in containers are followed.
_MOST_NESTED: Final = 20


class Capture:
    """Makes images of values; a value that hangs in several places has one image.

    Args:
        strong: keep what is captured alive.
        kept: ids of tensors that are taken as they are where they hang in a container: registered ones that no FORWARD
            changes.
        trained: copy parameters that require a gradient, too.
    """

    def __init__(self, strong: bool = False, kept: Callable[[], set[int]] = set, trained: bool = True) -> None:
        self._trained = trained
        self._to_copy: list[tuple[TensorImage, torch.Tensor]] = []
        self._strong, self._find_kept = strong, kept
        self._kept: set[int] | None = None
        self._nodes: dict[int, Image] = {}

    def slot(self, slot: Slot, alone: bool = False) -> Any:
        """Return the image of what a slot holds.

        ``alone`` says that the attributes of a plain object there have slots of their own.
        """
        value = slot.place.get()
        if isinstance(value, torch.Tensor):
            return self._tensor(value, outermost=True, registered=slot.registered)
        if alone and is_object(value):
            return value
        image = self._by_value(value) if isinstance(slot.place, NameInScript) else self.value(value)
        return GONE if not self._strong and is_output(image) else image

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return the image of a value."""
        if type(value) in PLAIN or depth > _MOST_NESTED:
            return value
        node = self._nodes.get(id(value))
        if node is not None:
            return node
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, tuple):
            return self._tuple(value, depth)
        if isinstance(value, CONTAINERS) or is_object(value):
            return self._holder(value, depth)
        node = handle_of(value)
        if node is None:
            return value
        self._nodes[id(value)] = node
        return node

    def tensors(self) -> list[torch.Tensor]:
        """Return the tensors whose bits count."""
        return [tensor for _, tensor in self._to_copy]

    def copied(self) -> list[TensorImage]:
        """Copy these tensors into their images, and return the images."""
        for (node, _), copy in zip(self._to_copy, copies_of(self.tensors()), strict=True):
            node.copy = copy
        return [node for node, _ in self._to_copy]

    def live(self) -> dict[int, Any]:
        """Return the captured objects that hold others, by id."""
        return {at: node.kept for at, node in self._nodes.items() if isinstance(node, Held)}

    def objects(self) -> list[Any]:
        """Return the captured objects that are put back in place wherever they hang."""
        handles = [node.value for node in self._nodes.values() if isinstance(node, Handle)]
        return handles + [kept for kept in self.live().values() if kept is not None]

    def holders(self) -> Iterator[Held]:
        """Yield the images of the objects that hold others."""
        return (node for node in self._nodes.values() if isinstance(node, Held))

    def _by_value(self, value: Any) -> Any:
        if isinstance(value, list):
            return Fresh(list, None, [self._by_value(item) for item in value])
        if isinstance(value, dict):
            return Fresh(dict, list(value), [self._by_value(item) for item in value.values()])
        return self.value(value)

    def _tuple(self, value: tuple[Any, ...], depth: int) -> Any:
        if type(value) is not tuple and not hasattr(value, "_make"):
            return value
        items = [self.value(item, depth + 1) for item in value]
        return Fresh(type(value), None, items) if any(isinstance(item, Image) for item in items) else value

    def _holder(self, value: Any, depth: int) -> Held:
        self._nodes[id(value)] = node = Held(value, self._strong)
        if isinstance(value, CONTAINERS):
            node.keys, items = contents_of(value)
            node.items = [self.value(item, depth + 1) for item in items]
        node.attributes = {name: self.value(item, depth + 1) for name, item in attributes_of(value).items()}
        return node

    def _tensor(self, tensor: torch.Tensor, outermost: bool = False, registered: bool = False) -> Any:
        node = self._nodes.get(id(tensor))
        if node is not None:
            return node
        is_output = tensor.grad_fn is not None and not registered
        if is_output and not self._strong:
            return GONE if outermost else Parked(tensor)
        strange = is_strange(tensor)
        weight = not self._trained and registered and tensor.requires_grad
        as_it_is = weight or is_output or strange or not (outermost or id(tensor) not in self._taken_as_they_are())
        self._nodes[id(tensor)] = node = TensorImage(tensor, self._strong or as_it_is, strange)
        if not as_it_is:
            self._to_copy.append((node, tensor))
        return node

    def _taken_as_they_are(self) -> set[int]:
        if self._kept is None:
            self._kept = self._find_kept()
        return self._kept
