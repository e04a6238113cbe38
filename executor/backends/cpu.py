"""Threads as queues: one worker per queue, on the CPU.

What is launched waits, in its worker, for the events it was told to wait for. All of a step is issued before the clock
starts, so that issuing does not compete with the workers for the interpreter. "Device" and host memory are both RAM; a
copy takes as long as its link's latency and bandwidth say: it copies, then waits out the rest.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from loadahead.executor.backends.base import DeviceMeter, Link, Measured, Work
from loadahead.executor.layout import Layout, as_bytes
from loadahead.executor.meter import StorageMeter

# Longest random delay before an operation: long beside a small unit's run, so that a missing wait shows.
LONGEST_DELAY_S = 0.003
SHORT_SLEEP_S = 0.0002
# All bits set: NaN in every floating-point type, -1 in signed integers (an id that no table has).
POISON_BYTE = 0xFF


@dataclass(frozen=True, slots=True)
class _Item:
    """An operation in a queue."""

    op: int
    waits: tuple[int, ...]
    work: Work


class _Once:
    """An event that is set once. Beside ``threading.Event`` a waiter takes the interpreter once instead of thrice."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        self._lock.release()

    def wait(self) -> None:
        with self._lock:
            return


class _Worker:
    """One queue: a thread that runs items in order until it gets None; an event among them is set when reached."""

    def __init__(self, backend: CpuBackend, number: int) -> None:
        self.items: queue.SimpleQueue[_Item | threading.Event | None] = queue.SimpleQueue()
        self._random = None if backend.delays is None else random.Random(backend.delays * 1_000_003 + number)
        self._backend = backend
        self.thread = threading.Thread(target=self._loop, name=f"loadahead-queue-{number}", daemon=True)
        self.thread.start()

    def _loop(self) -> None:
        # OpenMP keeps its number of threads per calling thread.
        torch.set_num_threads(1)
        while (item := self.items.get()) is not None:
            if isinstance(item, _Item):
                self._backend.run_item(item, self._random)
            else:
                item.set()
            del item  # or its closure would live until the next one comes


class _Running(threading.local):
    """When the operation that a worker runs now began, by ``time.perf_counter_ns``."""

    since_ns = 0


def _oversleep_ns() -> int:
    """How much longer than asked a short sleep takes on this machine."""
    beyond = []
    for _ in range(15):
        began = time.perf_counter_ns()
        time.sleep(SHORT_SLEEP_S)
        beyond.append(time.perf_counter_ns() - began - round(SHORT_SLEEP_S * 1e9))
    return max(0, sorted(beyond)[len(beyond) // 2])


class CpuBackend:
    """See the module's text.

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
    warm_ups = 0
    most_ranks: int | None = None

    def __init__(self, *, delays: int | None = None, poisoned: bool = False) -> None:
        self.device = torch.device("cpu")
        self.warnings: list[str] = []
        self.delays, self.poisoned = delays, poisoned
        self._workers: dict[int, _Worker] = {}
        self._waits: dict[int, list[int]] = {}
        self._pending: dict[int, tuple[int, Work]] = {}
        self._ended: dict[int, _Once] = {}  # of operations that something waits for
        self._times = np.zeros((2, 0), dtype=np.int64)
        self._go = threading.Event()
        self._zero = 0
        self._failure: BaseException | None = None
        self._now = _Running()
        self._oversleep_ns = _oversleep_ns()

    # ---- called by the replay loop ----

    def begin(self, operations: int, awaited: Collection[int], *, timed: bool = True) -> None:
        """Two readings of the clock per operation cost nothing to speak of, so that all are timed always."""
        self._go.clear()
        self._ended = {op: _Once() for op in awaited}
        self._waits, self._pending = {}, {}
        self._times = np.zeros((2, operations), dtype=np.int64)
        self._failure = None

    def wait(self, queue: int, op: int) -> None:
        self._waits.setdefault(queue, []).append(op)

    def launch(self, queue: int, op: int, work: Work) -> None:
        self._pending[queue] = op, work

    def record(self, queue: int, op: int) -> None:
        launched, work = self._pending.pop(queue)
        assert launched == op
        if queue not in self._workers:
            self._workers[queue] = _Worker(self, queue)
        self._workers[queue].items.put(_Item(op, tuple(self._waits.pop(queue, ())), work))

    def finish(self) -> Measured:
        self._zero = time.perf_counter_ns()
        self._go.set()
        try:
            self._drain()
        except BaseException as error:  # KeyboardInterrupt: the workers skip what is left, then it is passed on
            self._failure = self._failure or error
            self._drain()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return Measured.of(self._times[0], self._times[1])

    def abandon(self) -> None:
        self._failure = self._failure or RuntimeError("the step was given up")
        self._go.set()
        self._drain()

    def close(self) -> None:
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

    def run_item(self, item: _Item, delays: random.Random | None) -> None:
        """Wait, run, record. After a failure the rest of the step is skipped, but its events are set."""
        self._go.wait()
        for edge in item.waits:
            self._ended[edge].wait()
        if delays is not None and self._failure is None:
            time.sleep(delays.random() * LONGEST_DELAY_S)
        self._now.since_ns = time.perf_counter_ns()
        self._times[0, item.op] = self._now.since_ns - self._zero
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
        deadline = 0 if link is None else self._now.since_ns + link.duration_ns(source.numel() * source.element_size())
        if self.poisoned:
            self._wait_until(deadline)
        target.copy_(source)
        self._wait_until(deadline)

    def _wait_until(self, deadline_ns: int) -> None:
        """Sleep for most of it, since a sleep lasts longer than asked, and give the interpreter away for the rest."""
        rest = deadline_ns - time.perf_counter_ns() - self._oversleep_ns
        if rest > 0:
            time.sleep(rest / 1e9)
        while time.perf_counter_ns() < deadline_ns:
            time.sleep(0)

    def acquire(self, layout: Layout) -> torch.Tensor:
        tensor = layout.empty(self.device)
        if self.poisoned:
            as_bytes(tensor).fill_(POISON_BYTE)
        return tensor

    def release(self, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        if self.poisoned:
            as_bytes(tensor).fill_(POISON_BYTE)

    def slab(self, nbytes: int) -> torch.Tensor:
        return torch.zeros(nbytes, dtype=torch.uint8)

    def allocated(self) -> int:
        return 0

    def meter(self, resident: Iterable[torch.Tensor], ignored: Iterable[torch.Tensor], foreign: int) -> DeviceMeter:
        return StorageMeter(resident, ignored)

    def machine(self) -> dict[str, Any]:
        return {}
