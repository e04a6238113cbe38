"""What a stand-in GPU was asked to do, one entry per call, in the order in which the host asked."""

from __future__ import annotations

from dataclasses import dataclass

# The stream of what the host does itself, at once, when its turn comes.
HOST = "host"


@dataclass(frozen=True, slots=True)
class HostRange:
    """Bytes ``begin`` to ``end`` of a piece of host memory."""

    slab: int
    begin: int
    end: int

    def __str__(self) -> str:
        return f"bytes {self.begin} to {self.end} of host slab {self.slab}"


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes ``begin`` to ``end`` of a segment of device memory: one tensor after another may lie there, or in parts."""

    segment: int
    begin: int
    end: int

    def __str__(self) -> str:
        return f"bytes {self.begin} to {self.end} of device segment {self.segment}"


Place = Block | HostRange


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel or a copy, put on a stream."""

    stream: str
    name: str
    reads: tuple[Place, ...] = ()
    writes: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Alloc:
    """Memory handed out for use on a stream. Whatever the block held is lost from there on."""

    stream: str
    block: Block
    name: str = ""


@dataclass(frozen=True, slots=True)
class Free:
    """The block goes back to the stream that it was allocated on, which may hand it out again at once."""

    stream: str
    block: Block
    name: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """An event takes place at the present end of a stream."""

    stream: str
    event: int


@dataclass(frozen=True, slots=True)
class Wait:
    """What comes next on a stream starts after an event."""

    stream: str
    event: int


@dataclass(frozen=True, slots=True)
class HostWait:
    """The host stands still until a stream has run dry, because of what it asked for."""

    stream: str
    name: str


@dataclass(frozen=True, slots=True)
class Sync:
    """The host waits for all streams, on purpose."""


Entry = Launch | Alloc | Free | Record | Wait | HostWait | Sync
