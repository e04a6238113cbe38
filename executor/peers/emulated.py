"""Trains on a CPU with what ``save_on_cpu`` does on a GPU, its copies made over an emulated link.

On a CPU torch's own hooks copy nothing: a tensor's copy on the CPU is the tensor. Here what is saved is copied out, and
let go; what a backward pass asks for is copied back. Each copy takes as long as one of ours over the same link, and
whoever asked for it waits: torch's hooks copy in the stream that computes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import _disable_current_modes

from loadahead.executor.backends.cpu import CpuBackend
from loadahead.executor.links import Links
from loadahead.executor.peers.base import Offloader, Peer, SavedTensorHooks


@dataclass(frozen=True, slots=True)
class _Hooks:
    """Moves saved tensors to "host" memory, which a meter of the device does not see, and back."""

    backend: CpuBackend
    links: Links

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        with _disable_current_modes():
            packed = torch.empty(tensor.size(), dtype=tensor.dtype, layout=tensor.layout)
            if tensor.numel():
                self.backend.transfer([packed], [tensor.detach()], self.links.d2h, time.perf_counter_ns())
        return packed

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        tensor = torch.empty_like(packed)
        if packed.numel():
            self.backend.transfer([tensor], [packed], self.links.h2d, time.perf_counter_ns())
        return tensor


def emulated_save_on_cpu(links: Links) -> Peer:
    """Return the peer for these links; it runs on a CPU."""
    hooks = _Hooks(CpuBackend(), links)

    def make(module: nn.Module, device: torch.device) -> Offloader:
        del module, device
        return SavedTensorHooks(saved_tensors_hooks(hooks.pack, hooks.unpack))

    return Peer(name="save_on_cpu, over the emulated link", make=make, host_copies_apart=True)
