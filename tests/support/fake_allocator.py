"""The rules of torch's caching allocator, over made-up addresses: what it hands out, what it holds, what it counts.

The rules and the names of the constants are those of torch's ``c10/cuda/CUDACachingAllocator.cpp`` (round_size,
get_allocation_size, should_split, get_free_block, free_block), as torch is set without PYTORCH_CUDA_ALLOC_CONF. Not
here: memory that runs out, and what torch then gives back to the system.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from tests.support.gpu_record import Block

MIB = 1 << 20
# kMinBlockSize: sizes are multiples of it.
GRAIN = 512
# kSmallSize: the largest request to the small pool, and the largest rest that is not split off in the large one.
SMALL = 1 * MIB
# kSmallBuffer, kLargeBuffer: segments that several blocks are cut from.
SMALL_SEGMENT, LARGE_SEGMENT = 2 * MIB, 20 * MIB
# kMinLargeAlloc: from here on a segment is made for one request; kRoundLarge: its size is a multiple of this.
OWN_SEGMENT, OWN_GRAIN = 10 * MIB, 2 * MIB


@dataclass(slots=True)
class Level:
    """Bytes now, and the most since :meth:`reset`."""

    now: int = 0
    peak: int = 0

    def add(self, nbytes: int) -> None:
        self.now += nbytes
        self.peak = max(self.peak, self.now)

    def reset(self) -> None:
        self.peak = self.now


@dataclass(slots=True, eq=False)
class _Piece:
    """A part of a segment, between its neighbours there. ``fresh`` is memory that never was anyone's."""

    address: int
    size: int
    pool: _Pool
    before: _Piece | None = None
    after: _Piece | None = None
    free: bool = True
    fresh: bool = True
    requested: int = 0

    def cut(self, size: int) -> _Piece:
        """Keep the first bytes; the rest is a piece of its own."""
        rest = _Piece(self.address + size, self.size - size, self.pool, self, self.after, fresh=self.fresh)
        if self.after is not None:
            self.after.before = rest
        self.size, self.after = size, rest
        return rest

    def swallow(self, after: _Piece) -> None:
        """Be one with the next piece."""
        self.size += after.size
        self.fresh = self.fresh and after.fresh
        self.after = after.after
        if self.after is not None:
            self.after.before = self


class _Pool:
    """The free pieces of one stream's small or large segments, the smallest first, then by address.

    What is left of a piece is split off from ``least_rest`` bytes on.
    """

    def __init__(self, least_rest: int) -> None:
        self.least_rest = least_rest
        self._order: list[tuple[int, int]] = []
        self._pieces: dict[int, _Piece] = {}

    def add(self, piece: _Piece) -> None:
        insort(self._order, (piece.size, piece.address))
        self._pieces[piece.address] = piece

    def remove(self, piece: _Piece) -> None:
        del self._order[bisect_left(self._order, (piece.size, piece.address))]
        del self._pieces[piece.address]

    def best(self, size: int, fresh: bool) -> _Piece | None:
        """The smallest that is large enough, then the one at the lowest address."""
        for _, address in self._order[bisect_left(self._order, (size, 0)) :]:
            if not fresh or self._pieces[address].fresh:
                return self._pieces[address]
        return None


class FakeAllocator:
    """Hands out blocks and takes them back.

    Attributes:
        requested: bytes that were asked for.
        allocated: bytes of the blocks they lie in.
        reserved: bytes of the segments.
    """

    def __init__(self) -> None:
        self.requested, self.allocated, self.reserved = Level(), Level(), Level()
        self._pools: dict[tuple[str, bool], _Pool] = {}
        self._taken: dict[int, _Piece] = {}
        self._end = 0

    def take(self, nbytes: int, stream: str, *, fresh: bool = False) -> Block:
        """A block of at least so many bytes, of which there is at least one; ``fresh``: of memory never used before."""
        assert nbytes > 0, "torch does not ask its allocator for nothing"
        size = _rounded(nbytes, GRAIN)
        pool = self._pool(stream, small=size <= SMALL)
        piece = pool.best(size, fresh) or self._segment(pool, size)
        pool.remove(piece)
        if piece.size - size >= pool.least_rest:
            pool.add(piece.cut(size))
        piece.free, piece.fresh, piece.requested = False, False, nbytes
        self._taken[piece.address] = piece
        self.requested.add(nbytes)
        self.allocated.add(piece.size)
        return Block(piece.address, piece.size)

    def give_back(self, block: Block) -> None:
        """The block is free, at once in the host's order, and one with what is free beside it."""
        piece = self._taken.pop(block.address)
        self.requested.add(-piece.requested)
        self.allocated.add(-piece.size)
        piece.free = True
        pool, before, after = piece.pool, piece.before, piece.after
        if after is not None and after.free:
            pool.remove(after)
            piece.swallow(after)
        if before is not None and before.free:
            pool.remove(before)
            before.swallow(piece)
            piece = before
        pool.add(piece)

    def reset_peaks(self) -> None:
        for level in (self.requested, self.allocated, self.reserved):
            level.reset()

    def _pool(self, stream: str, small: bool) -> _Pool:
        if (stream, small) not in self._pools:
            self._pools[stream, small] = _Pool(least_rest=GRAIN if small else SMALL + 1)
        return self._pools[stream, small]

    def _segment(self, pool: _Pool, size: int) -> _Piece:
        """Memory of the system, all of it one free piece."""
        piece = _Piece(self._end, _segment_size(size), pool)
        self._end += piece.size
        self.reserved.add(piece.size)
        pool.add(piece)
        return piece


def _segment_size(size: int) -> int:
    if size <= SMALL:
        return SMALL_SEGMENT
    return LARGE_SEGMENT if size < OWN_SEGMENT else _rounded(size, OWN_GRAIN)


def _rounded(nbytes: int, grain: int) -> int:
    return -(-nbytes // grain) * grain
