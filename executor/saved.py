"""What a unit's graph saves for BACKWARD: let go at FORWARD, and put back at RECOMPUTE, which stops at the last of it.

So RECOMPUTE skips what a unit computes after the last tensor that BACKWARD needs - a transformer block's last matmul -
and BACKWARD runs on the graph that FORWARD made. torch's own checkpoint works so (``use_reentrant=False``).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

from executor.layout import Layout
from sim.errors import InputError


class _AllPutBack(BaseException):
    """Ends a RECOMPUTE early; no Exception, so that a layer that catches those does not catch this."""


class _Place:
    """Where one saved tensor belongs. The graph alone holds it, so that BACKWARD frees each tensor with its node."""

    __slots__ = ("__weakref__", "layout", "tensor")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.tensor: torch.Tensor | None = None


class SavedTensors:
    """The saved tensors of one unit and microbatch, in the order in which its layers save them.

    ``name`` is the unit's, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._places: list[weakref.ref[_Place]] = []

    def letting_go(self) -> saved_tensors_hooks:
        """Inside, what is saved is not kept: FORWARD."""

        def pack(tensor: torch.Tensor) -> _Place:
            place = _Place(Layout.of(tensor))
            self._places.append(weakref.ref(place))
            return place

        return saved_tensors_hooks(pack, self._unpack)

    def put_back(self, run: Callable[[], Any]) -> None:
        """RECOMPUTE: run the unit again until all is there. InputError where it does something else than before."""
        count = 0

        def pack(tensor: torch.Tensor) -> None:
            nonlocal count
            place = self._places[count]() if count < len(self._places) else None
            if place is None or place.layout != Layout.of(tensor):
                raise self._differs(f"saves {Layout.of(tensor)} where FORWARD saved {place and place.layout}")
            place.tensor = tensor.detach()
            count += 1
            if count == len(self._places):
                raise _AllPutBack

        if not self._places:
            return
        try:
            with torch.enable_grad(), saved_tensors_hooks(pack, self._unpack):
                run()
        except _AllPutBack:
            return
        raise self._differs(f"saves {count} tensors where FORWARD saved {len(self._places)}")

    def _unpack(self, place: _Place) -> torch.Tensor:
        assert place.tensor is not None, "BACKWARD follows RECOMPUTE"
        return place.tensor

    def _differs(self, what: str) -> InputError:
        return InputError(
            f"RECOMPUTE of the model's unit {self._name} {what}; a checkpointed unit has to do the same twice: "
            "let it depend on its input and torch's random numbers alone"
        )
