"""Runs queues as CUDA streams: one persistent stream per queue, an event per operation that something waits for.

The host launches a step's operations in list order and never waits for the device in between. Device memory is taken
and given back on the compute stream alone, so that the caching allocator's order is the plan's and no tensor needs
``record_stream``; what a copy reads or writes stays until the compute stream has waited for it, as the plan says.

The compute stream is current throughout a step, and a copy's stream only while the copy is launched. A step may begin
while the device still works on the one before: the compute stream has waited for every copy of that one, an OFFLOAD for
its FORWARD, so that no copy of a step starts before all of those before it have ended; and an event that is recorded
anew leaves those who wait for its last record alone.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
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
        self._slabs: list[torch.Tensor] = []
        self._poison = self._poison_source() if poisoned else None
        # Events are kept from step to step: one that is recorded again forgets its last time.
        self._starts: list[Event] = []
        self._ends: list[Event] = []
        self._marks: list[Event] = []
        self._borders = [self.driver.event(timing=True) for _ in range(1 + QUEUES_PER_RANK)]
        # Where another stream is current at a step's beginning: what it did before, and what comes on it after.
        self._handovers = [self.driver.event(timing=False) for _ in range(2)]
        self._awaited: Collection[int] = ()
        self._recorded: dict[int, Event] = {}
        self._timed = True
        self._compute = self.driver.stream(Queue.COMPUTE)
        self._outer: list[Stream] = []  # what was current when the step that runs began
        self._streams: dict[int, Stream] = {}
        self._used: set[int] = set()
        self._issued: list[int] = []
        self._random = None if delays is None else random.Random(delays)
        if delays is not None:
            self.try_spin()

    def try_spin(self) -> None:
        """Find out how quickly the device spins; the host waits for that, so it is not done in mid step."""
        with self.driver.using(self._compute):
            self.driver.spin(1)

    # ---- called by the replay loop ----

    def begin(self, operations: int, awaited: Collection[int], *, timed: bool = True, alone: bool = True) -> None:
        """Start a step: make the events that it needs, and put a mark before its first operation."""
        driver = self.driver
        if alone:
            driver.synchronize()
        self._awaited, self._timed, self._recorded = awaited, timed, {}
        self._outer = [driver.current()]
        driver.switch(self._compute)
        if self._outer[0] not in (None, self._compute):
            driver.record(self._handovers[0], self._outer[0])
            driver.wait(self._compute, self._handovers[0])
        if timed:
            self._make(self._starts, operations, timing=True)
            self._make(self._ends, operations, timing=True)
        else:
            self._make(self._marks, operations, timing=False)
        self._used = {int(Queue.COMPUTE)}
        self._issued = [driver.host_ns()]
        driver.record(self._borders[0], self._compute)

    def _make(self, events: list[Event], wanted: int, *, timing: bool) -> None:
        """Make events until there are so many, and record each once: only then does CUDA make it, which takes time."""
        while len(events) < wanted:
            events.append(self.driver.event(timing=timing))
            self.driver.record(events[-1], self._compute)

    def wait(self, queue: int, op: int) -> None:
        """Let the queue's stream wait for the event of ``op``."""
        event = self._recorded[op]  # a KeyError is right here: a stream that waits for no record waits for nothing
        self.driver.wait(self._stream(queue), event)

    def launch(self, queue: int, op: int, work: Work) -> None:
        """Run the work with the queue's stream current, so that its kernels and copies go there."""
        if queue == Queue.COMPUTE:
            self._launch(self._compute, op, work)
            return
        stream = self._stream(queue)
        self._used.add(queue)
        self.driver.switch(stream)
        try:
            self._launch(stream, op, work)
        finally:
            self.driver.switch(self._compute)

    def _launch(self, stream: Stream, op: int, work: Work) -> None:
        if self.held_ns:
            self.driver.spin(self.held_ns[op])
        if self._random is not None:
            self.driver.spin(self._random.randrange(LONGEST_DELAY_NS))
        if self._timed:
            self.driver.record(self._starts[op], stream)
        work()

    def record(self, queue: int, op: int) -> None:
        """Record the event of ``op``, if anything needs it, and the host's time."""
        if self._timed or op in self._awaited:
            event = (self._ends if self._timed else self._marks)[op]
            self.driver.record(event, self._stream(queue))
            self._recorded[op] = event
        self._issued.append(self.driver.host_ns())
        if self.paced:
            self.driver.synchronize()
            self._issued[-1:] = [self._issued[-1], self.driver.host_ns()]

    def finish(self) -> Measured:
        """Wait for the device and return the times."""
        self.end()
        return self.measured()

    def end(self) -> None:
        """Put a mark after each queue's last operation, and let the caller's stream be current again."""
        if not self._timed:
            for queue in self._used:
                self.driver.record(self._borders[1 + queue], self._stream(queue))
        self._leave()

    def _leave(self) -> None:
        """Give the caller's stream back, which waits for the step; the second call does nothing."""
        if not self._outer:
            return
        outer = self._outer.pop()
        if outer not in (None, self._compute):
            self.driver.record(self._handovers[1], self._compute)
            self.driver.wait(outer, self._handovers[1])
        self.driver.switch(outer)

    def measured(self) -> Measured:
        """Wait for the device and return the times of the step that ended last."""
        self.driver.synchronize()
        issue = self._issue_times()
        zero = self._borders[0]
        if not self._timed:
            none = np.zeros(0, dtype=np.int64)
            step = max(self.driver.elapsed_ns(zero, self._borders[1 + queue]) for queue in self._used)
            return Measured(start_ns=none, end_ns=none, step_time_ns=step, issue_ns=issue)
        count = len(issue)
        return Measured.of(self._since(zero, self._starts[:count]), self._since(zero, self._ends[:count]), issue)

    def _issue_times(self) -> Ints:
        """Return the host time of each operation; with pacing every second interval is a wait."""
        at = np.asarray(self._issued, dtype=np.int64)
        between: Ints = at[1:] - at[:-1]
        return between[::2] if self.paced else between

    def _since(self, zero: Event, events: list[Event]) -> Ints:
        return np.asarray([self.driver.elapsed_ns(zero, event) for event in events], dtype=np.int64)

    def abandon(self) -> None:
        """Wait for the device: copies still under way would write into memory that the next step takes."""
        self._recorded = {}
        try:
            self.driver.synchronize()
        finally:
            self._leave()

    def close(self) -> None:
        """Wait for the device and unpin the host memory."""
        self.driver.synchronize()
        while self._slabs:
            self.driver.unpin(self._slabs.pop())

    def _stream(self, queue: int) -> Stream:
        if queue not in self._streams:
            self._streams[queue] = self.driver.stream(Queue(queue % QUEUES_PER_RANK))
        return self._streams[queue]

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
        """Return the bytes that all tensors of the process asked for on the device and hold."""
        return self.driver.requested()

    def meter(self, resident: Iterable[torch.Tensor], ignored: Iterable[torch.Tensor], foreign: int) -> DeviceMeter:
        """Return a meter of the allocator, which counts all there is: what is resident need not be named to it."""
        return AllocatorMeter(self.driver, foreign + storage_bytes(ignored))

    def machine(self) -> dict[str, Any]:
        """Return the GPU and its versions."""
        return self.driver.describe()


class AllocatorMeter:
    """Reads the caching allocator: it counts in the host's order and needs no waiting for the device.

    What tensors asked for is what a plan knows; the blocks that they got are larger, by what is not worth splitting.
    """

    def __init__(self, driver: Driver, foreign: int) -> None:
        self._driver, self._foreign = driver, foreign
        self.resident = driver.requested() - foreign

    @property
    def live(self) -> int:
        """Return the bytes that the run's tensors asked for and hold now."""
        return self._driver.requested() - self._foreign

    @property
    def peak(self) -> int:
        """Return the most bytes that they held since :meth:`start_operation`."""
        return self._driver.peak_requested() - self._foreign

    @property
    def allocated(self) -> int | None:
        """Return the most bytes that all tensors' blocks took since then, those of foreign ones too."""
        return self._driver.peak_allocated()

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
