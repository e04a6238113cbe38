"""Trains with DeepSpeed's ``CheckpointHiddenStatesOffload``: it offloads inputs of checkpointed layers alone.

In transformers' models a patched layer marks its input before it is checkpointed; here the training loop does.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from loadahead.executor.peers.base import Offloader, Peer, import_optional

_MODULE = "deepspeed.runtime.activation_checkpointing.offload_activations"


@dataclass(frozen=True, slots=True)
class _Marking:
    """Hands marks on to the manager."""

    manager: Any

    def around(self) -> AbstractContextManager[Any]:
        return self.manager  # type: ignore[no-any-return]

    def mark(self, boundary: torch.Tensor) -> None:
        self.manager.mark(boundary)


def _make(module: nn.Module, device: torch.device) -> Offloader:
    del module, device
    return _Marking(import_optional("deepspeed", _MODULE, "CheckpointHiddenStatesOffload")())


DEEPSPEED = Peer(name="deepspeed", make=_make, needs_cuda="on a CPU it leaves every tensor where it is")
