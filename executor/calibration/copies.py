"""Measures a device's link to the host by copies of many sizes: alone, both ways at once, and beside compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from loadahead.executor.calibration.samples import statistics_of
from loadahead.executor.cuda.driver import Driver, Event
from loadahead.sim.costs import MOST_WEIGHT, NANOSECONDS_PER_SECOND, SharedLinks
from loadahead.sim.ir.kinds import Queue

# Latency rules the time of the smallest copies, bandwidth that of the largest.
SIZES = tuple(1 << shift for shift in range(12, 29, 2))
REPEATS = 8
# At most this many copies of a direction are made while something else runs.
MOST_BESIDE = 64
# This is longer than the host takes to launch an event and a copy, so no measurement holds a wait for the host.
LEAD_NS = 100_000
# Directions that keep at least this share of their speed are full duplex: a difference within noise is no contention.
FULL_DUPLEX = 0.97

DIRECTIONS = (Queue.D2H, Queue.H2D)
Load = Callable[[], None]  # launches some kernels on the current stream
Span = tuple[int, int]  # start and end in ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Holds a fit of ``time = latency + bytes / bandwidth``; ``worst_error`` is the largest relative error."""

    latency_ns: int
    bandwidth: int
    worst_error: float


def fit(nbytes: Sequence[int], times_ns: Sequence[float]) -> Fit:
    """Fit latency and bandwidth to two sizes or more by least squares of relative errors, with no latency below 0."""
    size, time = np.asarray(nbytes, dtype=np.float64), np.asarray(times_ns, dtype=np.float64)
    (latency, per_byte), *_ = np.linalg.lstsq(np.stack([1 / time, size / time], axis=1), np.ones_like(time), rcond=None)
    if latency < 0:
        latency, per_byte = 0.0, float((size / time).sum() / ((size / time) ** 2).sum())
    error = float(np.abs((latency + size * per_byte) / time - 1).max())
    bandwidth = max(1, round(NANOSECONDS_PER_SECOND / per_byte))
    return Fit(latency_ns=round(latency), bandwidth=bandwidth, worst_error=round(error, 4))


class LinkBench:
    """Measures copies between a buffer on the device and one on the host; :meth:`close` unpins the host memory."""

    def __init__(self, driver: Driver, sizes: Sequence[int] = SIZES, repeats: int = REPEATS) -> None:
        self._driver, self.sizes, self._repeats = driver, tuple(sizes), repeats
        most = max(sizes)
        with driver.using(driver.stream(Queue.COMPUTE)):
            device = {queue: torch.zeros(most, dtype=torch.uint8, device=driver.device) for queue in DIRECTIONS}
        self._device = device
        self._slabs = [slab for slab in (driver.pin(most) for _ in DIRECTIONS) if slab is not None]
        self.pinned = len(self._slabs) == len(DIRECTIONS)
        pageable = torch.zeros(most, dtype=torch.uint8)
        hosts = self._slabs if self.pinned else [pageable, pageable]
        self._host = dict(zip(DIRECTIONS, hosts, strict=True))
        self._pageable = dict.fromkeys(DIRECTIONS, pageable)
        self._load_issue_ns = 0

    def close(self) -> None:
        """Wait for the device, and give the pinned memory back."""
        self._driver.synchronize()
        for slab in self._slabs:
            self._driver.unpin(slab)

    def alone(self, queue: Queue, *, pinned: bool) -> tuple[Fit, list[dict[str, Any]]]:
        """Return the fit of copies in one direction, and the count, median and spread of each size."""
        points = []
        for size in self.sizes:
            spans = self._timed(queue, size, self._repeats, self._host if pinned else self._pageable)
            points.append({"bytes": size} | statistics_of([end - start for start, end in spans]))
        return fit(self.sizes, [max(1, point["median_ns"]) for point in points]), points

    def _timed(self, queue: Queue, size: int, count: int, hosts: dict[Queue, torch.Tensor]) -> list[Span]:
        driver, stream = self._driver, self._driver.stream(queue)
        events = []
        for _ in range(count + 1):
            with driver.using(stream):
                driver.spin(LEAD_NS)
            events.append(self._issue(queue, size, hosts))
            driver.synchronize()
        return [(0, driver.elapsed_ns(start, end)) for start, end in events[1:]]

    def _event(self) -> Event:
        return self._driver.event(timing=True)

    def _issue(self, queue: Queue, size: int, hosts: dict[Queue, torch.Tensor]) -> tuple[Event, Event]:
        driver, stream = self._driver, self._driver.stream(queue)
        start, end = self._event(), self._event()
        host, device = hosts[queue][:size], self._device[queue][:size]
        with driver.using(stream):
            driver.record(start, stream)
            driver.copy(*((host, device) if queue == Queue.D2H else (device, host)))
            driver.record(end, stream)
        return start, end

    def both(self) -> dict[Queue, float]:
        """Return the share of its speed that each direction keeps while the other one is busy too."""
        spans = self._beside(dict.fromkeys(DIRECTIONS, self._repeats), None)[0]
        busy = {queue: _inside(spans[queue], _hull(spans[_other(queue)])) for queue in DIRECTIONS}
        return {queue: self._copy_ns(queue) / _mean(busy[queue]) for queue in DIRECTIONS}

    def beside(self, queue: Queue, load: Load, alone_ns: int) -> tuple[float, float]:
        """Return the shares of their speeds that a direction and a load of ``alone_ns`` keep while both work."""
        copy_ns = self._copy_ns(queue)
        count = int(np.clip(2 * alone_ns // copy_ns + 2, 4, MOST_BESIDE))
        spans, taken = self._beside({queue: count}, load)
        assert taken is not None
        return copy_ns / _mean(_inside(spans[queue], taken)), alone_ns / max(1, taken[1] - taken[0])

    def _copy_ns(self, queue: Queue) -> float:
        """Return how long one of the largest copies takes alone, in ns."""
        return _mean(self._timed(queue, max(self.sizes), self._repeats, self._host))

    def load_alone(self, load: Load) -> int:
        """Return how long the load takes with nothing beside it, in ns. Call it before :meth:`beside`."""
        self._beside({}, load)  # the first run shows how long the host takes to launch it
        taken = self._beside({}, load)[1]
        assert taken is not None
        return taken[1] - taken[0]

    def _beside(self, counts: dict[Queue, int], load: Load | None) -> tuple[dict[Queue, list[Span]], Span | None]:
        """Return the spans of copies and of the load, all held back until the host has launched most of it."""
        driver, compute = self._driver, self._driver.stream(Queue.COMPUTE)
        zero, start, end = (self._event() for _ in range(3))
        driver.synchronize()
        with driver.using(compute):
            driver.spin(LEAD_NS * (2 + sum(counts.values())) + 2 * self._load_issue_ns)
            driver.record(zero, compute)
        events: dict[Queue, list[tuple[Event, Event]]] = {}
        for queue, count in counts.items():
            driver.wait(driver.stream(queue), zero)
            events[queue] = [self._issue(queue, max(self.sizes), self._host) for _ in range(count)]
        with driver.using(compute):
            driver.record(start, compute)
            if load is not None:
                began = driver.host_ns()
                load()
                self._load_issue_ns = driver.host_ns() - began
            driver.record(end, compute)
        driver.synchronize()

        def since(event: Event) -> int:
            return driver.elapsed_ns(zero, event)

        spans = {queue: [(since(a), since(b)) for a, b in pairs] for queue, pairs in events.items()}
        return spans, None if load is None else (since(start), since(end))


def duplex(alone: dict[Queue, int], kept: dict[Queue, float]) -> SharedLinks | None:
    """Return what both directions share where together they give less than each alone; None where they do not.

    ``alone`` holds bytes/s, ``kept`` the share of them that is left to each direction.
    """
    if all(kept[queue] >= FULL_DUPLEX for queue in DIRECTIONS):
        return None
    both = {queue: alone[queue] * min(1.0, kept[queue]) for queue in DIRECTIONS}
    total = round(sum(both.values()))
    weights = {queue: max(1, round(MOST_WEIGHT * both[queue] / max(both.values()))) for queue in DIRECTIONS}
    return SharedLinks(duplex=total, d2h_weight=weights[Queue.D2H], h2d_weight=weights[Queue.H2D])


def _other(queue: Queue) -> Queue:
    return Queue.H2D if queue == Queue.D2H else Queue.D2H


def _hull(spans: Sequence[Span]) -> Span:
    return min(start for start, _ in spans), max(end for _, end in spans)


def _inside(spans: Sequence[Span], within: Span) -> list[Span]:
    """Return the spans that lie wholly in another one, or the first of all where none does."""
    return [span for span in spans if within[0] <= span[0] and span[1] <= within[1]] or [*spans[:1]]


def _mean(spans: Sequence[Span]) -> float:
    """Return the mean length in ns, at least 1."""
    return max(1.0, float(np.mean([end - start for start, end in spans])))
