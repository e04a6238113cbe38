"""Moves values between ranks that share a process: a SEND copies into the memory that the receiver has taken."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from loadahead.executor.backends import Backend, Link
from loadahead.executor.tensors.layout import Layout, as_bytes
from loadahead.executor.tensors.values import Value, over
from loadahead.executor.transport.base import Arrival, HandedKey


class InProcess:
    """Implements :class:`~loadahead.executor.transport.base.Transport` by copies over a link of the backend."""

    def __init__(self, backend: Backend, link: Link) -> None:
        self._backend, self._link = backend, link
        self._values: dict[int, Value] = {}
        self._carried: dict[HandedKey, tuple[npt.NDArray[np.uint8], Layout]] = {}

    def begin_step(self, values: dict[int, Value]) -> None:
        """Forget the step before."""
        self._values, self._carried = values, {}

    def receive(self, arrival: Arrival) -> None:
        """Do nothing: the memory is found where it lies."""

    def send(self, arrival: Arrival, source: Value) -> bool:
        """Copy into the receive buffer; False where the receiving rank has not taken its memory."""
        taken = self._values.get(arrival.buffer)
        if taken is None:
            return False
        target = source.described().over(taken.tensors)
        self._values[arrival.buffer] = target
        self._backend.move(target.tensors, source.tensors, self._link)
        return True

    def wait(self, arrival: Arrival) -> None:
        """Do nothing: the SEND has written the buffer, and what waits for a RECV waits for that."""

    def carry(self, key: HandedKey, tensor: torch.Tensor) -> None:
        """Keep a copy in numpy's memory, which no meter of tensors sees: it is neither rank's."""
        self._carried[key] = as_bytes(tensor).cpu().numpy().copy(), Layout.of(tensor)

    def carried(self, key: HandedKey) -> torch.Tensor:
        """Return that copy as a tensor."""
        numbers, layout = self._carried[key]
        return over(torch.from_numpy(numbers), layout)
