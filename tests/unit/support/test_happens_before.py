"""The race checker on records written by hand, and against an explicit graph on records at random."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.gpu_record import HOST, Alloc, Block, Entry, Free, HostRange, HostWait, Launch, Record, Sync, Wait
from tests.support.happens_before import overwritten, violations
from tests.support.order_graph import needed, unordered

A, B = Block(1, 0, 1024), Block(1, 1024, 1536)
# What the allocator may hand out of both once they are free, and the same bytes of another segment.
ACROSS, PART, ELSEWHERE = Block(1, 512, 1536), Block(1, 512, 1024), Block(2, 0, 1024)
LOW, MIDDLE, HIGH = HostRange(1, 0, 8), HostRange(1, 4, 12), HostRange(1, 8, 16)
COMPUTE, D2H, H2D = "compute", "d2h", "h2d"

WRITE = Launch(COMPUTE, "forward", writes=(A,))
OUT = Launch(D2H, "out", reads=(A,), writes=(LOW,))
IN = Launch(H2D, "in", reads=(LOW,), writes=(B,))
IN_ORDER = Launch(COMPUTE, "forward", writes=(B,))

AGAIN = Launch(D2H, "out", reads=(B,), writes=(MIDDLE,))


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([OUT, AGAIN], [(0, 1)]),
        ([OUT, IN, AGAIN], []),
        ([OUT, OUT, IN], []),  # the same once more, as for a slower link
        ([OUT, Launch(D2H, "out", reads=(B,), writes=(HIGH,))], []),
        ([OUT, AGAIN, IN, OUT], [(0, 1)]),
    ],
)
def test_what_was_copied_out_is_read_before_it_is_overwritten(
    entries: list[Entry], found: list[tuple[int, int]]
) -> None:
    assert [(v.other, v.at) for v in overwritten(entries)] == found


RACES: dict[str, list[Entry]] = {
    "no order": [WRITE, OUT],
    "recorded, not waited for": [WRITE, Record(COMPUTE, 1), OUT],
    "recorded too early": [Record(COMPUTE, 1), WRITE, Wait(D2H, 1), OUT],
    "waited for too late": [WRITE, Record(COMPUTE, 1), OUT, Wait(D2H, 1)],
    "waited for by another stream": [WRITE, Record(COMPUTE, 1), Wait(H2D, 1), OUT],
    "recorded on another stream": [WRITE, Record(H2D, 1), Wait(D2H, 1), OUT],
    "recorded again": [Record(COMPUTE, 1), WRITE, Wait(D2H, 1), OUT, Record(COMPUTE, 1)],
    "one host range": [OUT, Launch(H2D, "in", reads=(LOW,))],
    "host ranges that overlap": [OUT, Launch(H2D, "in", reads=(MIDDLE,))],
    "two writes": [WRITE, Launch(D2H, "fill", writes=(A,))],
    "memory in use is freed": [Launch(D2H, "out", reads=(A,)), Free(COMPUTE, A)],
    "memory in use is handed out": [Launch(D2H, "out", reads=(A,)), Alloc(COMPUTE, A)],
    "memory is used before it is handed out": [Alloc(COMPUTE, B), IN],
    "a part of memory in use is handed out": [Launch(D2H, "out", reads=(A,)), Alloc(COMPUTE, PART)],
    "memory in use is handed out joined with other": [Launch(D2H, "out", reads=(A,)), Alloc(COMPUTE, ACROSS)],
    "one part is written while another holds more": [WRITE, Launch(D2H, "fill", writes=(PART,))],
    "the host reads early": [OUT, Launch(HOST, "look", reads=(LOW,))],
    "the host has waited for another": [OUT, IN_ORDER, HostWait(COMPUTE, "item"), Launch(HOST, "look", reads=(LOW,))],
}
SOUND: dict[str, list[Entry]] = {
    "one stream": [WRITE, Launch(COMPUTE, "read", reads=(A,)), Free(COMPUTE, A), Alloc(COMPUTE, A), WRITE],
    "record and wait": [WRITE, Record(COMPUTE, 1), Wait(D2H, 1), OUT],
    "by way of a third": [WRITE, Record(COMPUTE, 1), Wait(H2D, 1), Record(H2D, 2), Wait(D2H, 2), OUT],
    "synchronize": [WRITE, Sync(), OUT, Sync(), IN, Sync(), Launch(HOST, "look", reads=(LOW,), writes=(LOW,)), OUT],
    "two reads": [Launch(D2H, "out", reads=(A,)), Launch(COMPUTE, "read", reads=(A,))],
    "host ranges side by side": [OUT, Launch(H2D, "in", reads=(HIGH,))],
    "ranges of two slabs": [OUT, Launch(H2D, "in", reads=(HostRange(2, 0, 8),))],
    "freed once it is waited for": [OUT, Record(D2H, 1), Wait(COMPUTE, 1), Free(COMPUTE, A)],
    "blocks side by side": [WRITE, Launch(D2H, "fill", writes=(B,)), Free(COMPUTE, A), Alloc(COMPUTE, PART)],
    "segments have bytes of their own": [WRITE, Launch(D2H, "fill", writes=(ELSEWHERE,))],
    "a block and a slab of one number": [WRITE, Launch(D2H, "out", writes=(HostRange(1, 0, 8),))],
    "the host's own": [Launch(HOST, "fill", writes=(LOW,)), Launch(HOST, "fill", writes=(LOW,)), OUT],
}


@pytest.mark.parametrize("record", RACES.values(), ids=RACES)
def test_one_race_is_reported(record: list[Entry]) -> None:
    assert [v.rule for v in violations(record) if v.rule != "host wait"] == ["race"]


@pytest.mark.parametrize("record", SOUND.values(), ids=SOUND)
def test_sound(record: list[Entry]) -> None:
    assert violations(record) == []


def test_the_message_names_both() -> None:
    (found,) = violations([WRITE, OUT])
    assert str(found) == (
        "race: forward on stream compute (entry 0) and out on stream d2h (entry 1) touch bytes 0 to 1024 of device "
        "segment 1 and no one says in which order"
    )


def test_allocation_on_a_copy_stream() -> None:
    (found,) = violations([Alloc(H2D, A, "empty")])
    assert found.rule == "allocation" and "by empty on stream h2d" in str(found)


def test_an_event_that_was_never_recorded() -> None:
    (found,) = violations([Wait(H2D, 4), Record(COMPUTE, 4)])
    assert found.rule == "wait" and "event 4" in str(found)


def test_the_host_waits() -> None:
    (found,) = violations([WRITE, HostWait(COMPUTE, "item"), OUT])  # and what it waited for is in order
    assert found.rule == "host wait" and "item" in str(found)


def test_needed_waits() -> None:
    again = Launch(H2D, "again", reads=(A,))
    record = [WRITE, Record(COMPUTE, 1), Wait(D2H, 1), OUT, Record(D2H, 2), Wait(H2D, 2), IN, Wait(H2D, 1), again]
    assert needed(record) == {2, 5}  # what the third waits for, the second has waited for by way of the first
    assert needed([*record, Record(H2D, 3), Wait(COMPUTE, 3), again]) == {2, 5}  # it orders what does not conflict


@st.composite
def records(draw: st.DrawFn) -> list[Entry]:
    """Any calls over three streams and the host, blocks and ranges that overlap, three events."""
    device = st.sampled_from([COMPUTE, D2H, H2D])
    places = st.lists(st.sampled_from([A, B, PART, ACROSS, ELSEWHERE, LOW, MIDDLE, HIGH]), max_size=2).map(tuple)
    event = st.integers(1, 3)
    block = st.sampled_from([A, B, PART, ACROSS])
    launch = st.builds(Launch, st.sampled_from([COMPUTE, D2H, H2D, HOST]), st.just("work"), places, places)
    entry = st.one_of(
        launch,
        launch,
        st.builds(Record, device, event),
        st.builds(Wait, device, event),
        st.builds(Alloc, device, block),
        st.builds(Free, device, block),
        st.builds(HostWait, device, st.just("item")),
        st.just(Sync()),
    )
    return draw(st.lists(entry, max_size=14))


@settings(max_examples=500, deadline=None)
@given(records())
def test_races_are_those_of_the_graph(record: list[Entry]) -> None:
    assert {(v.other, v.at) for v in violations(record) if v.rule == "race"} == unordered(record)
