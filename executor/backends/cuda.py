"""Runs queues as CUDA streams: one persistent stream per queue, an event per operation that something waits for.

The host launches a step's operations in list order and never waits for the device in between. Device memory is taken
and given back on the compute stream alone, so that the caching allocator's order is the plan's and no tensor needs
``record_stream``; what a copy reads or writes stays until the compute stream has waited for it, as the plan says.

The compute stream is current from :meth:`CudaBackend.begin` to the step's end, and a copy stream only around a copy.

A step may begin while the device is still at the one before (``alone=False``):

* An event that is recorded again moves. A wait that was asked for before stays with the record that it was asked for,
  so the step before keeps its order; only its times are lost, which is why :meth:`CudaBackend.measured` comes first.
* A host slot is filled again only after it was emptied: every PREFETCH of the step before is waited for on the compute
  stream, by the task that needs it, and every OFFLOAD waits for a FORWARD of its own step, which the compute stream
  runs after all of that.
* Each microbatch's loss is written and kept on the compute stream. Who reads it does so on a stream that waits for the
  compute stream and that the next step waits for: the caller's, which is handed over in ``begin`` and at the end.
* Device memory that the caller frees goes back to the stream it was taken on, and either stream waits for the other
  before it takes any.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import torch

from loadahead.executor.backends.base import DeviceMeter, Link, Measured, Work
from loadahead.executor.cuda.driver import Driver, Event, Stream, TorchDriver
from loadahead.executor.tensors.layout import Layout, as_bytes
from loadahead.executor.tensors.meter import storage_bytes
from loadahead.sim.ir.kinds import QUEUES_PER_RANK, Queue
from loadahead.sim.ir.plan import Ints
from loadahead.sim.units import format_bytes

# The longest random delay before an operation is long beside a small unit's run, so that a missing wait shows.
LONGEST_DELAY_NS = 1_000_000
# With all bits set, a floating-point number is NaN. Integers become 0, an id that every table has: another would stop
# the device with an assertion, from which a process does not recover.
POISON_BYTE = 0xFF
_POISON_CHUNK = 1 << 20


class CudaBackend:
    """Runs one rank's queues on a GPU; see the module's text. Each rank is a process with a device of its own.

    Args:
        delays: seed of a random delay before every operation; None for none.
        poisoned: fill acquired and dead memory with NaN, so that a missing wait cannot go unnoticed.
        copies: how often each transfer over a link is made, to stand for a slower link.
        held_ns: by operation: keep its queue busy so long before it, so that the host can launch it all meanwhile.
        paced: let the host wait for each operation, so that it never waits for a full queue while it launches one.
        driver: CUDA, or a stand-in for it.

    Raises InputError where there is no GPU.
    """

    name = "cuda"
    link_note = "Copies went over the device's own link, on a stream for each direction."
    emulated = False
    metering_is_free = True
    # Libraries take their workspaces and compile or choose kernels in the first step.
    warm_ups = 1
    most_ranks: int | None = 1

    def __init__(
        self,
        *,
        delays: int | None = None,
        poisoned: bool = False,
        copies: int = 1,
        held_ns: Sequence[int] = (),
        paced: bool = False,
        driver: Driver | None = None,
    ) -> None:
        self.driver: Driver = driver or TorchDriver()
        self.device = self.driver.device
        self.warnings: list[str] = []
        self.held_ns, self.paced = held_ns, paced
        self._copies = copies
        self._random = None if delays is None else random.Random(delays)
        if delays is not None:
            self.try_spin()
        self._slabs: list[torch.Tensor] = []
        self._poison = self._poison_source() if poisoned else None
        self._streams: list[Stream] = [self.driver.stream(queue) for queue in Queue]
        self._compute = self._streams[Queue.COMPUTE]
        # Events are kept from step to step: one that is recorded again forgets its last time.
        self._starts: list[Event] = []
        self._ends: list[Event] = []
        self._marks: dict[int, Event] = {}
        self._borders = self._new_events(1 + QUEUES_PER_RANK, timing=True)
        self._taken, self._given = self._new_events(2, timing=False)
        # Of this step: the event of each operation that has one, and those that were recorded.
        self._events: Mapping[int, Event] = {}
        self._recorded: dict[int, Event] = {}
        self._timed, self._bare = True, False
        self._used: set[int] = set()
        self._issued: list[int] = []
        self._inside = False  # from begin to the end of a step, in which the compute stream is current
        self._caller: Stream = self._compute

    def _new_events(self, count: int, *, timing: bool) -> list[Event]:
        """Return new events, each recorded once: CUDA makes an event at its first record, which takes long."""
        made = [self.driver.event(timing=timing) for _ in range(count)]
        for event in made:
            self.driver.record(event, self._compute)
        return made

    def try_spin(self) -> None:
        """Find out how quickly the device spins; the host waits for that, so it is not done in mid step."""
        with self.driver.using(self.driver.stream(Queue.COMPUTE)):
            self.driver.spin(1)

    # ---- called by the replay loop ----

    def begin(self, operations: int, awaited: Collection[int], *, timed: bool = True, alone: bool = True) -> None:
        """Start a step: make the events that it needs, take the stream, and put a mark before its first operation."""
        self._give_back()
        if alone:
            self.driver.synchronize()
        self._timed, self._recorded = timed, {}
        self._bare = not timed and not self.held_ns and self._random is None
        self._events = self._events_for(operations, awaited)
        self._used = {int(Queue.COMPUTE)}
        self._take()
        self._issued = [self.driver.host_ns()]
        self.driver.record(self._borders[0], self._compute)

    def _events_for(self, operations: int, awaited: Collection[int]) -> Mapping[int, Event]:
        """Return the event that ends each operation: of all where each is timed, else of those awaited."""
        if not self._timed:
            new = [op for op in awaited if op not in self._marks]
            self._marks.update(zip(new, self._new_events(len(new), timing=False), strict=True))
            return {op: self._marks[op] for op in awaited}
        self._starts += self._new_events(operations - len(self._starts), timing=True)
        self._ends += self._new_events(operations - len(self._ends), timing=True)
        return dict(enumerate(self._ends[:operations]))

    def _take(self) -> None:
        """Make the compute stream current; it goes on after what the caller's stream was given so far."""
        self._caller = self.driver.enter(self._compute)
        self._inside = True
        if self._caller != self._compute:
            self.driver.record(self._taken, self._caller)
            self.driver.wait(self._compute, self._taken)

    def _give_back(self) -> None:
        """Make the caller's stream current again; it goes on after the compute stream."""
        if not self._inside:
            return
        self._inside = False
        self.driver.leave(self._caller)
        if self._caller != self._compute:
            self.driver.record(self._given, self._compute)
            self.driver.wait(self._caller, self._given)

    def wait(self, queue: int, op: int) -> None:
        """Let the queue's stream wait for the event of ``op``."""
        event = self._recorded[op]  # a KeyError is right here: a stream that waits for no record waits for nothing
        self.driver.wait(self._streams[queue], event)

    def launch(self, queue: int, op: int, work: Work) -> None:
        """Run the work with the queue's stream current, so that its kernels and copies go there."""
        if queue == Queue.COMPUTE:
            self._run(queue, op, work)
            return
        self._used.add(queue)
        self.driver.switch(self._streams[queue])
        try:
            self._run(queue, op, work)
        finally:
            self.driver.switch(self._compute)

    def _run(self, queue: int, op: int, work: Work) -> None:
        if self._bare:
            work()
            return
        if self.held_ns:
            self.driver.spin(self.held_ns[op])
        if self._random is not None:
            self.driver.spin(self._random.randrange(LONGEST_DELAY_NS))
        if self._timed:
            self.driver.record(self._starts[op], self._streams[queue])
        work()

    def record(self, queue: int, op: int) -> None:
        """Record the event of ``op``, if it has one, and the host's time."""
        if op in self._events:
            event = self._recorded[op] = self._events[op]
            self.driver.record(event, self._streams[queue])
        self._issued.append(self.driver.host_ns())
        if self.paced:
            self.driver.synchronize()
            self._issued[-1:] = [self._issued[-1], self.driver.host_ns()]

    def end(self) -> None:
        """Put a mark after each queue's last operation and give the stream back; the device may still be at it."""
        if not self._timed:
            for queue in self._used:
                self.driver.record(self._borders[1 + queue], self._streams[queue])
        self._give_back()

    def measured(self) -> Measured:
        """Wait for the device and return the times of the step that ended last; call it before the next begins."""
        self.driver.synchronize()
        issue = self._issue_times()
        zero = self._borders[0]
        if not self._timed:
            none = np.zeros(0, dtype=np.int64)
            step = max(self.driver.elapsed_ns(zero, self._borders[1 + queue]) for queue in self._used)
            return Measured(start_ns=none, end_ns=none, step_time_ns=step, issue_ns=issue)
        count = len(issue)
        return Measured.of(self._since(zero, self._starts[:count]), self._since(zero, self._ends[:count]), issue)

    def finish(self) -> Measured:
        """End the step, wait for the device and return the times."""
        self.end()
        return self.measured()

    def _issue_times(self) -> Ints:
        """Return the host time of each operation; with pacing every second interval is a wait."""
        at = np.asarray(self._issued, dtype=np.int64)
        between: Ints = at[1:] - at[:-1]
        return between[::2] if self.paced else between

    def _since(self, zero: Event, events: list[Event]) -> Ints:
        return np.asarray([self.driver.elapsed_ns(zero, event) for event in events], dtype=np.int64)

    def abandon(self) -> None:
        """Wait for the device: copies still under way would write into memory that the next step takes."""
        try:
            self._give_back()
        finally:
            self.driver.synchronize()
            self._recorded = {}

    def close(self) -> None:
        """Wait for the device and unpin the host memory."""
        self.abandon()
        while self._slabs:
            self.driver.unpin(self._slabs.pop())

    # ---- called by the work ----

    def copy(self, target: torch.Tensor, source: torch.Tensor, link: Link | None = None) -> None:
        """Copy on the current stream; a link's transfer is made as often as ``copies`` says."""
        for _ in range(1 if link is None else self._copies):
            self.driver.copy(target, source)

    def move(self, targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], link: Link) -> None:
        """Copy several tensors, one after the other."""
        for target, source in zip(targets, sources, strict=True):
            self.copy(target, source, link)

    def acquire(self, layout: Layout) -> torch.Tensor:
        """Return device memory of the layout, poisoned if that is wanted."""
        tensor = layout.empty(self.device)
        self.release(tensor)
        return tensor

    def release(self, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        """Poison the memory if that is wanted.

        The memory itself goes back when the last reference is dropped, in the compute stream's turn.
        """
        if self._poison is None:
            return
        source = self._poison[0 if (dtype or tensor.dtype).is_floating_point else 1]
        dead = as_bytes(tensor)
        for at in range(0, len(dead), _POISON_CHUNK):
            part = dead[at : at + _POISON_CHUNK]
            self.driver.copy(part, source[: len(part)])

    # ---- memory ----

    def _poison_source(self) -> torch.Tensor:
        """Return the poison as device memory, so that a host slot too is filled in its stream's turn."""
        return torch.tensor([[POISON_BYTE], [0]], dtype=torch.uint8, device=self.device).repeat(1, _POISON_CHUNK)

    def slab(self, nbytes: int) -> torch.Tensor:
        """Return pinned host memory; where it cannot be pinned, pageable memory and a warning."""
        slab = self.driver.pin(nbytes)
        if slab is None:
            self.warnings.append(
                f"{format_bytes(nbytes)} of host memory could not be pinned: copies went through pageable memory, "
                "slower and with the host waiting; raise the limit of locked memory (ulimit -l), or offload less"
            )
            return torch.zeros(nbytes, dtype=torch.uint8)
        self._slabs.append(slab)
        return slab

    def allocated(self) -> int:
        """Return the bytes that all tensors of the process have asked for on the device, as the meter counts them."""
        return self.driver.requested()

    def meter(self, resident: Iterable[torch.Tensor], ignored: Iterable[torch.Tensor], foreign: int) -> DeviceMeter:
        """Return a meter of the allocator, which counts all there is: only what is not to count is taken off."""
        return AllocatorMeter(self.driver, foreign + storage_bytes(ignored))

    def machine(self) -> dict[str, Any]:
        """Return the GPU and its versions."""
        return self.driver.describe()


class AllocatorMeter:
    """Reads the caching allocator: it counts in the host's order and needs no waiting for the device.

    What is live and its peak are the bytes that tensors ask for, as a plan counts them; the allocator's blocks are
    larger, by how much depends on what it has at hand.
    """

    def __init__(self, driver: Driver, foreign: int) -> None:
        self._driver, self._foreign = driver, foreign
        self.resident = driver.requested() - foreign

    @property
    def live(self) -> int:
        """Return the bytes that the run's tensors hold now."""
        return self._driver.requested() - self._foreign

    @property
    def peak(self) -> int:
        """Return the most bytes that they held since :meth:`start_operation`."""
        return self._driver.peak_requested() - self._foreign

    @property
    def blocks(self) -> tuple[int, int] | None:
        """Return the bytes of the allocator's blocks in the whole process, now and the most since then."""
        return self._driver.allocated(), self._driver.peak_allocated()

    @property
    def reserved(self) -> int | None:
        """Return the most bytes that the allocator held since then."""
        return self._driver.peak_reserved()

    def start_operation(self) -> None:
        """Begin new peaks."""
        self._driver.reset_peaks()

    def __enter__(self) -> AllocatorMeter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
