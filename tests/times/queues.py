"""The CPU backend's queues: an emulated link is as fast as it says, and queues run at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from loadahead.executor.backends import Link, make_backend
from tests.times.figure import Figure, predicted_within

MS = 1_000_000
STEPS = 9
LINK = Link(bandwidth=400_000, latency_ns=5 * MS)  # 4000 bytes take 15 ms


def step_times(works: Sequence[Callable[[], object]]) -> list[int]:
    """Of several steps in which each queue has one operation."""
    backend = make_backend("cpu")
    times = []
    for _ in range(STEPS):
        backend.begin(len(works), set())
        for queue, work in enumerate(works):
            backend.launch(queue, queue, work)  # type: ignore[arg-type]
            backend.record(queue, queue)
        times.append(backend.finish().step_time_ns)
    backend.close()
    return times


def a_copy() -> Sequence[Figure]:
    backend = make_backend("cpu")
    source, target = torch.arange(1000.0), torch.zeros(1000)
    times = []
    for _ in range(STEPS):
        backend.begin(1, set())
        backend.launch(0, 0, lambda: backend.copy(target, source, LINK))
        backend.record(0, 0)
        times.append(backend.finish().step_time_ns)
    backend.close()
    return [predicted_within("a copy of 15 ms", times, LINK.duration_ns(4000), 0.05)]


def at_once() -> Sequence[Figure]:
    """Three queues of 20 ms each make a step of 20 ms, not of 60."""
    return [predicted_within("three queues of 20 ms", step_times([lambda: time.sleep(0.02)] * 3), 20 * MS, 0.10)]
