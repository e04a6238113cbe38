"""Whose memory a CPU tensor stands for: the device's, in pieces of a caching allocator's segments, or the host's."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch

from tests.support.fake_allocator import CachingAllocator, Piece
from tests.support.gpu_record import Alloc, Block, Entry, Free, HostRange, Place


class Side(Enum):
    """Where a storage lies."""

    DEVICE = "device"
    PINNED = "pinned"
    PAGEABLE = "pageable"


@dataclass(frozen=True, slots=True)
class Home:
    """A storage's side; its number among the host's, or its block on the device, None where it has no bytes."""

    side: Side
    number: int = 0
    block: Block | None = None


class FakeMemory:
    """Finds out about storages as they are seen, and lets go of them as they die, both at once in the host's order.

    A block is the whole piece that the allocator hands out. It is what operators touch, whichever part of it their
    tensor lies in: one more byte in common is one more order to show.
    """

    def __init__(self, log: Callable[[Entry], None]) -> None:
        self.allocator = CachingAllocator()
        self.pinned = 0
        self._log = log
        self._homes: dict[int, Home] = {}
        self._held: dict[int, Piece] = {}
        self._slabs = 0

    def home(self, tensor: torch.Tensor) -> Home | None:
        """Where the tensor lies; None where it was never seen."""
        return self._homes.get(tensor.untyped_storage()._cdata)

    def place(self, tensor: torch.Tensor) -> Place | None:
        """What of the memory a seen and dense tensor touches; None for no bytes."""
        home = self._homes[tensor.untyped_storage()._cdata]
        begin, nbytes = tensor.storage_offset() * tensor.element_size(), tensor.numel() * tensor.element_size()
        if not nbytes:
            return None
        return home.block if home.side == Side.DEVICE else HostRange(home.number, begin, begin + nbytes)

    def allocate(self, tensor: torch.Tensor, stream: str, name: str) -> None:
        """The tensor is new, made on a stream."""
        nbytes = tensor.untyped_storage().nbytes()
        piece = self.allocator.allocate(nbytes, stream) if nbytes else None
        if piece is not None:
            self._log(Alloc(stream, _block(piece), name))
        self._hold(tensor, piece)

    def adopt(self, tensor: torch.Tensor, stream: str) -> None:
        """The tensor is the device's and was there before anyone looked."""
        nbytes = tensor.untyped_storage().nbytes()
        self._hold(tensor, self.allocator.adopt(nbytes, stream) if nbytes else None)

    def host(self, tensor: torch.Tensor, side: Side) -> None:
        """The tensor's storage is the host's."""
        self._slabs += 1
        self._remember(tensor, Home(side, self._slabs), self._homes.pop)

    def pin(self, slab: torch.Tensor) -> None:
        self.host(slab, Side.PINNED)
        self.pinned += slab.numel()

    def unpin(self, slab: torch.Tensor) -> None:
        home = self.home(slab)
        assert home is not None and home.side == Side.PINNED, "only what was pinned can be unpinned"
        self._homes[slab.untyped_storage()._cdata] = Home(Side.PAGEABLE, home.number)
        self.pinned -= slab.numel()

    def _hold(self, tensor: torch.Tensor, piece: Piece | None) -> None:
        if piece is None:
            self._remember(tensor, Home(Side.DEVICE), self._homes.pop)
            return
        key = self._remember(tensor, Home(Side.DEVICE, block=_block(piece)), self._free)
        self._held[key] = piece

    def _remember(self, tensor: torch.Tensor, home: Home, forget: Callable[[int], object]) -> int:
        storage = tensor.untyped_storage()
        key = int(storage._cdata)
        self._homes[key] = home
        weakref.finalize(storage, forget, key).atexit = False
        return key

    def _free(self, key: int) -> None:
        del self._homes[key]
        piece = self._held.pop(key)
        self._log(Free(piece.pool[0], _block(piece)))
        self.allocator.free(piece)


def _block(piece: Piece) -> Block:
    return Block(piece.segment, piece.begin, piece.end)
