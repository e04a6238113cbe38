"""Runs queues as threads on the CPU: one worker per queue.

What is launched waits, in its worker, for the events it was told to wait for. All of a step is launched before the
clock starts, so that launching does not compete with the workers for the interpreter. "Device" and host memory are both
RAM; a copy takes as long as its link's latency and bandwidth say: it copies, then waits out the rest.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from loadahead.executor.backends.base import DeviceMeter, Link, Measured, Work
from loadahead.executor.tensors.layout import Layout, as_bytes
from loadahead.executor.tensors.meter import StorageMeter

# The longest random delay before an operation is long beside a small unit's run, so that a missing wait shows.
LONGEST_DELAY_S = 0.003
SHORT_SLEEP_S = 0.0002
_QUEUE_NAME = "loadahead-queue-"
# With all bits set, a floating-point number is NaN, and a signed integer -1, an id that no table has.
POISON_BYTE = 0xFF


@dataclass(frozen=True, slots=True)
class _QueuedOperation:
    """Holds an operation in a queue."""

    op: int
    waits: tuple[int, ...]
    work: Work


def in_queue() -> bool:
    """Return whether the calling thread is a queue's worker."""
    return threading.current_thread().name.startswith(_QUEUE_NAME)


class _OneShotEvent:
    """Is an event that is set once.

    Beside ``threading.Event`` a waiter takes the interpreter once instead of thrice.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Let all waiters pass."""
        self._lock.release()

    def wait(self) -> None:
        """Wait until the event is set."""
        with self._lock:
            return


class _Worker:
    """Runs one queue's items in order in a thread until it gets None; an event among them is set when reached."""

    def __init__(self, backend: CpuBackend, number: int) -> None:
        self.items: queue.SimpleQueue[_QueuedOperation | threading.Event | None] = queue.SimpleQueue()
        self._random = None if backend.delays is None else random.Random(backend.delays * 1_000_003 + number)
        self._backend = backend
        self.thread = threading.Thread(target=self._loop, name=f"{_QUEUE_NAME}{number}", daemon=True)
        self.thread.start()

    def _loop(self) -> None:
        # OpenMP keeps its number of threads per calling thread.
        torch.set_num_threads(1)
        while (item := self.items.get()) is not None:
            if isinstance(item, _QueuedOperation):
                self._backend.run_operation(item, self._random)
            else:
                item.set()
            del item  # otherwise its closure would live until the next item comes


class _CurrentOperation(threading.local):
    """Holds when the operation that a worker runs now began, by ``time.perf_counter_ns``."""

    since_ns = 0


def _oversleep_ns() -> int:
    """Return how much longer than asked a short sleep takes on this machine."""
    beyond = []
    for _ in range(15):
        began = time.perf_counter_ns()
        time.sleep(SHORT_SLEEP_S)
        beyond.append(time.perf_counter_ns() - began - round(SHORT_SLEEP_S * 1e9))
    return max(0, sorted(beyond)[len(beyond) // 2])


class CpuBackend:
    """Runs a plan's queues in threads; see the module's text.

    Args:
        delays: seed of a random delay before every operation; None for none.
        poisoned: fill acquired and dead memory with NaN, and let copies move their bytes at the last moment, so that a
            missing wait cannot go unnoticed.
    """

    name = "cpu"
    link_note = (
        "Copies went through an emulated link: device and host memory are both this machine's RAM; each transfer was "
        "copied and then waited out the rest of latency + bytes / bandwidth."
    )
    emulated = True
    metering_is_free = False
    warm_ups = 0
    most_ranks: int | None = None

    def __init__(self, *, delays: int | None = None, poisoned: bool = False) -> None:
        self.device = torch.device("cpu")
        self.warnings: list[str] = []
        self.delays, self.poisoned = delays, poisoned
        self._workers: dict[int, _Worker] = {}
        self._waits: dict[int, list[int]] = {}
        self._pending: dict[int, tuple[int, Work]] = {}
        self._ended: dict[int, _OneShotEvent] = {}  # events of operations that something waits for
        self._times = np.zeros((2, 0), dtype=np.int64)
        self._clock_started = threading.Event()
        self._zero = 0
        self._failure: BaseException | None = None
        self._current = _CurrentOperation()
        self._oversleep_ns = _oversleep_ns()

    # ---- called by the replay loop ----

    def begin(self, operations: int, awaited: Collection[int], *, timed: bool = True, alone: bool = True) -> None:
        """Start a step. All operations are always timed: two readings of the clock cost next to nothing.

        Every step is alone, as :meth:`end` runs it to its end.
        """
        self._clock_started.clear()
        self._ended = {op: _OneShotEvent() for op in awaited}
        self._waits, self._pending = {}, {}
        self._times = np.zeros((2, operations), dtype=np.int64)
        self._failure = None

    def wait(self, queue: int, op: int) -> None:
        """Let the queue's next operation wait for ``op``."""
        self._waits.setdefault(queue, []).append(op)

    def launch(self, queue: int, op: int, work: Work) -> None:
        """Keep the work until :meth:`record` queues it."""
        self._pending[queue] = op, work

    def record(self, queue: int, op: int) -> None:
        """Give the queue's worker the operation with all it waits for."""
        launched, work = self._pending.pop(queue)
        assert launched == op
        if queue not in self._workers:
            self._workers[queue] = _Worker(self, queue)
        self._workers[queue].items.put(_QueuedOperation(op, tuple(self._waits.pop(queue, ())), work))

    def end(self) -> None:
        """Start the clock and wait for all workers; raise what failed first."""
        self._zero = time.perf_counter_ns()
        self._clock_started.set()
        try:
            self._drain()
        except BaseException as error:  # after a KeyboardInterrupt the workers skip what is left
            self._failure = self._failure or error
            self._drain()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def measured(self) -> Measured:
        """Return the times of the step that ended last."""
        return Measured.of(self._times[0], self._times[1])

    def finish(self) -> Measured:
        """Run the step to its end and return its times; raise what failed first."""
        self.end()
        return self.measured()

    def abandon(self) -> None:
        """Let the workers skip what is left of the step, and wait for them."""
        self._failure = self._failure or RuntimeError("the step was given up")
        self._clock_started.set()
        self._drain()

    def close(self) -> None:
        """Give the step up and end all threads."""
        self.abandon()
        for worker in self._workers.values():
            worker.items.put(None)
        for worker in self._workers.values():
            worker.thread.join()
        self._workers.clear()

    def _drain(self) -> None:
        reached = []
        for worker in self._workers.values():
            reached.append(threading.Event())
            worker.items.put(reached[-1])
        for event in reached:
            event.wait()

    # ---- called by the workers ----

    def run_operation(self, item: _QueuedOperation, delays: random.Random | None) -> None:
        """Wait, run, and record. After a failure the rest of the step is skipped, but its events are set."""
        self._clock_started.wait()
        for edge in item.waits:
            self._ended[edge].wait()
        if delays is not None and self._failure is None:
            time.sleep(delays.random() * LONGEST_DELAY_S)
        self._current.since_ns = time.perf_counter_ns()
        self._times[0, item.op] = self._current.since_ns - self._zero
        try:
            if self._failure is None:
                item.work()
        except BaseException as error:
            self._failure = self._failure or error
        self._times[1, item.op] = time.perf_counter_ns() - self._zero
        if item.op in self._ended:
            self._ended[item.op].set()

    # ---- called by the work ----

    def copy(self, target: torch.Tensor, source: torch.Tensor, link: Link | None = None) -> None:
        """Copy, and wait out the rest of the time that the link takes."""
        if link is None:
            target.copy_(source)
        else:
            self.move([target], [source], link)

    def move(self, targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], link: Link) -> None:
        """Copy several tensors as one transfer, and wait out the rest of the time that the link takes."""
        self.transfer(targets, sources, link, self._current.since_ns)

    def transfer(
        self, targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], link: Link, since_ns: int
    ) -> None:
        """Do the same for a transfer that began at ``since_ns`` of ``time.perf_counter_ns``."""
        nbytes = sum([source.numel() * source.element_size() for source in sources])
        deadline = since_ns + link.duration_ns(nbytes)
        if self.poisoned:
            self._wait_until(deadline)
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
        self._wait_until(deadline)

    def _wait_until(self, deadline_ns: int) -> None:
        """Sleep for most of the time, since a sleep lasts longer than asked, and yield the interpreter for the rest."""
        rest = deadline_ns - time.perf_counter_ns() - self._oversleep_ns
        if rest > 0:
            time.sleep(rest / 1e9)
        while time.perf_counter_ns() < deadline_ns:
            time.sleep(0)

    def acquire(self, layout: Layout) -> torch.Tensor:
        """Return memory of the layout, poisoned if that is wanted."""
        tensor = layout.empty(self.device)
        if self.poisoned:
            as_bytes(tensor).fill_(POISON_BYTE)
        return tensor

    def release(self, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        """Poison the memory if that is wanted."""
        if self.poisoned:
            as_bytes(tensor).fill_(POISON_BYTE)

    def slab(self, nbytes: int) -> torch.Tensor:
        """Return host memory filled with zeros."""
        return torch.zeros(nbytes, dtype=torch.uint8)

    def allocated(self) -> int:
        """Return 0: nothing counts the process's tensors here."""
        return 0

    def meter(self, resident: Iterable[torch.Tensor], ignored: Iterable[torch.Tensor], foreign: int) -> DeviceMeter:
        """Return a meter that counts storages."""
        return StorageMeter(resident, ignored)

    def machine(self) -> dict[str, Any]:
        """Return nothing: the device is the machine itself."""
        return {}
