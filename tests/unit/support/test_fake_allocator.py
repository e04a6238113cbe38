"""The allocator's rules on sequences made by hand, and what holds for any sequence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fake_allocator import FakeAllocator
from tests.support.gpu_record import Block

KIB, MIB = 1 << 10, 1 << 20
COMPUTE, H2D = "compute", "h2d"


def now(allocator: FakeAllocator) -> tuple[int, int, int]:
    return allocator.requested.now, allocator.allocated.now, allocator.reserved.now


def peaks(allocator: FakeAllocator) -> tuple[int, int, int]:
    return allocator.requested.peak, allocator.allocated.peak, allocator.reserved.peak


@pytest.mark.parametrize(
    ("requested", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB - 511, MIB, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),  # a segment of its own
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),  # the rest is more than 1 MiB
        (11 * MIB - 512, 11 * MIB - 512, 12 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),  # the rest is 1 MiB, and not split off
        (11 * MIB + 7, 12 * MIB, 12 * MIB),
        (100 * MIB - 5, 100 * MIB, 100 * MIB),
    ],
)
def test_one_request(requested: int, allocated: int, reserved: int) -> None:
    allocator = FakeAllocator()
    assert allocator.take(requested, COMPUTE) == Block(0, allocated)
    assert now(allocator) == peaks(allocator) == (requested, allocated, reserved)


def test_a_small_segment_is_cut_to_its_last_512_bytes() -> None:
    allocator = FakeAllocator()
    blocks = [allocator.take(size, COMPUTE) for size in (MIB, MIB - 512, 1, 1)]
    assert blocks == [
        Block(0, MIB),
        Block(MIB, MIB - 512),
        Block(2 * MIB - 512, 512),
        Block(2 * MIB, 512),  # in a second segment
    ]
    assert now(allocator) == (2 * MIB - 510, 2 * MIB + 512, 4 * MIB)


def test_a_large_segment_is_cut_until_1_mib_or_less_is_left() -> None:
    allocator = FakeAllocator()
    blocks = [allocator.take(size * MIB, COMPUTE) for size in (9, 9, 2, 3)]
    assert blocks == [Block(0, 9 * MIB), Block(9 * MIB, 9 * MIB), Block(18 * MIB, 2 * MIB), Block(20 * MIB, 3 * MIB)]
    allocator.give_back(blocks[2])
    assert allocator.take(MIB + 1, COMPUTE) == Block(18 * MIB, 2 * MIB)  # handed out whole
    assert now(allocator) == (22 * MIB + 1, 23 * MIB, 40 * MIB)


def test_small_and_large_requests_do_not_share_segments() -> None:
    allocator = FakeAllocator()
    allocator.give_back(allocator.take(5 * MIB, COMPUTE))
    assert allocator.take(1, COMPUTE) == Block(20 * MIB, 512)
    assert allocator.take(2 * MIB, COMPUTE) == Block(0, 2 * MIB)


def test_the_smallest_that_is_large_enough_is_taken() -> None:
    allocator = FakeAllocator()
    sizes = [8 * KIB, 512, 3 * KIB, 512, 2 * KIB, 512]
    blocks = [allocator.take(size, COMPUTE) for size in sizes]
    for block in blocks[::2]:
        allocator.give_back(block)
    assert allocator.take(2 * KIB - 100, COMPUTE) == blocks[4]
    assert allocator.take(2 * KIB - 100, COMPUTE) == Block(blocks[2].address, 2 * KIB)  # and 1 KiB of it is left
    assert allocator.take(1 * KIB, COMPUTE) == Block(blocks[2].address + 2 * KIB, KIB)


def test_of_equal_ones_that_at_the_lowest_address_is_taken_whatever_was_freed_last() -> None:
    allocator = FakeAllocator()
    blocks = [allocator.take(512, COMPUTE) for _ in range(6)]
    for at in (4, 0, 2):
        allocator.give_back(blocks[at])
    assert [allocator.take(512, COMPUTE) for _ in range(3)] == [blocks[0], blocks[2], blocks[4]]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_what_is_freed_joins_with_what_is_free_on_both_sides(order: tuple[int, ...]) -> None:
    allocator = FakeAllocator()
    blocks = [allocator.take(size * KIB, COMPUTE) for size in (1, 2, 3, 2042)]
    assert blocks[-1] != Block(6 * KIB, 2042 * KIB)  # it is a large one
    fence = allocator.take(512, COMPUTE)
    assert fence == Block(6 * KIB, 512)
    for at in order:
        allocator.give_back(blocks[at])
    assert allocator.take(6 * KIB, COMPUTE) == Block(0, 6 * KIB)


def test_segments_do_not_join() -> None:
    allocator = FakeAllocator()
    first, second = allocator.take(10 * MIB, COMPUTE), allocator.take(10 * MIB, COMPUTE)
    assert second.address == first.end
    for block in (first, second):
        allocator.give_back(block)
    assert allocator.take(12 * MIB, COMPUTE) == Block(20 * MIB, 12 * MIB)


def test_streams_have_segments_of_their_own() -> None:
    allocator = FakeAllocator()
    allocator.give_back(allocator.take(512, COMPUTE))
    copied = allocator.take(512, H2D)
    assert copied == Block(2 * MIB, 512)
    allocator.give_back(copied)
    assert allocator.take(MIB, H2D) == Block(2 * MIB, MIB)
    assert allocator.take(MIB, COMPUTE) == Block(0, MIB)


def test_peaks_begin_anew() -> None:
    allocator = FakeAllocator()
    a, b = allocator.take(100, COMPUTE), allocator.take(11 * MIB, COMPUTE)
    allocator.give_back(b)
    assert now(allocator) == (100, 512, 14 * MIB)
    assert peaks(allocator) == (11 * MIB + 100, 12 * MIB + 512, 14 * MIB)
    allocator.reset_peaks()
    allocator.give_back(a)
    assert peaks(allocator) == (100, 512, 14 * MIB)
    assert now(allocator) == (0, 0, 14 * MIB)


def test_fresh_memory_was_never_anyones() -> None:
    allocator = FakeAllocator()
    blocks = [allocator.take(512, COMPUTE) for _ in range(3)]
    allocator.give_back(blocks[0])
    assert allocator.take(512, COMPUTE, fresh=True) == Block(1536, 512)
    assert allocator.take(512, COMPUTE) == blocks[0]
    allocator.give_back(Block(1536, 512))  # one with what comes after it
    assert allocator.take(512, COMPUTE, fresh=True) == Block(2 * MIB, 512)


def test_only_what_was_handed_out_can_be_given_back() -> None:
    allocator = FakeAllocator()
    block = allocator.take(512, COMPUTE)
    allocator.give_back(block)
    with pytest.raises(KeyError):
        allocator.give_back(block)
    with pytest.raises(AssertionError, match="nothing"):
        allocator.take(0, COMPUTE)


SIZES = st.one_of(st.integers(1, 4 * KIB), st.integers(1, 3 * MIB), st.integers(1, 30 * MIB))
ACTIONS = st.one_of(SIZES, SIZES, st.floats(0, 1, exclude_max=True))  # take so much, or free one of those


@settings(deadline=None)
@given(st.lists(st.tuples(ACTIONS, st.sampled_from([COMPUTE, H2D])), max_size=60))
def test_any_sequence(actions: list[tuple[int | float, str]]) -> None:
    """Blocks do not overlap, are large enough and not by much, and counts are those of the blocks that are out."""
    allocator = FakeAllocator()
    out: list[tuple[Block, int, str]] = []
    largest: dict[str, int] = {}
    for action, stream in actions:
        if isinstance(action, int):
            block = allocator.take(action, stream)
            assert block.address % 512 == block.nbytes % 512 == 0
            assert 0 <= block.nbytes - action < (512 if action <= MIB else MIB + 512)
            assert all(block.end <= other.address or other.end <= block.address for other, _, _ in out)
            out.append((block, action, stream))
            largest[stream] = max(action, largest.get(stream, 0))
        elif out:
            allocator.give_back(out.pop(int(action * len(out)))[0])
        requested, allocated, reserved = now(allocator)
        assert requested == sum(size for _, size, _ in out)
        assert allocated == sum(block.nbytes for block, _, _ in out) <= reserved
    for block, _, _ in out:
        allocator.give_back(block)
    assert now(allocator)[:2] == (0, 0)
    held = allocator.reserved.now
    for stream, size in largest.items():  # for what was cut up is whole again
        allocator.take(size, stream)
    assert allocator.reserved.now == held
