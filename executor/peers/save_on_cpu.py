"""Trains with ``torch.autograd.graph.save_on_cpu``.

Every saved tensor goes to pinned memory and back, in the compute stream.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd.graph import save_on_cpu

from loadahead.executor.peers.base import Offloader, Peer, SavedTensorHooks


def _make(module: nn.Module, device: torch.device) -> Offloader:
    del module
    # Without an accelerator there is nothing to pin memory for, and torch refuses.
    return SavedTensorHooks(save_on_cpu(pin_memory=device.type != "cpu"))


SAVE_ON_CPU = Peer(name="save_on_cpu", make=_make)
