"""Lets go of what a unit's graph saves for BACKWARD at FORWARD, and restores it at RECOMPUTE.

RECOMPUTE stops at the last of these tensors. So it skips what a unit computes after the last tensor that BACKWARD
needs, such as a transformer block's last matmul, and BACKWARD runs on the graph that FORWARD made. torch's own
checkpoint works so (``use_reentrant=False``).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

from loadahead.sim.errors import InputError


class _AllRestored(BaseException):
    """Ends a RECOMPUTE early; it is no Exception, so that a layer that catches those does not catch it."""


class _SavedTensor:
    """Stands for one saved tensor. The graph alone holds it, so that BACKWARD frees each tensor with its node."""

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
    """Holds the saved tensors of one unit and microbatch, in the order in which its layers save them.

    ``name`` is the unit's, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._saved: list[weakref.ref[_SavedTensor]] = []

    def discarding(self) -> saved_tensors_hooks:
        """Return hooks for FORWARD: inside them, what the graph saves is not kept."""
        append, reference = self._saved.append, weakref.ref

        def pack(tensor: torch.Tensor) -> _SavedTensor:
            saved_tensor = _SavedTensor(tensor)
            append(reference(saved_tensor))
            return saved_tensor

        return saved_tensors_hooks(pack, self._unpack)

    def restore(self, run: Callable[[], Any]) -> None:
        """Run the unit again until all is restored; InputError where it does something else than before."""
        saved, last, count = self._saved, len(self._saved), 0

        def pack(tensor: torch.Tensor) -> None:
            nonlocal count
            saved_tensor = saved[count]()
            if saved_tensor is None or not saved_tensor.fits(tensor):
                raise self._differs(f"saves {_SavedTensor(tensor)} where FORWARD saved {saved_tensor}")
            saved_tensor.tensor, saved_tensor.version = tensor.detach(), tensor._version
            count += 1
            if count == last:
                raise _AllRestored

        if not saved:
            return
        try:
            with torch.enable_grad(), saved_tensors_hooks(pack, self._unpack):
                run()
        except _AllRestored:
            return
        raise self._differs(f"saves {count} tensors where FORWARD saved {last}")

    def _unpack(self, saved_tensor: _SavedTensor) -> torch.Tensor:
        assert saved_tensor.tensor is not None, "BACKWARD follows RECOMPUTE"
        # Autograd itself looks only at the versions of tensors that it keeps.
        if saved_tensor.tensor._version != saved_tensor.version:
            raise InputError(
                f"the model's unit {self._name} changes a {saved_tensor} in place that its BACKWARD needs as it was; "
                "use operators that leave it as it is"
            )
        return saved_tensor.tensor

    def _differs(self, what: str) -> InputError:
        return InputError(
            f"RECOMPUTE of the model's unit {self._name} {what}; a checkpointed unit has to do the same twice: "
            "let it depend on its input and torch's random numbers alone"
        )
