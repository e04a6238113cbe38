"""Defines what a transport is: how what one rank sends lands in the memory that another has taken for it.

The operations (:mod:`loadahead.executor.replay.operations`) call it inside their work. In one process a SEND copies
into the receiver's buffer, see :mod:`loadahead.executor.transport.in_process`. Between processes the ACQUIRE of a
receive buffer posts the receive, the SEND sends, and the RECV waits for what has been posted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from loadahead.executor.tensors.values import Value

# A tensor without gradient that units hand on: its number among them, and the microbatch.
HandedKey = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Arrival:
    """Names a transfer between two ranks by the device buffer, a position in the plan, in which it lands."""

    buffer: int
    source: int
    target: int


class Transport(Protocol):
    """Moves values between ranks; ``values`` hold what the device buffers of the ranks of this process hold."""

    def begin_step(self, values: dict[int, Value]) -> None:
        """Forget what a step, which may have failed, has left; ``values`` are those of the step that begins."""

    def receive(self, arrival: Arrival) -> None:
        """Let what is sent land in the buffer, whose memory its rank's ACQUIRE has just taken."""

    def send(self, arrival: Arrival, source: Value) -> bool:
        """Send a value, inside its SEND's work; False where the receiver has not taken memory for it."""

    def wait(self, arrival: Arrival) -> None:
        """Let the buffer hold what was sent, inside the RECV's work."""

    def carry(self, key: HandedKey, tensor: torch.Tensor) -> None:
        """Bring a tensor that was made here, and that units of other ranks read, to these ranks."""

    def carried(self, key: HandedKey) -> torch.Tensor:
        """Return what :meth:`carry` brought, in memory that is no rank's device memory."""
