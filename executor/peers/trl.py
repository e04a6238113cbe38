"""Trains with TRL's ``OffloadActivations``: saved tensors leave and come back on a stream of their own.

TRL's trainers enter it around the forward and the backward pass of each microbatch, with these defaults.
"""

from __future__ import annotations

import torch
from torch import nn

from loadahead.executor.peers.base import Offloader, Peer, SavedTensorHooks, import_optional


def _make(module: nn.Module, device: torch.device) -> Offloader:
    del device
    offload = import_optional("trl", "trl.models.activation_offloading", "OffloadActivations")
    # Its warnings go through accelerate's logger, which refuses to work before this.
    import_optional("accelerate", "accelerate", "PartialState")()
    manager = offload()
    if hasattr(manager, "update_model_params"):  # newer versions; the trainers call it too
        manager.update_model_params(module)
    return SavedTensorHooks(manager)


TRL = Peer(name="trl", make=_make, needs_cuda="it asks torch.accelerator for its streams")
