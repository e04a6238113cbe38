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

from loadahead.executor.tensors.digests import digest
from loadahead.sim.errors import InputError


class _AllRestored(BaseException):
    """Ends a RECOMPUTE early; it is no Exception, so that a layer that catches those does not catch it."""


class UsedInForward(InputError):
    """Says that a unit's FORWARD itself uses a tensor that its graph saved, to compute a gradient."""


class _SavedTensor:
    """Stands for one saved tensor. The graph alone holds it, so that BACKWARD frees each tensor with its node."""

    __slots__ = ("__weakref__", "digest", "dtype", "shape", "tensor", "version")

    def __init__(self, tensor: torch.Tensor) -> None:
        # A nested tensor's shape cannot be told.
        self.shape = None if tensor.is_nested else tensor.shape
        self.dtype = tensor.dtype
        self.tensor: torch.Tensor | None = None
        self.version = 0
        self.digest: int | None = None

    def fits(self, tensor: torch.Tensor) -> bool:
        return self.shape == (None if tensor.is_nested else tensor.shape) and self.dtype == tensor.dtype

    def hold(self, tensor: torch.Tensor) -> None:
        self.tensor, self.version = tensor.detach(), tensor._version

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{'[nested]' if self.shape is None else list(self.shape)}"


def _digest(tensor: torch.Tensor) -> int | None:
    try:
        return digest(tensor)
    except Exception:  # a kind of tensor that nobody thought of must not look like the model's failure
        return None


class SavedTensors:
    """Holds the saved tensors of one unit and microbatch, in the order in which its layers save them.

    Attributes:
        used: whether a saved tensor was used, by BACKWARD or by FORWARD itself.
        difference: where RECOMPUTE saved other numbers than FORWARD, in words; None where it did not, or where that
            was not looked at.

    Args:
        name: the unit's, for messages.
        digested: compare what RECOMPUTE saves with what FORWARD saved, number by number.
        kept: keep the tensors until FORWARD ends, for a unit that computes gradients inside its FORWARD.
        whole: run RECOMPUTE to its end, for a unit in which a kernel fills a tensor that was saved before it ran.
    """

    def __init__(self, name: str, digested: bool = False, kept: bool = False, whole: bool = False) -> None:
        self._name, self._digested, self._kept, self._whole = name, digested, kept, whole
        self.used = False
        self._saved: list[weakref.ref[_SavedTensor]] = []
        self.difference: str | None = None

    def discarding(self) -> saved_tensors_hooks:
        """Return hooks for FORWARD: inside them, what the graph saves is not kept."""
        append, reference, digested, kept = self._saved.append, weakref.ref, self._digested, self._kept

        def pack(tensor: torch.Tensor) -> _SavedTensor:
            saved_tensor = _SavedTensor(tensor)
            append(reference(saved_tensor))
            if digested:
                saved_tensor.digest = _digest(tensor)
            if kept:
                saved_tensor.hold(tensor)
            return saved_tensor

        return saved_tensors_hooks(pack, self._unpack)

    def end_forward(self) -> None:
        """Let go of what was kept for FORWARD itself, and of what no graph holds any more."""
        for reference in self._saved:
            if (saved_tensor := reference()) is not None:
                saved_tensor.tensor = None

    def restore(self, run: Callable[[], Any]) -> None:
        """Run the unit again until all is restored; InputError where it does something else than before.

        What FORWARD saved for a graph that is gone already, of a value that it did not return, is not restored.
        """
        saved, count, done, whole = self._saved, 0, False, self._whole
        last = max((at + 1 for at, reference in enumerate(saved) if reference() is not None), default=0)

        def pack(tensor: torch.Tensor) -> _SavedTensor:
            nonlocal count, done
            saved_tensor = saved[count]() if count < len(saved) else None
            if saved_tensor is None:
                saved_tensor = _SavedTensor(tensor)
            elif not saved_tensor.fits(tensor):
                raise self._differs(f"saves {_SavedTensor(tensor)} where FORWARD saved {saved_tensor}")
            saved_tensor.hold(tensor)
            count += 1
            if saved_tensor.digest is not None and self.difference is None and saved_tensor.digest != _digest(tensor):
                self.difference = f"the tensor that it saves as number {count} of {last}, {saved_tensor}, differs"
            if count == last and not whole:
                done = True
                raise _AllRestored
            return saved_tensor

        if not last:
            return
        try:
            with torch.enable_grad(), saved_tensors_hooks(pack, self._unpack):
                run()
        except _AllRestored:
            return
        except Exception:
            if not done:
                raise
            return  # a scripted layer makes an error of its own of it
        if whole and count >= last:
            return
        raise self._differs(f"saves {count} tensors where FORWARD saved {last}")

    def filled_late(self) -> bool:
        """Return whether a tensor that is kept holds other numbers than when it was saved, before its kernel ran."""
        alive = [saved_tensor for reference in self._saved if (saved_tensor := reference()) is not None]
        return any(s.tensor is not None and s.digest is not None and s.digest != _digest(s.tensor) for s in alive)

    def _unpack(self, saved_tensor: _SavedTensor) -> torch.Tensor:
        self.used = True
        if saved_tensor.tensor is None:
            raise UsedInForward(
                f"the model's unit {self._name} computes a gradient inside its FORWARD, which it did not when it was "
                "traced; use checkpoint.enabled = false"
            )
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
            "let it depend on its input, its own buffers and random numbers alone"
        )
