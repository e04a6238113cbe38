"""Counts a layer's work in its forward pass: FLOPs where torch can count them, else an estimate."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

# Kernels that run a whole recurrent layer, for which torch counts no FLOPs.
_RECURRENT = ("rnn", "lstm", "gru")


class WorkCounter:
    """Counts while it is active.

    A recurrent layer's work is estimated as two FLOPs for each weight and element of the sequence, and that of a layer
    without any counted operator as one for each element that its operators make.

    ``followed`` says whether torch's counter is used, which follows modules by hooks that some layers cannot run under.

    Attributes:
        flops: the count or estimate.
        counted: whether all of it was counted.
    """

    def __init__(self, followed: bool = True) -> None:
        self._counter = FlopCounterMode(display=False) if followed else None
        self._seen = _Elements()
        self._quiet = warnings.catch_warnings()
        self.flops, self.counted = 0, True

    def __enter__(self) -> WorkCounter:
        # The counter follows modules by hooks, of which a compiled layer warns.
        self._quiet.__enter__()
        warnings.filterwarnings("ignore", message="Using `torch.compile")
        if self._counter is not None:
            self._counter.__enter__()  # type: ignore[no-untyped-call]
        self._seen.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        self._seen.__exit__(*error)  # type: ignore[no-untyped-call]
        if self._counter is not None:
            self._counter.__exit__(*error)  # type: ignore[no-untyped-call]
        self._quiet.__exit__(None, None, None)
        counted = 0 if self._counter is None else int(self._counter.get_total_flops())
        self.counted = bool(counted) and not self._seen.recurrent
        self.flops = counted + self._seen.recurrent or self._seen.elements


class _Elements(TorchDispatchMode):
    """Sums the elements that operators make, and the estimated work of recurrent kernels."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = self.recurrent = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if any(part in name for part in _RECURRENT):
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            steps = tensors[0].numel() // max(1, tensors[0].shape[-1])
            # A kernel's states come after its four weights and biases.
            weights = tensors[1:5] if "mkldnn" in name else tensors[1:]
            self.recurrent += 2 * steps * sum(t.numel() for t in weights if t.dim() == 2)
        elif not func.is_view:
            self.elements += sum(leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))
        return out
