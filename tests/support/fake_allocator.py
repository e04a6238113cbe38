"""torch's caching allocator on one device: which bytes it hands out, and how many it counts.

The rules and sizes are those of c10/cuda/CUDACachingAllocator.cpp (in newer versions of torch the sizes are in
c10/core/AllocatorConfig.h) with its default settings. Left out is what happens when the device is full, as this one
never is: nothing goes back to the system.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

MIB = 1 << 20
GRAIN = 512  # kMinBlockSize: sizes are rounded up to multiples of it
SMALL = MIB  # kSmallSize: the most that comes from the pool of small blocks
SMALL_SEGMENT = 2 * MIB  # kSmallBuffer
LARGE_SEGMENT = 20 * MIB  # kLargeBuffer
OWN_SEGMENT = 10 * MIB  # kMinLargeAlloc: from here on a request gets a segment of its own size
ROUND_LARGE = 2 * MIB  # kRoundLarge: a multiple of which that size is


@dataclass(slots=True)
class Level:
    """A number of bytes, and the most that it was."""

    now: int = 0
    peak: int = 0

    def add(self, nbytes: int) -> None:
        self.now += nbytes
        self.peak = max(self.peak, self.now)

    def reset(self) -> None:
        self.peak = self.now


@dataclass(slots=True, eq=False)
class Piece:
    """Bytes ``begin`` to ``begin + size`` of a segment, handed out whole or free.

    ``requested`` is what was asked for, None where the piece is free; ``before`` and ``after`` are its neighbours.
    """

    segment: int
    begin: int
    size: int
    pool: tuple[str, bool]
    requested: int | None = None
    before: Piece | None = None
    after: Piece | None = None

    @property
    def end(self) -> int:
        return self.begin + self.size


class CachingAllocator:
    """Hands memory out and takes it back, at once and in the host's order.

    Attributes:
        requested: bytes asked for.
        allocated: bytes of the pieces handed out.
        reserved: bytes of all segments.
    """

    def __init__(self) -> None:
        self.requested, self.allocated, self.reserved = Level(), Level(), Level()
        self._free: defaultdict[tuple[str, bool], list[Piece]] = defaultdict(list)
        self._segments = 0

    def allocate(self, nbytes: int, stream: str) -> Piece:
        """At least one byte, for use on a stream: the smallest free piece that is large enough, the first of these."""
        size = _rounded(nbytes)
        pool = stream, size <= SMALL
        fitting = [piece for piece in self._free[pool] if piece.size >= size]
        if fitting:
            piece = min(fitting, key=lambda piece: (piece.size, piece.segment, piece.begin))
            self._free[pool].remove(piece)
        else:
            piece = self._segment(_segment_size(size), pool)
        self._split(piece, size)
        return self._handed_out(piece, nbytes)

    def adopt(self, nbytes: int, stream: str) -> Piece:
        """Memory that was there before anyone looked: a segment that it fills."""
        size = _rounded(nbytes)
        return self._handed_out(self._segment(size, (stream, size <= SMALL)), nbytes)

    def free(self, piece: Piece) -> None:
        """Join the piece with what is free beside it."""
        assert piece.requested is not None, "it was freed before"
        self.requested.add(-piece.requested)
        self.allocated.add(-piece.size)
        piece.requested = None
        free = self._free[piece.pool]
        if piece.before is not None and piece.before.requested is None:
            free.remove(piece.before)
            piece = _joined(piece.before, piece)
        if piece.after is not None and piece.after.requested is None:
            free.remove(piece.after)
            piece = _joined(piece, piece.after)
        free.append(piece)

    def reset_peaks(self) -> None:
        for level in (self.requested, self.allocated, self.reserved):
            level.reset()

    def _handed_out(self, piece: Piece, nbytes: int) -> Piece:
        piece.requested = nbytes
        self.requested.add(nbytes)
        self.allocated.add(piece.size)
        return piece

    def _segment(self, size: int, pool: tuple[str, bool]) -> Piece:
        self._segments += 1
        self.reserved.add(size)
        return Piece(self._segments, 0, size, pool)

    def _split(self, piece: Piece, size: int) -> None:
        """Leave what is beyond the size to others, if it is enough to be of use; should_split decides that in torch."""
        rest = piece.size - size
        small = piece.pool[1]
        if not (rest >= GRAIN if small else rest > SMALL):
            return
        other = Piece(piece.segment, piece.begin + size, rest, piece.pool, None, piece, piece.after)
        if piece.after is not None:
            piece.after.before = other
        piece.size, piece.after = size, other
        self._free[piece.pool].append(other)


def _joined(first: Piece, second: Piece) -> Piece:
    first.size += second.size
    first.after = second.after
    if second.after is not None:
        second.after.before = first
    return first


def _rounded(nbytes: int) -> int:
    """round_size."""
    assert nbytes > 0, "torch asks for no memory where there are no bytes"
    return -(-nbytes // GRAIN) * GRAIN


def _segment_size(size: int) -> int:
    """get_allocation_size."""
    if size <= SMALL:
        return SMALL_SEGMENT
    if size < OWN_SEGMENT:
        return LARGE_SEGMENT
    return -(-size // ROUND_LARGE) * ROUND_LARGE
