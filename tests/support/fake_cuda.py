"""A stand-in for CUDA on a machine without a GPU: results by torch's CPU, times by a clock of its own, and a record.

Every operator runs at once, in the order of issue, on CPU tensors; so results do not depend on streams, and whether
they could is for :mod:`tests.support.happens_before` to say from the record. The clock is of whole ns and moves only by
:class:`FakeGpu`'s figures, so that a run takes the same time every time.

What is whose: an operator's new result is device memory of the current stream. Memory that was never seen before is the
host's if it is a number on its own (an optimizer's step count) or if a copy stream meets it first, and else the
device's. On a real device a stream is always current; to have here too what happens outside of the backend on the
clock, in the record and in the allocator, put ``with fake.using(fake.stream(Queue.COMPUTE))`` around it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from loadahead.sim.ir.kinds import Queue
from tests.support.fake_kernels import Call, FakeGpu
from tests.support.fake_memory import FakeMemory, Home, Side
from tests.support.gpu_record import HOST, Entry, HostWait, Launch, Place, Record, Sync, Wait

COMPUTE = Queue.COMPUTE.label


@dataclass(slots=True)
class FakeStream:
    """``tail_ns`` is when all that was put on it so far has ended, ``running`` the ends of what may not have."""

    name: str
    tail_ns: int = 0
    running: deque[int] = field(default_factory=deque)


@dataclass(slots=True)
class FakeEvent:
    """``at_ns`` is when it takes place; None before it is recorded."""

    number: int
    timing: bool
    at_ns: int | None = None


class FakeCuda:
    """:class:`loadahead.executor.cuda.driver.Driver` without a GPU; see the module's text.

    Attributes:
        entries: the record; clear it at will.
        drop_waits: which calls of :meth:`wait`, counted from 0 since the device was last waited for, do nothing.
        pinnable: whether :meth:`pin` grants anything.
        doing: what entries say they belong to, as a test may set it; "" for nothing.
        caller: the stream that is current where none was entered; the compute stream, unless a test sets another.
        switches: how often the current stream was changed so far.
    """

    def __init__(self, gpu: FakeGpu | None = None) -> None:
        self.device = torch.device("cpu")
        self.gpu = gpu or FakeGpu()
        self.entries: list[Entry] = []
        self.drop_waits: Collection[int] = ()
        self.pinnable = True
        self.doing = ""
        self.memory = FakeMemory(self._log)
        self._streams = {queue: FakeStream(queue.label) for queue in Queue}
        self.caller = self._streams[Queue.COMPUTE]
        self.switches = 0
        self._current: list[FakeStream] = []  # those entered and not left
        self._watcher: _Watcher | None = None
        self._host_ns = 0
        self._events = self._waits = 0
        self._engine_free_ns = {"d2h": 0, "h2d": 0}
        self._aside = False  # inside an operator of the stand-in itself

    # ---- streams and events ----

    def stream(self, queue: Queue) -> FakeStream:
        return self._streams[queue]

    @property
    def inside(self) -> bool:
        """Whether a stream was entered and not left, so that operators are on the record."""
        return bool(self._current)

    def enter(self, stream: FakeStream) -> FakeStream:
        previous = self._current[-1] if self._current else self.caller
        self._changed_stream()
        self._current.append(stream)
        if self._watcher is None:  # a second watcher would see all twice
            self._watcher = _Watcher(self)
            self._watcher.__enter__()
        return previous

    def switch(self, stream: FakeStream) -> None:
        self._changed_stream()
        self._current[-1] = stream

    def leave(self, previous: FakeStream) -> None:
        self._changed_stream()
        self._current.pop()
        assert previous is (self._current[-1] if self._current else self.caller), "another stream was current before"
        if not self._current:
            watcher, self._watcher = self._watcher, None
            assert watcher is not None
            watcher.__exit__(None, None, None)

    @contextmanager
    def using(self, stream: FakeStream) -> Iterator[None]:
        previous = self.enter(stream)
        try:
            yield
        finally:
            self.leave(previous)

    def _changed_stream(self) -> None:
        self._host_ns += self.gpu.call_ns
        self.switches += 1

    def event(self, *, timing: bool) -> FakeEvent:
        self._host_ns += self.gpu.call_ns
        self._events += 1
        return FakeEvent(self._events, timing)

    def record(self, event: FakeEvent, stream: FakeStream) -> None:
        self._host_ns += self.gpu.call_ns
        event.at_ns = max(stream.tail_ns, self._host_ns)
        self._log(Record(stream.name, event.number))

    def wait(self, stream: FakeStream, event: FakeEvent) -> None:
        self._host_ns += self.gpu.call_ns
        self._waits += 1
        if self._waits - 1 in self.drop_waits:
            return
        self._log(Wait(stream.name, event.number))
        if event.at_ns is not None:  # CUDA, too, waits for nothing where nothing was recorded
            stream.tail_ns = max(stream.tail_ns, event.at_ns)

    def elapsed_ns(self, start: FakeEvent, end: FakeEvent) -> int:
        for event in (start, end):
            if not event.timing:
                raise RuntimeError(f"event {event.number} was made without timing")
            if event.at_ns is None:
                raise RuntimeError(f"event {event.number} was never recorded")
            if event.at_ns > self._host_ns:
                raise RuntimeError(f"event {event.number} has not taken place yet; synchronize first")
        return end.at_ns - start.at_ns

    def synchronize(self) -> None:
        self._host_ns += self.gpu.call_ns
        tails = [stream.tail_ns for stream in (*self._streams.values(), self.caller)]
        self._host_ns = max(self._host_ns, *tails)
        self._waits = 0
        self._log(Sync())

    def host_ns(self) -> int:
        return self._host_ns

    # ---- work ----

    def spin(self, nanoseconds: int) -> None:
        self._host_ns += self.gpu.launch_ns
        self._run(self._current[-1], nanoseconds)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        stream = self._current[-1]
        unseen = Side.DEVICE if stream.name == COMPUTE else Side.PAGEABLE
        homes = [self._meet(tensor, unseen) for tensor in (target, source)]
        with self._stepping_aside():
            target.copy_(source)
        self._host_ns += self.gpu.launch_ns
        name = self._named(f"copy {' to '.join(home.side.value for home in reversed(homes))}")
        self._log(Launch(stream.name, name, self._places([source]), self._places([target])))
        direction = _direction(*homes)
        if direction is None:
            call = Call.of(torch.ops.aten.copy_.default, (target, source), {}, target)
            self._run(stream, self.gpu.kernel_time(call))
        else:
            self._transfer(stream, direction, target.numel() * target.element_size())
        if any(home.side == Side.PAGEABLE for home in homes):
            self._wait_for(stream, name)

    def ran(self, call: Call) -> None:
        """Take note of an operator that just ran while a stream was current."""
        self._host_ns += self.gpu.launch_ns
        homes = [self._meet(tensor, Side.PAGEABLE if _is_a_number(tensor) else Side.DEVICE) for tensor in call.given]
        if homes and not any(home.side == Side.DEVICE for home in homes):
            self._ran_on_host(call)
            return
        stream, name = self._current[-1], self._named(call.name)
        for tensor in call.made:
            if self.memory.home(tensor) is None:
                self.memory.allocate(tensor, stream.name, name)
        if not call.kernel:
            return
        self._log(Launch(stream.name, name, self._places(call.reads), self._places(call.writes)))
        self._run(stream, self.gpu.kernel_time(call))
        if call.waits:
            self._wait_for(stream, name)

    def _ran_on_host(self, call: Call) -> None:
        for tensor in call.made:
            self.memory.host(tensor, Side.PAGEABLE)
        if call.kernel:
            self._log(Launch(HOST, self._named(call.name), self._places(call.reads), self._places(call.writes)))

    def _run(self, stream: FakeStream, nanoseconds: int, not_before_ns: int = 0) -> None:
        """Put something on the stream that takes so long, once the stream has room for it."""
        running = stream.running
        while running and running[0] <= self._host_ns:
            running.popleft()
        if len(running) >= self.gpu.queue_limit:
            self._host_ns = running.popleft()
        stream.tail_ns = max(stream.tail_ns, self._host_ns, not_before_ns) + nanoseconds
        running.append(stream.tail_ns)

    def _transfer(self, stream: FakeStream, direction: str, nbytes: int) -> None:
        self._run(stream, self.gpu.copy_time(direction, nbytes), self._engine_free_ns[direction])
        self._engine_free_ns[direction] = stream.tail_ns

    def _wait_for(self, stream: FakeStream, name: str) -> None:
        self._host_ns = max(self._host_ns, stream.tail_ns)
        self._log(HostWait(stream.name, name))

    # ---- memory ----

    def pin(self, nbytes: int) -> torch.Tensor | None:
        if not self.pinnable:
            return None
        with self._stepping_aside():
            slab = torch.zeros(nbytes, dtype=torch.uint8)
        self.memory.pin(slab)
        return slab

    def unpin(self, slab: torch.Tensor) -> None:
        self.memory.unpin(slab)

    def adopt(self, tensors: Iterable[torch.Tensor]) -> None:
        """Device memory as if the compute stream had just made them, for those not seen before."""
        for tensor in tensors:
            if self.memory.home(tensor) is None:
                self.memory.allocate(tensor, COMPUTE, "adopted")

    def requested(self) -> int:
        return self.memory.allocator.requested.now

    def peak_requested(self) -> int:
        return self.memory.allocator.requested.peak

    def allocated(self) -> int:
        return self.memory.allocator.allocated.now

    def peak_allocated(self) -> int:
        return self.memory.allocator.allocated.peak

    def peak_reserved(self) -> int:
        return self.memory.allocator.reserved.peak

    def reset_peaks(self) -> None:
        self.memory.allocator.reset_peaks()

    def memory_bytes(self) -> int:
        return self.gpu.memory_bytes - self.gpu.taken_bytes

    def describe(self) -> dict[str, Any]:
        return {"gpu": "a stand-in on the CPU", "gpu_memory_bytes": self.gpu.memory_bytes}

    def _meet(self, tensor: torch.Tensor, unseen: Side) -> Home:
        """Where a tensor lies; one not seen before lies on that side."""
        home = self.memory.home(tensor)
        if home is None:
            if unseen == Side.DEVICE:
                self.memory.adopt(tensor, COMPUTE)
            else:
                self.memory.host(tensor, unseen)
            home = self.memory.home(tensor)
            assert home is not None
        return home

    def _places(self, tensors: Sequence[torch.Tensor]) -> tuple[Place, ...]:
        found = [self.memory.place(tensor) for tensor in tensors]
        return tuple(dict.fromkeys(place for place in found if place is not None))

    # ---- the record ----

    def _log(self, entry: Entry) -> None:
        self.entries.append(entry)

    def _named(self, name: str) -> str:
        return f"{self.doing}: {name}" if self.doing else name

    @property
    def aside(self) -> bool:
        """Whether what runs now is the stand-in's own doing."""
        return self._aside

    @contextmanager
    def _stepping_aside(self) -> Iterator[None]:
        self._aside = True
        try:
            yield
        finally:
            self._aside = False


class _Watcher(TorchDispatchMode):
    """Shows a stand-in every operator of the thread."""

    def __init__(self, fake: FakeCuda) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._fake = fake

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self._fake.aside:
            self._fake.ran(Call.of(func, args, kwargs or {}, out))
        return out


def _direction(target: Home, source: Home) -> str | None:
    """Which engine moves it; None where it stays on the device."""
    if target.side == Side.DEVICE:
        return None if source.side == Side.DEVICE else "h2d"
    return "d2h"


def _is_a_number(tensor: torch.Tensor) -> bool:
    return tensor.dim() == 0 and tensor.is_floating_point()
