"""Defines what a backend is: queues that run work in order, events between them, memory and copies.

The replay loop (:mod:`loadahead.executor.replay.loop`) launches a plan's operations in list order. For each it calls
``wait`` for its edges, ``launch`` with the work, and ``record``. The work itself calls ``acquire``, ``release`` and
``copy``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch

from loadahead.executor.tensors.layout import Layout
from loadahead.sim.ir.plan import Ints

Work = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Describes one direction of a connection: bytes/s, None for unlimited, and latency in ns per transfer."""

    bandwidth: int | None
    latency_ns: int

    def duration_ns(self, nbytes: int) -> int:
        """Return the time of one transfer, rounded up."""
        moving = 0 if self.bandwidth is None else -(-nbytes * 1_000_000_000 // self.bandwidth)
        return self.latency_ns + moving


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Holds one step's times on a backend's clock, in ns.

    Attributes:
        start_ns, end_ns: of each operation, shape (operations,); (0,) where only the step was timed.
        step_time_ns: from the first start to the last end.
        issue_ns: host time to launch each operation, shape (operations,); None where launching is outside the clock.
    """

    start_ns: Ints
    end_ns: Ints
    step_time_ns: int
    issue_ns: Ints | None = None

    @classmethod
    def of(cls, start_ns: Ints, end_ns: Ints, issue_ns: Ints | None = None) -> Measured:
        """Return the times of a step whose operations were all timed."""
        step = int(np.max(end_ns) - np.min(start_ns)) if len(end_ns) else 0
        return cls(start_ns=start_ns, end_ns=end_ns, step_time_ns=step, issue_ns=issue_ns)


class DeviceMeter(Protocol):
    """Measures the device memory of one rank, in bytes, while it is active."""

    resident: int  # before the step

    @property
    def live(self) -> int:
        """Return the bytes held now."""

    @property
    def peak(self) -> int:
        """Return the most bytes held since :meth:`start_operation`."""

    @property
    def blocks(self) -> tuple[int, int] | None:
        """Return the bytes of the allocator's blocks in the whole process, now and the most since then.

        It is None where there is no allocator.
        """

    @property
    def reserved(self) -> int | None:
        """Return the most bytes that the allocator held since then; None where there is no allocator."""

    def start_operation(self) -> None:
        """Begin a new peak at what is live now."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


class Backend(Protocol):
    """Runs queues on one device. Operations and queues go by their position and number in the plan.

    Attributes:
        device: where tensors live.
        link_note: what copies go through, in a sentence.
        emulated: whether copies take as long as the links' numbers say, rather than what hardware takes.
        metering_is_free: whether memory can be metered in a step that is timed.
        warm_ups: steps before memory and time are what they stay.
        most_ranks: ranks that one run can hold; None for any number.
        warnings: what a user should know about this run.
    """

    name: str
    device: torch.device
    link_note: str
    emulated: bool
    metering_is_free: bool
    warm_ups: int
    most_ranks: int | None
    warnings: list[str]

    def begin(self, operations: int, awaited: Collection[int], *, timed: bool = True, alone: bool = True) -> None:
        """Start a step of so many operations, of which those ``awaited`` are waited for.

        ``timed`` says whether each operation is timed by itself, or the step as a whole. ``alone`` says whether the
        host waits first until the device has nothing left to do, so that nothing else is in the step's time; without
        it a step may begin while the device is still at the one before.
        """

    def wait(self, queue: int, op: int) -> None:
        """Let what is launched next on the queue run only after ``op``, of another queue, has ended."""

    def launch(self, queue: int, op: int, work: Work) -> None:
        """Queue the work of ``op``. A backend that queues inside the work raises what it raises."""

    def record(self, queue: int, op: int) -> None:
        """Let ``op`` have ended once all that was launched on the queue so far has."""

    def end(self) -> None:
        """End the step that was launched, and give the caller's stream back.

        A device that the host is ahead of may still be at it. A backend that launches late runs all of it here, until
        every queue is empty, and raises what failed first.
        """

    def measured(self) -> Measured:
        """Wait until the step that ended last is over, and return its times."""

    def finish(self) -> Measured:
        """End the step, wait until every queue is empty, and return the times; raise what failed first."""

    def abandon(self) -> None:
        """Give the step up where it is, whatever was launched of it; afterwards every queue is empty."""

    def copy(self, target: torch.Tensor, source: torch.Tensor, link: Link | None = None) -> None:
        """Copy inside an operation's work, through a link where one is given."""

    def move(self, targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], link: Link) -> None:
        """Copy several tensors as one transfer through a link."""

    def acquire(self, layout: Layout) -> torch.Tensor:
        """Return uninitialised device memory of the layout."""

    def release(self, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        """Declare what the tensor holds dead: the plan frees it, or a host slot was emptied.

        ``dtype`` is the type of what lies in a tensor of bytes.
        """

    def slab(self, nbytes: int) -> torch.Tensor:
        """Return host memory for the slots of one rank: uint8, shape (nbytes,)."""

    def allocated(self) -> int:
        """Return the device bytes that all tensors of the process ask for; 0 where nothing counts them."""

    def meter(self, resident: Iterable[torch.Tensor], ignored: Iterable[torch.Tensor], foreign: int) -> DeviceMeter:
        """Return a meter of a rank's memory: ``resident`` was there before the step, ``ignored`` never counts.

        ``foreign`` bytes of :meth:`allocated` belong to something else than the run.
        """

    def machine(self) -> dict[str, Any]:
        """Return a description of the device for evidence; empty where it is the machine itself."""

    def close(self) -> None:
        """Give threads, streams and pinned memory back; what still runs is finished first."""
