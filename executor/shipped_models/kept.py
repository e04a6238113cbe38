"""Keeps one model on a GPU, from which every run of it gets a copy: drawing and moving a large one takes seconds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from loadahead.executor.tensors.meter import storage_bytes

# A kept model may take this share of the device's memory: training takes four times the weights and more beside it.
MOST_SHARE = 1 / 16


class KeptModel:
    """Holds at most one model, on one device; what it holds is never run and never changed."""

    def __init__(self) -> None:
        self._key: Any = None
        self._model: nn.Sequential | None = None

    def copy_of(self, key: Any, device: torch.device, make: Callable[[], nn.Sequential]) -> nn.Sequential:
        """Return a copy of the key's model; it is made now, and kept where it is small, unless it is there already.

        The model of another key is dropped before.
        """
        device = numbered(device)
        if self._model is None or self._key != (key, device):
            self.drop()
            made = make()
            if storage_bytes(_tensors(made)) > MOST_SHARE * device_memory(device):
                return made
            self._key, self._model = (key, device), made
        return copy.deepcopy(self._model)

    def drop(self) -> None:
        """Forget the model, whose memory is free then."""
        self._key = self._model = None

    def nbytes(self, device: torch.device) -> int:
        """Return the bytes that the kept model takes on a device."""
        if self._model is None or self._key[1] != numbered(device):
            return 0
        return storage_bytes(_tensors(self._model))


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def numbered(device: torch.device) -> torch.device:
    """Return the device with its number: ``cuda`` is the current GPU, by whichever name it goes."""
    if str(device) == "cuda":  # the index is None then, which its type does not say
        return torch.device("cuda", torch.cuda.current_device())
    return device


def device_memory(device: torch.device) -> int:
    """Return the memory of a GPU in bytes."""
    return int(torch.cuda.get_device_properties(device).total_memory)


def can_be_kept_on(device: torch.device) -> bool:
    """Return whether models are kept on the device: the host's are copied from a drawing as they are needed."""
    return device.type == "cuda"


KEPT = KeptModel()
