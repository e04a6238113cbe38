"""Memory of one step, measured around every operation of the compute queues.

A metered step is slower than a timed one, so that no step is both.
"""

from __future__ import annotations

import numpy as np

from executor.backends import Work
from executor.meter import StorageMeter
from executor.operations import Operations
from sim.ir.kinds import Queue
from sim.ir.plan import OpView
from sim.memory import MemoryWalk


class StepMeter:
    """Give :meth:`around` to the replay loop for one step, then take :meth:`result`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        plan, session = operations.plan, operations.session
        self._meters = [StorageMeter(session.resident(rank)) for rank in range(plan.ranks)]
        self.static = np.asarray([meter.resident for meter in self._meters], dtype=np.int64)
        self._during, self._after, self._boundary = (np.zeros(len(plan), dtype=np.int64) for _ in range(3))

    def around(self, op: OpView, work: Work) -> Work:
        """The work, metered if it runs on a compute queue: no other takes or frees device memory."""
        if op.queue != Queue.COMPUTE:
            return work
        meter = self._meters[op.rank]

        def metered() -> None:
            before = self._operations.boundary_bytes(op.rank)
            with meter:
                meter.start_operation()
                work()
            self._during[op.index], self._after[op.index] = meter.peak, meter.live
            self._boundary[op.index] = max(before, self._operations.boundary_bytes(op.rank))

        return metered

    def result(self) -> MemoryWalk:
        """What the step held, in the form of a prediction."""
        plan = self._operations.plan
        device, boundary = self.static.copy(), np.zeros(plan.ranks, dtype=np.int64)
        np.maximum.at(device, plan.ops.rank, self._during)
        np.maximum.at(boundary, plan.ops.rank, self._boundary)
        host = np.asarray([slab.untyped_storage().nbytes() for slab in self._operations.host.slabs], dtype=np.int64)
        return MemoryWalk(self._during, self._after, self._boundary, device, boundary, host)
