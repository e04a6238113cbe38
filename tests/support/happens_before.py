"""Races in a record of GPU calls, found with vector clocks; nothing of ``loadahead.sim.verify`` is used here.

Ordered are: entries of one stream; an event's RECORD and what follows a WAIT for it; what the host has waited for and
what it asks for afterwards. Two accesses with a byte in common, at least one of them a write, must be ordered. Handing
memory out and taking it back are writes on the stream that it belongs to: torch's allocator gives freed bytes, in parts
or joined with others, to the next one who asks on that stream, without any wait.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.gpu_record import (
    HOST,
    Alloc,
    Entry,
    Free,
    HostRange,
    HostWait,
    Launch,
    Place,
    Record,
    Sync,
    Wait,
)

# The only stream on which device memory may be taken.
COMPUTE = "compute"
# The stream that copies boundaries to the host.
OUTWARD = "d2h"

Clock = dict[str, int]


@dataclass(frozen=True, slots=True)
class Violation:
    """``at`` and ``other`` are positions in the record; ``other`` is the earlier one, None where one entry is wrong."""

    rule: str
    at: int
    other: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


@dataclass(frozen=True, slots=True)
class _Access:
    """Entry ``at`` was the ``tick``-th of its stream and touched a place."""

    at: int
    tick: int
    place: Place
    write: bool
    what: str


def violations(entries: Sequence[Entry]) -> list[Violation]:
    """All that is wrong with a record, in its order. The record begins with nothing under way on the device."""
    checker = _Checker()
    for at, entry in enumerate(entries):
        checker.take(at, entry)
    return checker.found


def overwritten(entries: Sequence[Entry]) -> list[Violation]:
    """Host memory that stream d2h copies something else into before what it copied there was read, in order or not."""
    waiting: dict[HostRange, tuple[int, Launch]] = {}
    found = []
    for at, entry in enumerate(entries):
        if not isinstance(entry, Launch):
            continue
        for held in [held for held in waiting if any(_meet_in_host(held, read) for read in entry.reads)]:
            del waiting[held]
        places = [place for place in entry.writes if isinstance(place, HostRange)] if entry.stream == OUTWARD else []
        for place in places:
            for held, (other, before) in waiting.items():
                if _meet_in_host(held, place) and before.reads != entry.reads:
                    message = f"entry {at} fills {place} and nobody has read what entry {other} put there"
                    found.append(Violation("overwritten", at, other, message))
            waiting[place] = at, entry
    return found


class _Checker:
    """Vector clocks of the streams, of the host and of the events, and who touched what so far."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self._clocks: defaultdict[str, Clock] = defaultdict(dict)
        self._events: dict[int, Clock] = {}
        self._touched: defaultdict[object, defaultdict[str, list[_Access]]] = defaultdict(lambda: defaultdict(list))

    def take(self, at: int, entry: Entry) -> None:
        match entry:
            case Launch(stream, name, reads, writes):
                what = f"{name} on stream {stream} (entry {at})"
                self._step(at, stream, [(place, False, what) for place in reads] + [(p, True, what) for p in writes])
            case Alloc(stream, block, name):
                self._step(at, stream, [(block, True, f"the allocation {_named(name)}on stream {stream} (entry {at})")])
                if stream != COMPUTE:
                    self._report("allocation", at, None, f"{block} is allocated {_named(name)}on stream {stream}")
            case Free(stream, block, name):
                self._step(at, stream, [(block, True, f"the free {_named(name)}on stream {stream} (entry {at})")])
            case Record(stream, event):
                self._meet(stream, HOST)
                self._events[event] = dict(self._clocks[stream])
            case Wait(stream, event):
                self._wait(at, stream, event)
            case HostWait(stream, name):
                self._meet(HOST, stream)
                self._report("host wait", at, None, f"{name} makes the host wait for stream {stream} (entry {at})")
            case Sync():
                for stream in list(self._clocks):
                    self._meet(HOST, stream)

    def _step(self, at: int, stream: str, accesses: Sequence[tuple[Place, bool, str]]) -> None:
        """One more entry of the stream, and what it touches."""
        self._meet(stream, HOST)
        clock = self._clocks[stream]
        clock[stream] = tick = clock.get(stream, 0) + 1
        for place, write, what in accesses:
            self._touch(stream, _Access(at, tick, place, write, what))

    def _touch(self, stream: str, access: _Access) -> None:
        clock = self._clocks[stream]
        owners = self._touched[_whole(access.place)]
        for other, earlier in owners.items():
            for before in reversed(earlier):
                if before.tick <= clock.get(other, 0):
                    break  # and so is all before it
                if (access.write or before.write) and _overlap(access.place, before.place):
                    message = f"{before.what} and {access.what} touch {access.place} and no one says in which order"
                    self._report("race", access.at, before.at, message)
        owners[stream].append(access)

    def _wait(self, at: int, stream: str, event: int) -> None:
        if event not in self._events:
            message = f"stream {stream} waits for event {event}, which was never recorded (entry {at})"
            self._report("wait", at, None, message)
            return
        _join(self._clocks[stream], self._events[event])

    def _meet(self, stream: str, other: str) -> None:
        """All that ``other`` has behind it, the stream has behind it too."""
        _join(self._clocks[stream], self._clocks[other])

    def _report(self, rule: str, at: int, other: int | None, message: str) -> None:
        self.found.append(Violation(rule, at, other, message))


def _join(into: Clock, other: Clock) -> None:
    for stream, tick in other.items():
        into[stream] = max(into.get(stream, 0), tick)


def _whole(place: Place) -> object:
    """Equal for places that can overlap."""
    return ("host", place.slab) if isinstance(place, HostRange) else ("device", place.segment)


def _meet_in_host(held: HostRange, place: Place) -> bool:
    """Whether a place is host memory and has a byte of another."""
    return _whole(held) == _whole(place) and _overlap(held, place)


def _overlap(a: Place, b: Place) -> bool:
    """Whether two places of one whole have a byte in common."""
    return max(a.begin, b.begin) < min(a.end, b.end)


def _named(name: str) -> str:
    return f"by {name} " if name else ""
