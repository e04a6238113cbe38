"""Measures the memory of one step around every operation of the compute queues.

A metered step is slower than a timed one, so that no step is both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loadahead.executor.backends import Work
from loadahead.executor.replay.operations import Operations
from loadahead.sim.ir.kinds import Queue
from loadahead.sim.ir.plan import OpView
from loadahead.sim.memory import MemoryWalk


class StepMeter:
    """Meters one step: give :meth:`around` to the replay loop, then take :meth:`result`.

    ``foreign`` bytes of the device belong to something else than the run, and do not count.
    """

    def __init__(self, operations: Operations, foreign: int = 0) -> None:
        self._operations = operations
        plan, training, backend = operations.plan, operations.training, operations.backend
        self._meters = [
            backend.meter(training.resident(rank), [operations.losses], foreign) for rank in range(plan.ranks)
        ]
        self.static = np.asarray([meter.resident for meter in self._meters], dtype=np.int64)
        self._during, self._after, self._boundary = (np.zeros(len(plan), dtype=np.int64) for _ in range(3))
        # Of each operation, the allocator's blocks after it and at most during it, and what it reserved.
        self._blocks: dict[int, tuple[int, int]] = {}
        self._reserved: dict[int, int] = {}
        operations.before_frees = self._look_at_boundaries

    def around(self, op: OpView, work: Work) -> Work:
        """Return the work, metered if it runs on a compute queue: no other takes or frees device memory."""
        if op.queue != Queue.COMPUTE:
            return work
        meter = self._meters[op.rank]

        def metered() -> None:
            with meter:
                meter.start_operation()
                work()
            self._during[op.index], self._after[op.index] = meter.peak, meter.live
            if meter.blocks is not None and meter.reserved is not None:
                self._blocks[op.index], self._reserved[op.index] = meter.blocks, meter.reserved

        return metered

    def _look_at_boundaries(self, op: OpView) -> None:
        """Note a rank's boundaries while it still holds what an operation frees beside what it has taken."""
        if op.queue == Queue.COMPUTE:
            self._boundary[op.index] = self._operations.boundary_bytes(op.rank)

    def result(self) -> MemoryWalk:
        """Return what the step held, in the form that a prediction has; nothing is metered from then on."""
        self._operations.before_frees = None
        plan = self._operations.plan
        device, boundary = self.static.copy(), np.zeros(plan.ranks, dtype=np.int64)
        np.maximum.at(device, plan.ops.rank, self._during)
        np.maximum.at(boundary, plan.ops.rank, self._boundary)
        host = np.asarray(self._operations.host.nbytes, dtype=np.int64)
        return MemoryWalk(self._during, self._after, self._boundary, device, boundary, host, self.static)

    def allocator(self) -> dict[str, Any]:
        """Return the allocator's bytes after and during each compute operation; empty where there is no allocator.

        ``op`` holds positions in the plan; the other lists go with it. Requested are the run's bytes, which a plan
        predicts; allocated blocks and reserved memory are the whole process's.
        """
        if not self._blocks:
            return {}
        rows = sorted(self._blocks)
        return {
            "op": rows,
            "requested": self._after[rows].tolist(),
            "max_requested": self._during[rows].tolist(),
            "memory_allocated": [self._blocks[row][0] for row in rows],
            "max_memory_allocated": [self._blocks[row][1] for row in rows],
            "max_memory_reserved": [self._reserved[row] for row in rows],
        }
