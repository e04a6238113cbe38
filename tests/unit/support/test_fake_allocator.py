"""torch's caching allocator as the stand-in has it, by sequences worked out by hand.

What the sizes are is torch's own test as well: ``test_graph_memory_stats_and_use_result_after_destroy_graph`` of
test/test_cuda.py, from which the first cases are.
"""

from __future__ import annotations

import random

import pytest

from tests.support.fake_allocator import GRAIN, MIB, CachingAllocator, Piece

KIB = 1024


def spans(*pieces: Piece) -> list[tuple[int, int, int]]:
    return [(piece.segment, piece.begin, piece.size) for piece in pieces]


@pytest.mark.parametrize(
    ("nbytes", "segment"),
    [
        (512, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 512, 12 * MIB),
        (64 * MIB, 64 * MIB),
    ],
)
def test_segments(nbytes: int, segment: int) -> None:
    allocator = CachingAllocator()
    allocator.allocate(nbytes, "compute")
    assert allocator.reserved.now == segment


@pytest.mark.parametrize(("nbytes", "size"), [(1, 512), (512, 512), (513, 1024), (MIB - 1, MIB), (MIB + 1, MIB + 512)])
def test_requests_are_rounded_up(nbytes: int, size: int) -> None:
    allocator = CachingAllocator()
    assert allocator.allocate(nbytes, "compute").size == size
    assert (allocator.requested.now, allocator.allocated.now) == (nbytes, size)


def test_small_pieces_are_cut_to_the_last_grain() -> None:
    allocator = CachingAllocator()
    first, second = allocator.allocate(MIB, "compute"), allocator.allocate(MIB - 512, "compute")
    last = allocator.allocate(1, "compute")  # what the others left
    assert spans(first, second, last) == [(1, 0, MIB), (1, MIB, MIB - 512), (1, 2 * MIB - 512, 512)]
    assert allocator.reserved.now == 2 * MIB


def test_a_large_piece_is_cut_only_where_more_than_a_mib_is_left() -> None:
    allocator = CachingAllocator()
    whole = allocator.allocate(12 * MIB, "compute")
    allocator.free(whole)
    cut = allocator.allocate(11 * MIB - 512, "compute")
    assert cut.size == 11 * MIB - 512
    allocator.free(cut)
    whole = allocator.allocate(11 * MIB, "compute")  # a MiB exactly would be left
    assert (whole.size, allocator.requested.now, allocator.allocated.now) == (12 * MIB, 11 * MIB, 12 * MIB)
    assert allocator.reserved.now == 12 * MIB


def test_pools_do_not_help_each_other() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.allocate(64 * MIB, "compute"))
    small, other = allocator.allocate(MIB, "compute"), allocator.allocate(64 * MIB, "d2h")
    assert spans(small, other) == [(2, 0, MIB), (3, 0, 64 * MIB)]
    assert allocator.reserved.now == (64 + 2 + 64) * MIB


def test_the_smallest_that_fits_and_of_these_the_first() -> None:
    allocator = CachingAllocator()
    sizes = (8, 2, 4, 2, 4, 2)  # KiB; every second one is then free
    pieces = [allocator.allocate(size * KIB, "compute") for size in sizes]
    rest = allocator.allocate(2 * MIB - 22 * KIB - MIB, "compute"), allocator.allocate(MIB, "compute")
    for piece in pieces[::2]:
        allocator.free(piece)
    assert spans(allocator.allocate(4 * KIB, "compute")) == [(1, 10 * KIB, 4 * KIB)]
    assert spans(allocator.allocate(3 * KIB, "compute")) == [(1, 16 * KIB, 3 * KIB)]
    assert spans(allocator.allocate(512, "compute")) == [(1, 19 * KIB, 512)]  # what was cut off there
    assert spans(allocator.allocate(8 * KIB, "compute")) == [(1, 0, 8 * KIB)]
    assert len(rest) == 2 and allocator.reserved.now == 2 * MIB


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_neighbours_that_are_free_join(order: tuple[int, ...]) -> None:
    allocator = CachingAllocator()
    pieces = [allocator.allocate(512 * KIB, "compute") for _ in range(3)]
    fence = allocator.allocate(512 * KIB, "compute")
    for at in order:
        allocator.free(pieces[at])
    assert spans(allocator.allocate(MIB, "compute")) == [(1, 0, MIB)]
    assert spans(allocator.allocate(512 * KIB, "compute")) == [(1, MIB, 512 * KIB)]
    assert fence.requested == 512 * KIB


def test_segments_never_join() -> None:
    allocator = CachingAllocator()
    for piece in [allocator.allocate(20 * MIB, "compute") for _ in range(2)]:
        allocator.free(piece)
    assert spans(allocator.allocate(40 * MIB, "compute")) == [(3, 0, 40 * MIB)]


def test_what_was_there_before_has_a_segment_of_its_size() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.allocate(600, "compute"))
    assert spans(allocator.adopt(600, "compute")) == [(2, 0, 1024)]
    assert allocator.reserved.now == 2 * MIB + 1024


def test_peaks() -> None:
    allocator = CachingAllocator()
    first, second = allocator.allocate(700, "compute"), allocator.allocate(100, "compute")
    allocator.free(first)
    levels = allocator.requested, allocator.allocated, allocator.reserved
    assert [(level.now, level.peak) for level in levels] == [(100, 800), (512, 1536), (2 * MIB, 2 * MIB)]
    allocator.reset_peaks()
    allocator.free(second)
    assert [(level.now, level.peak) for level in levels] == [(0, 100), (0, 512), (2 * MIB, 2 * MIB)]


@pytest.mark.parametrize("seed", range(3))
def test_no_two_pieces_ever_have_a_byte_in_common(seed: int) -> None:
    """And once all is free, each segment is whole again."""
    allocator, draw = CachingAllocator(), random.Random(seed)
    held: list[Piece] = []
    for _ in range(600):
        if held and draw.random() < 0.48:
            allocator.free(held.pop(draw.randrange(len(held))))
        else:
            size = draw.choice((1, 300, 5_000, 70_000, MIB, 3 * MIB, 9 * MIB, 21 * MIB))
            held.append(allocator.allocate(draw.randint(1, size), draw.choice(("compute", "h2d"))))
        found = sorted((piece.segment, piece.begin, piece.end) for piece in held)
        assert all(a[0] != b[0] or a[2] <= b[1] for a, b in zip(found, found[1:], strict=False))
        assert allocator.allocated.now == sum(piece.size for piece in held)
        assert all(piece.size >= (piece.requested or 0) and piece.size % GRAIN == 0 for piece in held)
    for piece in held:
        allocator.free(piece)
    free = [piece for pool in allocator._free.values() for piece in pool]
    assert sum(piece.size for piece in free) == allocator.reserved.now
    assert len(free) == len({piece.segment for piece in free})
