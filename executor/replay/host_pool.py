"""Holds a plan's host memory, cut into its slots."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch

from loadahead.executor.backends import Backend
from loadahead.executor.tensors.layout import Layout
from loadahead.sim.ir.kinds import Space
from loadahead.sim.ir.plan import Plan

# Copies are quickest from and to addresses that are multiples of this, the grain of torch's allocator on a GPU.
SLOT_ALIGNMENT = 512


class HostPool:
    """Holds one slab per rank, allocated once and cut into the planned slots.

    Slots begin at multiples of :data:`SLOT_ALIGNMENT`, so a slab is a little larger than they are.

    Attributes:
        slots: each slot's piece of its rank's slab: uint8, shape (bytes,).
        nbytes: the bytes of each rank's slots.
    """

    def __init__(self, plan: Plan, backend: Backend) -> None:
        slots = [buffer for i in range(len(plan.buffers)) if (buffer := plan.buffer(i)).space == Space.HOST]
        self.nbytes = [0] * plan.ranks
        begins, ends = {}, [0] * plan.ranks
        for slot in slots:
            begins[slot.index] = begin = -(-ends[slot.rank] // SLOT_ALIGNMENT) * SLOT_ALIGNMENT
            ends[slot.rank] = begin + slot.nbytes
            self.nbytes[slot.rank] += slot.nbytes
        self.slabs = [backend.slab(end) for end in ends]
        self.slots: dict[int, torch.Tensor] = {
            slot.index: self.slabs[slot.rank][begins[slot.index] :][: slot.nbytes] for slot in slots
        }
        self._tensors: dict[tuple[int, tuple[Layout, ...]], tuple[torch.Tensor, ...] | None] = {}

    def tensors(self, slot: int, layouts: tuple[Layout, ...]) -> tuple[torch.Tensor, ...] | None:
        """Return tensors of these layouts in a slot, one after the other; None where one would begin at an odd place.

        They are made at the first call.
        """
        key = slot, layouts
        if key not in self._tensors:
            self._tensors[key] = self._made(self.slots[slot], layouts)
        return self._tensors[key]

    def pieces(self, slot: int, sizes: Sequence[int]) -> list[torch.Tensor]:
        """Return pieces of a slot of so many bytes, one after the other."""
        whole = self.slots[slot]
        if len(sizes) == 1:
            return [whole]
        return [whole[start:end] for start, end in pairwise(accumulate(sizes, initial=0))]

    @staticmethod
    def _made(slot: torch.Tensor, layouts: tuple[Layout, ...]) -> tuple[torch.Tensor, ...] | None:
        out, begin = [], 0
        for layout in layouts:
            piece = slot[begin : begin + layout.nbytes]
            if piece.storage_offset() % layout.dtype.itemsize:
                return None
            out.append(piece.view(layout.dtype).as_strided(layout.shape, layout.stride))
            begin += layout.nbytes
        return tuple(out)
