"""What a backend is: queues that run work in order, events between them, memory and copies.

The replay loop (:mod:`loadahead.executor.replay`) issues a plan's operations in list order. For each one it calls
``wait`` for its edges, ``launch`` with the work, and ``record``. The work itself calls ``acquire``, ``release`` and
``copy``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch

from loadahead.executor.layout import Layout
from loadahead.sim.ir.plan import Ints

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One step on a backend's clock, in ns.

    Attributes:
        start_ns, end_ns: of each operation, shape (operations,); (0,) where only the step was timed.
        step_time_ns: from the first start to the last end.
        issue_ns: host time to issue each operation, shape (operations,); None where issuing is outside the clock.
    """

    start_ns: Ints
    end_ns: Ints
    step_time_ns: int
    issue_ns: Ints | None = None

    @classmethod
    def of(cls, start_ns: Ints, end_ns: Ints, issue_ns: Ints | None = None) -> Measured:
        """A step whose operations were all timed."""
        step = int(np.max(end_ns) - np.min(start_ns)) if len(end_ns) else 0
        return cls(start_ns=start_ns, end_ns=end_ns, step_time_ns=step, issue_ns=issue_ns)


class DeviceMeter(Protocol):
    """Device memory of one rank, in bytes, while active."""

    resident: int  # before the step

    @property
    def live(self) -> int:
        """Now."""

    @property
    def peak(self) -> int:
        """The most since :meth:`start_operation`."""

    @property
    def reserved(self) -> int | None:
        """The most that the allocator held since then; None where there is none between tensors and the system."""

    def start_operation(self) -> None:
        """Begin a new peak at what is live now."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


class Backend(Protocol):
    """One device's way to run queues. Operations and queues go by their position and number in the plan.

    Attributes:
        device: where tensors live.
        link_note: what copies go through; ``emulated`` where the links' figures make it so.
        warm_ups: steps before memory and time are what they stay.
        most_ranks: ranks that one run can hold; None for any number.
        warnings: what a user should know about this run.
    """

    name: str
    device: torch.device
    link_note: str
    emulated: bool
    warm_ups: int
    most_ranks: int | None
    warnings: list[str]

    def begin(self, operations: int, awaited: Collection[int], *, timed: bool = True) -> None:
        """Start a step of so many operations, of which those ``awaited`` are waited for. ``timed``: each for itself."""

    def wait(self, queue: int, op: int) -> None:
        """What is launched next on the queue runs only after ``op``, of another queue, has ended."""

    def launch(self, queue: int, op: int, work: Work) -> None:
        """Queue the work of ``op``. A backend that queues inside the work raises what it raises."""

    def record(self, queue: int, op: int) -> None:
        """``op`` has ended once all that was launched on the queue so far has."""

    def finish(self) -> Measured:
        """Wait until every queue is empty; raise what failed first, with all queues drained."""

    def abandon(self) -> None:
        """Give the step up where it is, whatever was issued of it; afterwards every queue is empty."""

    def copy(self, target: torch.Tensor, source: torch.Tensor, link: Link | None = None) -> None:
        """Copy inside an operation's work, through a link where one is given."""

    def acquire(self, layout: Layout) -> torch.Tensor:
        """Device memory, uninitialised."""

    def release(self, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        """What the tensor holds is dead: the plan frees it, or a host slot was emptied. ``dtype``: of bytes."""

    def slab(self, nbytes: int) -> torch.Tensor:
        """Host memory for the slots of one rank: uint8, shape (nbytes,)."""

    def allocated(self) -> int:
        """Bytes of device memory that all tensors of the process hold; 0 where nothing counts them."""

    def meter(self, resident: Iterable[torch.Tensor], ignored: Iterable[torch.Tensor], foreign: int) -> DeviceMeter:
        """A meter of a rank's memory: ``resident`` before the step, ``ignored`` never counted.

        ``foreign`` of :meth:`allocated` belongs to something else than the run.
        """

    def machine(self) -> dict[str, Any]:
        """The device, for evidence; empty where it is the machine itself."""

    def close(self) -> None:
        """Give threads, streams and pinned memory back; what still runs is finished first."""
