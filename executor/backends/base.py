"""What a backend is: queues that run work in order, events between them, memory and copies.

The replay loop (:mod:`executor.replay`) issues a plan's operations in list order. For each one it calls ``wait`` for
its edges, ``launch`` with the work, and ``record``. The work itself calls ``acquire``, ``release`` and ``copy``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from executor.layout import Layout
from sim.ir.plan import Ints

Work = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One direction of a connection. ``bandwidth`` in bytes/s, None for unlimited; ``latency_ns`` per transfer."""

    bandwidth: int | None
    latency_ns: int

    def duration_ns(self, nbytes: int) -> int:
        """Time of one transfer, rounded up."""
        moving = 0 if self.bandwidth is None else -(-nbytes * 1_000_000_000 // self.bandwidth)
        return self.latency_ns + moving


@dataclass(frozen=True, slots=True)
class Measured:
    """Start and end of each operation in ns from the step's start; shape (operations,)."""

    start_ns: Ints
    end_ns: Ints

    @property
    def step_time_ns(self) -> int:
        return int(np.max(self.end_ns) - np.min(self.start_ns))


class Backend(Protocol):
    """One device's way to run queues. Operations and queues go by their position and number in the plan."""

    name: str
    link_note: str

    def begin(self, operations: int) -> None:
        """Start a step of so many operations."""

    def wait(self, queue: int, op: int) -> None:
        """What is launched next on the queue runs only after ``op`` has ended."""

    def launch(self, queue: int, op: int, work: Work) -> None:
        """Queue the work of ``op``."""

    def record(self, queue: int, op: int) -> None:
        """``op`` has ended once all that was launched on the queue so far has."""

    def finish(self) -> Measured:
        """Wait until every queue is empty; raise what failed first, with all queues drained."""

    def copy(self, target: torch.Tensor, source: torch.Tensor, link: Link | None = None) -> None:
        """Copy inside an operation's work, through a link where one is given."""

    def acquire(self, layout: Layout) -> torch.Tensor:
        """Device memory, uninitialised."""

    def release(self, tensor: torch.Tensor) -> None:
        """What the tensor holds is dead: the plan frees it, or a host slot was emptied."""

    def slab(self, nbytes: int) -> torch.Tensor:
        """Host memory for the slots of one rank: uint8, shape (nbytes,)."""

    def close(self) -> None:
        """Give threads and streams back; what still runs is finished first."""
