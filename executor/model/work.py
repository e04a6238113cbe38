"""Counts a layer's work in its forward pass: FLOPs where torch can count them, else an estimate; and bytes moved."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop_count

from loadahead.executor.tensors.meter import storages_of

# Kernels that run a whole recurrent layer, for which torch counts no FLOPs.
_RECURRENT = ("rnn", "lstm", "gru")
# One that keeps what its backward pass reads in memory of its own kind, of which fake tensors know nothing.
_RESERVING = ("mkldnn_rnn_layer",)
# The CPU's fused attention, whose operands lie as those of the others of its name.
_FUSED_ON_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
# These give memory without writing to it, or take numbers out of it.
_NO_KERNEL = (
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "lift_fresh",
    "_local_scalar_dense",
)
# These write all of their first operand and read nothing of it.
_OVERWRITING = ("copy_", "fill_", "zero_", "normal_", "uniform_", "bernoulli_", "random_", "exponential_")
# These read as much of their first operand as they return.
_PICKING = ("embedding", "index_select", "gather", "index", "take", "take_along_dim")


class WorkCounter:
    """Counts while it is active.

    A recurrent layer's work is estimated as two FLOPs for each weight and element of the sequence, and that of a layer
    without any counted operator as one for each element that its operators make.

    ``followed`` says whether torch's counter is used, which follows modules by hooks that some layers cannot run under.

    Attributes:
        flops: the count or estimate.
        counted: whether all of it was counted.
        products: how many operators the FLOPs are of: matrix products, convolutions, attention.
        moved_bytes: what the other operators read and write; a view of memory moves none.
        kernels: how many these are.
        unseen: the name of an operator whose memory follows from numbers, so that without them it is not known; None
            where none has run.
    """

    def __init__(self, followed: bool = True) -> None:
        fused = {_FUSED_ON_CPU: _attention_flops}
        self._counter = FlopCounterMode(display=False, custom_mapping=fused) if followed else None
        self._seen = _Operators()
        self._quiet = warnings.catch_warnings()
        self.flops, self.counted = 0, True
        self.products = self.moved_bytes = self.kernels = 0
        self.unseen: str | None = None

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
        self.products, self.moved_bytes, self.kernels = self._seen.products, self._seen.moved, self._seen.kernels
        self.unseen = self._seen.unseen


class _Operators(TorchDispatchMode):
    """Sums the elements that operators make, the bytes that they move, and the estimated work of recurrent kernels."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = self.recurrent = self.products = self.moved = self.kernels = 0
        self.unseen: str | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        name = packet.__name__
        given, made = _tensors((args, kwargs)), _tensors(out)
        if name in _RESERVING or any(tensor.layout is not torch.strided for tensor in made):
            self.unseen = name
        if any(part in name for part in _RECURRENT):
            steps = given[0].numel() // max(1, given[0].shape[-1])
            # A kernel's states come after its four weights and biases.
            weights = given[1:5] if "mkldnn" in name else given[1:]
            self.recurrent += 2 * steps * sum(t.numel() for t in weights if t.dim() == 2)
            self.products += 1
            return out
        if not func.is_view:
            self.elements += sum(tensor.numel() for tensor in made)
        if packet in flop_registry or packet is _FUSED_ON_CPU:
            self.products += 1
        elif name not in _NO_KERNEL and (func._schema.is_mutable or _is_new(made, given)):
            self.kernels += 1
            self.moved += _moved(name, given, made)
        return out


def _attention_flops(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    """Return what torch counts for fused attention elsewhere, from its operands' shapes."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _is_new(made: Sequence[torch.Tensor], given: Sequence[torch.Tensor]) -> bool:
    """Return whether an operator returns memory that it was not given."""
    known = {storage._cdata for tensor in given for storage in storages_of(tensor)}
    return any(storage._cdata not in known for tensor in made for storage in storages_of(tensor))


def _moved(name: str, given: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> int:
    """Return the bytes that an operator reads and writes: each operand once, what is repeated in it once."""
    written = sum(map(_nbytes, made))
    if name in _OVERWRITING:
        return written + sum(map(_nbytes, given[1:]))
    if name in _PICKING and given:
        return written + min(written, _nbytes(given[0])) + sum(map(_nbytes, given[1:]))
    return written + sum(map(_nbytes, given))


def _nbytes(tensor: torch.Tensor) -> int:
    if tensor.layout is not torch.strided:
        return sum(storage.nbytes() for storage in storages_of(tensor))
    repeated = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1 and not stride]
    return tensor.numel() // prod(repeated) * tensor.element_size()
