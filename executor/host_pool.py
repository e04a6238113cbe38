"""Host memory of a plan: one slab per rank, allocated once, cut into the planned slots."""

from __future__ import annotations

import torch

from loadahead.executor.backends import Backend
from loadahead.sim.ir.kinds import Space
from loadahead.sim.ir.plan import Plan


class HostPool:
    """``slots[buffer]`` is the slot's piece of its rank's slab: uint8, shape (bytes,)."""

    def __init__(self, plan: Plan, backend: Backend) -> None:
        slots = [buffer for i in range(len(plan.buffers)) if (buffer := plan.buffer(i)).space == Space.HOST]
        sizes = [sum(slot.nbytes for slot in slots if slot.rank == rank) for rank in range(plan.ranks)]
        self.slabs = [backend.slab(size) for size in sizes]
        self.slots: dict[int, torch.Tensor] = {}
        at = [0] * plan.ranks
        for slot in slots:
            self.slots[slot.index] = self.slabs[slot.rank][at[slot.rank] : at[slot.rank] + slot.nbytes]
            at[slot.rank] += slot.nbytes
