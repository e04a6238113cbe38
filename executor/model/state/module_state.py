"""Reads and writes the state of a unit's modules, and knows what of it a FORWARD changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch
from torch import nn

from loadahead.executor.model.state.aliases import find_aliases, swap_aliases
from loadahead.executor.model.state.before import Before
from loadahead.executor.model.state.capture import Capture
from loadahead.executor.model.state.comparison import Comparison
from loadahead.executor.model.state.images import GONE
from loadahead.executor.model.state.objects import MISSING, are_same, set_contents, set_name
from loadahead.executor.model.state.own_buffers import OwnBuffers
from loadahead.executor.model.state.places import NameInDict, Place, RequiresGrad, Slot
from loadahead.executor.model.state.placing import Placing
from loadahead.executor.model.state.tensors import copied_bytes, version_of
from loadahead.executor.model.state.walk import slots_of
from loadahead.executor.tensors.layout import storage_id
from loadahead.sim.errors import InputError

_NOTHING_BEFORE: Final = Before()
_NOTHING_TO_DO: Final = nullcontext()


@dataclass(frozen=True)
class Piece:
    """Describes memory that a unit's values from before take.

    Attributes:
        nbytes: its bytes.
        owners: the slots that it is of, and its storage.
        held: what these are of, so that none of them is another's while this lives.
    """

    nbytes: int
    owners: frozenset[tuple[object, ...]]
    held: tuple[object, ...] = field(repr=False)


class ModuleState:
    """Reads and writes the state of a unit's modules.

    Args:
        layers: the unit's, consecutive ones of the model.
        name: the unit's, for messages.
        first_layer: the number of the first of them in the model.
    """

    def __init__(self, layers: Sequence[nn.Module], name: str, first_layer: int = 0) -> None:
        self._layers, self._name, self._first = tuple(layers), name, first_layer
        self._watched: dict[tuple[object, ...], Slot] = {}
        # Those of them in which a FORWARD parks an output, whatever they held before the first.
        self._parked: set[tuple[object, ...]] = set()
        self._order: tuple[Slot, ...] = ()
        # The attributes of the modules with watched slots, by name.
        self._namespaces: list[dict[str, Any]] = []
        # Where tensors of watched slots hang besides.
        self._aliases: list[Place] = []
        # What is watched, where there is a quick way to copy it.
        self._own_buffers: OwnBuffers | None = None
        # Registered buffers and parameters that are not watched.
        self._cheap: list[Slot] | None = None
        # Where these hang, if all do in dictionaries.
        self._cheap_names: list[tuple[dict[str, Any], str]] = []

    def everything(self, trained: bool = True) -> Before:
        """Return the values of all there is; slow, and it keeps alive what it finds.

        Without ``trained``, a parameter that requires a gradient is known by what was written to it alone.
        """
        self._cheap = None  # modules may have come
        capture = Capture(strong=True, trained=trained)
        images = [(slot, capture.slot(slot, alone=True)) for slot in slots_of(self._layers, self._first)]
        return Before(images, capture.copied(), complete=True)

    def changed_since(self, before: Before, written: bool = False) -> tuple[Slot, ...]:
        """Return the slots whose values differ from these, bit for bit, each change once.

        With ``written``, tensors count too into which was written what they held.
        Attributes that came, went or hold another object count. ``before`` must not have been used by :meth:`at`.
        """
        comparison = Comparison(written)
        changed: dict[tuple[object, ...], Slot] = {}
        for slot, image in before.images:
            cause = comparison.difference(image, slot.place.get())
            if cause is not None:
                changed[slot.key] = replace(slot, restorable=not cause, cause=cause)
        changed.update((slot.key, slot) for slot in self._slots_beside(before))
        # Where an object was replaced, what hangs on it goes without saying.
        return tuple(
            slot for key, slot in changed.items() if not any(key[:length] in changed for length in range(2, len(key)))
        )

    def cheap_marks(self) -> tuple[object, ...]:
        """Return marks by which :meth:`changed_marks` knows a change of a registered tensor that is not watched.

        Unlike :meth:`everything` this is cheap enough for every FORWARD, and keeps nothing alive. A few kernels write
        unseen; of BatchNorm's buffers the count of batches shows, its mean and variance do not.
        """
        slots = self._unwatched()
        try:
            tensors = [names[name] for names, name in self._cheap_names]
            return tuple([(id(t), 0 if t is None else t._version) for t in tensors])
        except (AttributeError, KeyError, RuntimeError, ValueError):  # what has no version, or is gone
            return tuple(map(_mark, slots))

    def changed_marks(self, marks: Sequence[object]) -> tuple[Slot, ...]:
        """Return the registered buffers and parameters, of those not watched, that are others or were written since.

        ``marks`` are of :meth:`cheap_marks`; of the other methods, only those that use watched slots may come between.
        """
        if marks == self.cheap_marks():
            return ()
        pairs = zip(self._cheap or (), marks, strict=True)
        changed = tuple(slot for slot, mark in pairs if _mark(slot) != mark)
        if not changed:
            return ()
        # A tensor that hangs in several slots is watched in one of them.
        watched = [value for slot in self._order if isinstance(value := slot.place.get(), torch.Tensor)]
        return tuple(slot for slot in changed if not any(slot.place.get() is tensor for tensor in watched))

    def watch(self, slots: Iterable[Slot]) -> None:
        """Remember that a FORWARD, which has just run, changes these slots, besides those of earlier calls.

        Raises InputError, and remembers none, where one of them cannot be put back.
        """
        slots = tuple(slots)
        for slot in slots:
            if not slot.restorable:
                raise self.refusal(slot)
        if not slots:
            return
        self._watched.update((slot.key, slot) for slot in slots)
        self._parked.update(slot.key for slot in slots if _is_parked(slot))
        # An object comes before what hangs on it.
        self._order = tuple(sorted(self._watched.values(), key=lambda slot: len(slot.key)))
        self._cheap = None
        self._aliases = find_aliases(
            self._capture_watched(strong=True)[0].tensors(), list(slots_of(self._layers, self._first)), self._watched
        )
        self._own_buffers = OwnBuffers.of(self._order)
        self._namespaces = [
            module.__dict__ for module in {id(slot.module): slot.module for slot in self._order}.values()
        ]

    def held(self) -> list[torch.Tensor]:
        """Return the tensors that modules hold, registered or not, without outputs that are parked there."""
        capture = Capture()
        for slot in slots_of(self._layers, self._first):
            capture.slot(slot)
        return capture.tensors()

    def refusal(self, slot: Slot) -> InputError:
        """Return the error for a slot whose change cannot be put back."""
        return InputError(
            f"the model's unit {self._name} changes {slot.path} in FORWARD: {slot.cause}; RECOMPUTE runs FORWARD again "
            "and has to leave no trace: keep such state in buffers, numbers or containers, or switch checkpointing off"
        )

    @property
    def watched(self) -> tuple[Slot, ...]:
        """Return the slots that a FORWARD is known to change."""
        return self._order

    @property
    def needs_own_graph(self) -> bool:
        """Return whether RECOMPUTE must not make a graph for BACKWARD.

        A weight that FORWARD changes is another tensor then, which would get the gradient; and an output that FORWARD
        parks on a module is known by its graph.
        """
        weights = (slot.kind == "parameter" or isinstance(slot.place, RequiresGrad) for slot in self._order)
        return bool(self._parked) or any(weights)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the tensors that :meth:`before` copies, as they are now."""
        return copied_bytes(self._capture_watched()[0].tensors())

    def pieces(self) -> list[Piece]:
        """Return what :attr:`nbytes` counts, by the storages of the tensors.

        Two units' pieces that have an owner in common are one in a unit of the layers of both.
        """
        capture = Capture(kept=self._unchanged_ids)
        owned: dict[int, list[tuple[torch.Tensor, Slot]]] = {}
        for slot in self._order:
            if slot.key not in self._parked:
                known = len(capture.tensors())
                capture.slot(slot)
                for tensor in capture.tensors()[known:]:
                    owned.setdefault(storage_id(tensor), []).append((tensor, slot))
        return [
            Piece(
                nbytes=copied_bytes([tensor for tensor, _ in group]),
                owners=frozenset({("storage", storage)}.union(*(slot.identities() for _, slot in group))),
                held=tuple((tensor, slot.place.get()) for tensor, slot in group),
            )
            for storage, group in owned.items()
        ]

    def before(self) -> Before:
        """Return the values of the watched slots.

        Tensors are copied with their strides, each into a storage of exactly its bytes. Those that share memory go on
        to share it; they, and one with gaps, take the bytes from their first to their last element.
        """
        if not self._order:
            return _NOTHING_BEFORE
        quick = None if self._own_buffers is None else self._own_buffers.before()
        if quick is not None:
            return quick
        capture, images = self._capture_watched()
        return Before(images, capture.copied(), capture.objects())

    def at(self, before: Before) -> AbstractContextManager[None]:
        """Let the slots hold these values inside the context; after it all is as it was, whatever happened inside.

        Tensors are swapped for the copies and back, never written. An output parked on a module stays there: it is not
        kept, as FORWARD sets it anew.
        """
        if not before.images:
            return _NOTHING_TO_DO
        return self._swapping(before) if before.swaps and not self._aliases else self._holding(before)

    def put_back(self, before: Before) -> None:
        """Give the slots these values for good, living tensors in place. So it undoes a run whose graph is dropped.

        If ``before`` is of :meth:`everything`, what came since goes. What cannot be put back stays.
        """
        images = self._wanted(before)
        now = Capture(strong=True)
        for slot, _ in images:
            now.slot(slot)
        Placing(now, in_place=True).put(images)

    @contextmanager
    def _holding(self, before: Before) -> Iterator[None]:
        images, now = self._wanted(before), Capture(strong=True)
        entry = [(slot, now.slot(slot)) for slot, _ in images]
        others = [now.value(value) for value in before.objects]
        namespaces = self._attributes()
        moved: list[tuple[Place, Any]] = []
        try:
            Placing(now).put(images)
            swap_aliases(self._aliases, before.tensors, moved)
            yield
        finally:
            for place, value in reversed(moved):
                place.set(value)
            _give_back(namespaces)
            back = Placing(now)
            back.put(entry)
            for image in others:
                back.value(image)

    @contextmanager
    def _swapping(self, before: Before) -> Iterator[None]:
        """Do as :meth:`_holding` does, where the slots hold nothing but tensors in dictionaries."""
        entry = [(names, name, names.get(name, MISSING)) for names, name, _ in before.swaps]
        namespaces = self._attributes()
        try:
            for names, name, copy in before.swaps:
                names[name] = copy
            yield
        finally:
            _give_back(namespaces)
            for names, name, value in entry:
                set_name(names, name, value)

    def _attributes(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the namespaces of the watched modules, with copies.

        A module may notice that a tensor is another and keep other things for it, as an LSTM does.
        """
        return [(names, names.copy()) for names in self._namespaces]

    def _wanted(self, before: Before) -> Sequence[tuple[Slot, Any]]:
        """Return what the slots shall hold; what came since all was captured shall not be there."""
        return [*before.images, *((slot, MISSING) for slot in self._slots_beside(before))]

    def _slots_beside(self, before: Before) -> list[Slot]:
        """Return the slots that came since all was captured."""
        if not before.complete:
            return []
        known = {slot.key for slot, _ in before.images}
        return [slot for slot in slots_of(self._layers, self._first) if slot.key not in known]

    def _capture_watched(self, strong: bool = False) -> tuple[Capture, list[tuple[Slot, Any]]]:
        capture = Capture(strong, self._unchanged_ids)
        return capture, [(s, GONE if s.key in self._parked and not strong else capture.slot(s)) for s in self._order]

    def _unwatched(self) -> list[Slot]:
        """Return the registered slots that are not watched."""
        if self._cheap is None:
            unwatched = (slot for slot in slots_of(self._layers, self._first) if slot.key not in self._watched)
            self._cheap = [slot for slot in unwatched if slot.registered]
            places = [slot.place for slot in self._cheap]
            in_dictionaries = [(p.names, p.name) for p in places if isinstance(p, NameInDict)]
            self._cheap_names = in_dictionaries if len(in_dictionaries) == len(places) else [({}, "")]
        return self._cheap

    def _unchanged_ids(self) -> set[int]:
        """Return the ids of the registered tensors that no FORWARD changes."""
        watched = {id(slot.place.get()) for slot in self._order}
        return {id(slot.place.get()) for slot in self._unwatched()} - watched


def _give_back(namespaces: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for names, attributes in namespaces:
        if not are_same(names.values(), attributes.values()) or not are_same(names, attributes):
            set_contents(names, list(attributes), list(attributes.values()))


def _is_parked(slot: Slot) -> bool:
    value = slot.place.get()
    return isinstance(value, torch.Tensor) and value.grad_fn is not None and not slot.registered


def _mark(slot: Slot) -> tuple[int, int]:
    value = slot.place.get()
    return id(value), version_of(value) if isinstance(value, torch.Tensor) else 0
