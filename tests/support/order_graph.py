"""The order that a record of GPU calls lays down, as an explicit graph; nothing of the vector clocks is used here."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tests.support.gpu_record import HOST, Alloc, Block, Entry, Free, HostWait, Launch, Place, Record, Sync, Wait

Pair = tuple[int, int]


def before(entries: Sequence[Entry], without: Collection[int] = ()) -> list[int]:
    """For each entry the set of those ordered before it, as the bits of an integer.

    WAITs at the positions ``without`` keep their place in their stream and wait for nothing.
    """
    behind: list[int] = []
    last: dict[str, int] = {}  # entry of each stream; the host's is what it did or waited for last
    recorded: dict[int, int] = {}
    for at, entry in enumerate(entries):
        stream = HOST if isinstance(entry, Sync) else entry.stream
        sources = {last.get(stream), last.get(HOST)}
        if isinstance(entry, Wait) and at not in without:
            sources.add(recorded.get(entry.event))
        if isinstance(entry, Sync):
            sources.update(last.values())
        behind.append(sum(1 << s for s in sources if s is not None))
        for source in sources:
            behind[at] |= 0 if source is None else behind[source]
        last[stream] = at
        if isinstance(entry, Record):
            recorded[entry.event] = at
        if isinstance(entry, HostWait):
            last[HOST] = at
    return behind


def unordered(entries: Sequence[Entry]) -> set[Pair]:
    """Positions of accesses that conflict and stand in no order, the earlier one first."""
    behind = before(entries)
    return {(a, b) for a, b in conflicts(entries) if not behind[b] >> a & 1}


def needed(entries: Sequence[Entry]) -> set[int]:
    """Positions of the WAITs without which some accesses that conflict would stand in no order."""
    pairs, waits = conflicts(entries), [at for at, entry in enumerate(entries) if isinstance(entry, Wait)]
    return {at for at in waits if not _all(pairs, before(entries, {at}))}


def _all(pairs: Sequence[Pair], behind: Sequence[int]) -> bool:
    return all(behind[b] >> a & 1 for a, b in pairs)


def conflicts(entries: Sequence[Entry]) -> list[Pair]:
    """Positions of accesses of two streams with a byte in common that one of them writes, the earlier one first."""
    touching = [(at, entry) for at, entry in enumerate(entries) if isinstance(entry, Launch | Alloc | Free)]
    return [
        (a, b)
        for b, second in touching
        for a, first in touching
        if a < b and first.stream != second.stream and conflict(first, second)
    ]


def conflict(a: Launch | Alloc | Free, b: Launch | Alloc | Free) -> bool:
    """Whether two accesses have a byte in common that one of them writes."""
    reads_a, writes_a = _places(a)
    reads_b, writes_b = _places(b)
    pairs = [(x, y) for x in writes_a for y in reads_b + writes_b] + [(x, y) for x in reads_a for y in writes_b]
    return any(_meet(x, y) for x, y in pairs)


def _places(entry: Launch | Alloc | Free) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    if isinstance(entry, Launch):
        return entry.reads, entry.writes
    return (), (entry.block,)


def _meet(x: Place, y: Place) -> bool:
    if isinstance(x, Block) and isinstance(y, Block):
        return x.segment == y.segment and x.begin < y.end and y.begin < x.end
    if isinstance(x, Block) or isinstance(y, Block):
        return False
    return x.slab == y.slab and bool({*range(x.begin, x.end)} & {*range(y.begin, y.end)})
