"""Whose memory a CPU tensor stands for: the device's, in blocks of its allocator, or the host's."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch

from tests.support.fake_allocator import FakeAllocator
from tests.support.gpu_record import Alloc, Block, Entry, Free, HostRange, Place


class Side(Enum):
    """Where a storage lies."""

    DEVICE = "device"
    PINNED = "pinned"
    PAGEABLE = "pageable"


@dataclass(frozen=True, slots=True)
class Home:
    """A storage's side, and its number among the host's; 0 on the device."""

    side: Side
    number: int = 0


@dataclass(frozen=True, slots=True)
class _Held:
    """A block that a live storage holds."""

    block: Block
    stream: str


class FakeMemory:
    """Finds out about storages as they are seen, and lets go of them as they die."""

    def __init__(self, log: Callable[[Entry], None]) -> None:
        self.allocator = FakeAllocator()
        self.pinned = 0
        self._log = log
        self._homes: dict[int, Home] = {}
        self._held: dict[int, _Held] = {}
        self._slabs = 0

    def home(self, tensor: torch.Tensor) -> Home | None:
        """Where the tensor lies; None where it was never seen."""
        return self._homes.get(tensor.untyped_storage()._cdata)

    def place(self, tensor: torch.Tensor) -> Place | None:
        """What of the memory a seen and dense tensor touches; None for no bytes."""
        key = int(tensor.untyped_storage()._cdata)
        home = self._homes[key]
        begin, nbytes = tensor.storage_offset() * tensor.element_size(), tensor.numel() * tensor.element_size()
        if not nbytes:
            return None
        if home.side == Side.DEVICE:
            return self._held[key].block
        return HostRange(home.number, begin, begin + nbytes)

    def allocate(self, tensor: torch.Tensor, stream: str, name: str) -> None:
        """The tensor is new, made on a stream."""
        held = self._hold(tensor, stream)
        if held is not None:
            self._log(Alloc(stream, held.block, name))

    def adopt(self, tensor: torch.Tensor, stream: str) -> None:
        """The tensor is the device's and was there before anyone looked, so where nothing in the record was."""
        self._hold(tensor, stream, fresh=True)

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

    def _hold(self, tensor: torch.Tensor, stream: str, *, fresh: bool = False) -> _Held | None:
        """Find a storage a block; one of no bytes has none."""
        nbytes = tensor.untyped_storage().nbytes()
        if not nbytes:
            self._remember(tensor, Home(Side.DEVICE), self._homes.pop)
            return None
        held = _Held(self.allocator.take(nbytes, stream, fresh=fresh), stream)
        key = self._remember(tensor, Home(Side.DEVICE), self._free)
        self._held[key] = held
        return held

    def _remember(self, tensor: torch.Tensor, home: Home, forget: Callable[[int], object]) -> int:
        storage = tensor.untyped_storage()
        key = int(storage._cdata)
        self._homes[key] = home
        weakref.finalize(storage, forget, key).atexit = False
        return key

    def _free(self, key: int) -> None:
        del self._homes[key]
        held = self._held.pop(key)
        self.allocator.give_back(held.block)
        self._log(Free(held.stream, held.block))
