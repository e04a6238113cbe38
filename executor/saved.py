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

from loadahead.sim.errors import InputError


class _AllPutBack(BaseException):
    """Ends a RECOMPUTE early; no Exception, so that a layer that catches those does not catch this."""


class _Place:
    """Where one saved tensor belongs. The graph alone holds it, so that BACKWARD frees each tensor with its node."""

    __slots__ = ("__weakref__", "dtype", "shape", "tensor", "version")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape, self.dtype = tensor.shape, tensor.dtype
        self.tensor: torch.Tensor | None = None
        self.version = 0

    def fits(self, tensor: torch.Tensor) -> bool:
        return self.shape == tensor.shape and self.dtype == tensor.dtype

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.shape)}"


class SavedTensors:
    """The saved tensors of one unit and microbatch, in the order in which its layers save them.

    ``name`` is the unit's, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._places: list[weakref.ref[_Place]] = []

    def letting_go(self) -> saved_tensors_hooks:
        """Inside, what is saved is not kept: FORWARD."""
        append, reference = self._places.append, weakref.ref

        def pack(tensor: torch.Tensor) -> _Place:
            place = _Place(tensor)
            append(reference(place))
            return place

        return saved_tensors_hooks(pack, self._unpack)

    def put_back(self, run: Callable[[], Any]) -> None:
        """RECOMPUTE: run the unit again until all is there. InputError where it does something else than before."""
        places, last, count = self._places, len(self._places), 0

        def pack(tensor: torch.Tensor) -> None:
            nonlocal count
            place = places[count]()
            if place is None or not place.fits(tensor):
                raise self._differs(f"saves {_Place(tensor)} where FORWARD saved {place}")
            place.tensor, place.version = tensor.detach(), tensor._version
            count += 1
            if count == last:
                raise _AllPutBack

        if not places:
            return
        try:
            with torch.enable_grad(), saved_tensors_hooks(pack, self._unpack):
                run()
        except _AllPutBack:
            return
        raise self._differs(f"saves {count} tensors where FORWARD saved {last}")

    def _unpack(self, place: _Place) -> torch.Tensor:
        assert place.tensor is not None, "BACKWARD follows RECOMPUTE"
        # Autograd itself looks only at the versions of tensors that it keeps.
        if place.tensor._version != place.version:
            raise InputError(
                f"the model's unit {self._name} changes a {place} in place that its BACKWARD needs as it was; "
                "use operators that leave it as it is"
            )
        return place.tensor

    def _differs(self, what: str) -> InputError:
        return InputError(
            f"RECOMPUTE of the model's unit {self._name} {what}; a checkpointed unit has to do the same twice: "
            "let it depend on its input and torch's random numbers alone"
        )
