"""Whose memory a CPU tensor stands for: the device's, in blocks of a caching allocator, or the host's."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch

from tests.support.gpu_record import Alloc, Block, Entry, Free, HostRange, Place

# torch's caching allocator hands out multiples of this.
GRAIN = 512


class Side(Enum):
    """Where a storage lies."""

    DEVICE = "device"
    PINNED = "pinned"
    PAGEABLE = "pageable"


@dataclass(frozen=True, slots=True)
class Home:
    """A storage's side, and its block or its number among the host's."""

    side: Side
    number: int


@dataclass(frozen=True, slots=True)
class _Held:
    """A block that a live storage holds."""

    block: Block
    nbytes: int
    stream: str
    requested: int


class FakeMemory:
    """Finds out about storages as they are seen, and lets go of them as they die.

    Freed blocks go to a pool per stream and size, and the last one in is handed out first, at once in the host's order
    as torch's allocator does. None is ever given back to the system, cut up or joined.
    """

    def __init__(self, log: Callable[[Entry], None]) -> None:
        self._log = log
        self._homes: dict[int, Home] = {}
        self._held: dict[int, _Held] = {}
        self._pools: defaultdict[tuple[str, int], list[Block]] = defaultdict(list)
        self._blocks = self._slabs = 0
        self.allocated = self.peak_allocated = self.reserved = self.pinned = 0
        self.requested = self.peak_requested = 0

    def home(self, tensor: torch.Tensor) -> Home | None:
        """Where the tensor lies; None where it was never seen."""
        return self._homes.get(tensor.untyped_storage()._cdata)

    def place(self, tensor: torch.Tensor) -> Place | None:
        """What of the memory a seen and dense tensor touches; None for no bytes."""
        home = self._homes[tensor.untyped_storage()._cdata]
        begin, nbytes = tensor.storage_offset() * tensor.element_size(), tensor.numel() * tensor.element_size()
        if not nbytes:
            return None
        return Block(home.number) if home.side == Side.DEVICE else HostRange(home.number, begin, begin + nbytes)

    def allocate(self, tensor: torch.Tensor, stream: str, name: str) -> None:
        """The tensor is new, made on a stream."""
        nbytes = _rounded(tensor)
        pool = self._pools[stream, nbytes]
        block = pool.pop() if pool and nbytes else self._new_block(nbytes)
        self._log(Alloc(stream, block, name))
        self._hold(tensor, _Held(block, nbytes, stream, tensor.untyped_storage().nbytes()))

    def adopt(self, tensor: torch.Tensor, stream: str) -> None:
        """The tensor is the device's and was there before anyone looked."""
        nbytes = _rounded(tensor)
        self._hold(tensor, _Held(self._new_block(nbytes), nbytes, stream, tensor.untyped_storage().nbytes()))

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

    def reset_peaks(self) -> None:
        self.peak_allocated, self.peak_requested = self.allocated, self.requested

    def _new_block(self, nbytes: int) -> Block:
        self._blocks += 1
        self.reserved += nbytes
        return Block(self._blocks)

    def _hold(self, tensor: torch.Tensor, held: _Held) -> None:
        self.requested += held.requested
        self.peak_requested = max(self.peak_requested, self.requested)
        self.allocated += held.nbytes
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        key = self._remember(tensor, Home(Side.DEVICE, held.block.address), self._free)
        self._held[key] = held

    def _remember(self, tensor: torch.Tensor, home: Home, forget: Callable[[int], object]) -> int:
        storage = tensor.untyped_storage()
        key = int(storage._cdata)
        self._homes[key] = home
        weakref.finalize(storage, forget, key).atexit = False
        return key

    def _free(self, key: int) -> None:
        del self._homes[key]
        held = self._held.pop(key)
        self.allocated -= held.nbytes
        self.requested -= held.requested
        self._pools[held.stream, held.nbytes].append(held.block)
        self._log(Free(held.stream, held.block))


def _rounded(tensor: torch.Tensor) -> int:
    return -(-tensor.untyped_storage().nbytes() // GRAIN) * GRAIN
