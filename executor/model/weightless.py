"""Runs a model that has shapes and no numbers, by the rules of the CPU's kernels: what they return, save and share.

Its tensors are fake ones: they say that they lie on the CPU, so that an operator that is made of others, such as
attention, is taken apart as there, and what shares memory there shares it here. No memory is taken.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import increment_version
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from loadahead.executor.model.errors import NeedsNumbers
from loadahead.executor.model.state import ModuleState
from loadahead.executor.tensors.numbers import has_numbers, is_fake

# Torch tells here, with its own tracebacks, what it raises as well.
_LOGGER = logging.getLogger("torch._subclasses.fake_tensor")
_LARGEST = (torch.topk, torch.Tensor.topk)
_SEEN = (*_LARGEST, functional.batch_norm)
_STATISTICS = ("running_mean", "running_var")


class Weightless:
    """Makes fake tensors, all of one kind, and runs what is made of them.

    Attributes:
        stands_in: whether they stand for a model that has numbers, which could be run in their place.
    """

    def __init__(self, stands_in: bool = False) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.stands_in = stands_in

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let what operators make inside be fake, and experts be chosen in turn (:class:`_WithoutNumbers`)."""
        with _quiet(), self._mode, _WithoutNumbers():
            yield

    def copy_of(self, module: nn.Module) -> nn.Module:
        """Return a copy of a module whose weights, buffers and other tensors are fake; what is shared stays so.

        Raises NeedsNumbers for one with parts that would keep their numbers, or share their memory with the module.
        """
        for name, part in module.named_modules():
            if isinstance(part, torch.jit.ScriptModule):
                raise NeedsNumbers(
                    f"model: {name or 'the model'} is compiled by TorchScript, which runs on numbers alone; build it "
                    "with its weights"
                )
        memo: dict[int, Any] = {}
        for tensor in (*module.parameters(), *module.buffers(), *ModuleState([module], "").held()):
            memo.setdefault(id(tensor), self._like(tensor))
        copied = copy.deepcopy(module, memo)
        kept = [name for name, tensor in _named_tensors(copied) if not is_fake(tensor)]
        if kept:
            raise NeedsNumbers(f"model: {kept[0]} keeps its numbers in a copy; build the model with its weights")
        return copied

    def values(self, value: Any) -> Any:
        """Return what a batch holds, with fake tensors in place of its own."""
        return tree_map_only(torch.Tensor, self._like, value)

    def _like(self, tensor: torch.Tensor) -> torch.Tensor:
        with self._mode:
            out = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(out, requires_grad=tensor.requires_grad)
        return out.requires_grad_(tensor.requires_grad and tensor.is_leaf)


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


@contextmanager
def _quiet() -> Iterator[None]:
    """Let torch log nothing of fake tensors inside."""
    before = _LOGGER.disabled
    _LOGGER.disabled = True
    try:
        yield
    finally:
        _LOGGER.disabled = before


class _WithoutNumbers(TorchFunctionMode):
    """Decides what would follow from numbers: the largest of several are taken in turn, in real numbers.

    A mixture of experts asks so for each token's experts, and takes each expert's tokens apart by what comes out: all
    experts get as many then, as training aims at. What is computed of real tensors alone is real.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in _SEEN and any(isinstance(arg, torch.Tensor) and is_fake(arg) for arg in args):
            return func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if given and all(map(has_numbers, given)):
            with _disable_current_modes():
                return func(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        if func is functional.batch_norm and _argument("training", 5, args, kwargs, False):
            # Its kernel writes the statistics unseen; without numbers only such a mark tells.
            written = [_argument(name, 1 + at, args, kwargs, None) for at, name in enumerate(_STATISTICS)]
            increment_version([tensor for tensor in written if tensor is not None])
        if func in _LARGEST:
            values, indices = out
            with _disable_current_modes():
                # Along the first dimension first: a token's experts differ.
                turns = torch.arange(indices.numel()).remainder(given[0].shape[_argument("dim", 2, args, kwargs, -1)])
                return torch.return_types.topk((values, turns.reshape(indices.shape)))
        return out


def _argument(name: str, at: int, args: tuple[Any, ...], kwargs: dict[str, Any] | None, otherwise: Any) -> Any:
    return (kwargs or {}).get(name, args[at] if len(args) > at else otherwise)
