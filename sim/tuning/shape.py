"""What memory leaves for boundaries during each task of an order, and when they are there, follows from no clock.

Tasks are numbered through all ranks. The bytes of all else that a device holds do not depend on what leaves, so that
they are read off the plan that keeps all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from loadahead.sim.costs import Costs
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.ir.plan import Ints
from loadahead.sim.memory import walk
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.planner.tasks import Tasks
from loadahead.sim.tuning.limits import Limits
from loadahead.sim.workload import Workload

# More than any sum of bytes: no limit.
NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Holds the memory of an order's tasks where all boundaries stay; sizes in bytes.

    Attributes:
        kept: of boundaries during each task; shape (tasks,).
        beside: of all else during each task, the largest of its operations; shape (tasks,).
        optimizer: each rank's peak outside tasks; shape (ranks,).
        start: where each rank's tasks begin; shape (ranks + 1,).
        sizes: of each boundary; shape (boundaries,).
        forward_at, backward_at: each boundary's tasks, -1 for none; shape (boundaries,).
        may_leave: whether it can be away during any task, and is large enough; shape (boundaries,).
    """

    kept: Ints
    beside: Ints
    optimizer: Ints
    start: Ints
    sizes: Ints
    forward_at: Ints
    backward_at: Ints
    may_leave: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, workload: Workload, costs: Costs, policy: Policy, tasks: Tasks) -> Shape:
        """Return the shape of an order's tasks."""
        plan = build_plan(workload, replace(policy, offload=False))
        memory = walk(plan, costs)
        kept, beside = (np.zeros(len(tasks.unit), dtype=np.int64) for _ in range(2))
        optimizer = memory.static.copy()
        for rank in range(plan.ranks):
            own = plan.queue_ops(rank, Queue.COMPUTE)
            kinds = plan.ops.kind[own]
            ends = np.asarray(np.isin(kinds, [Kind.FORWARD, Kind.BACKWARD]), dtype=np.int64)
            task: Ints = np.cumsum(ends, dtype=np.int64) - ends + int(tasks.start[rank])
            inside = np.isin(kinds, [Kind.FORWARD, Kind.RECOMPUTE, Kind.BACKWARD])
            of_boundaries, all_held = memory.boundary_during[own], memory.during[own]
            kept[task[inside]] = of_boundaries[inside]
            np.maximum.at(beside, task[inside], (all_held - of_boundaries)[inside])
            optimizer[rank] = max(int(optimizer[rank]), int(all_held[~inside & (task >= tasks.start[rank + 1])].max()))
        first = tasks.start[np.repeat(tasks.rank, tasks.microbatches)]
        sizes = np.repeat(workload.boundary_bytes(), tasks.microbatches)
        backward = np.where(tasks.backward_at < 0, -1, tasks.backward_at + first)
        forward = tasks.forward_at + first
        may_leave = (backward >= forward + 2) & (sizes >= max(policy.min_bytes, 1))
        return cls(
            kept=kept,
            beside=beside,
            optimizer=optimizer,
            start=tasks.start,
            sizes=sizes,
            forward_at=forward,
            backward_at=backward,
            may_leave=may_leave,
        )

    def room(self, limits: Limits) -> Ints:
        """Return the most that boundaries may take during each task; shape (tasks,). It may be below 0."""
        out = np.full(len(self.kept), NO_LIMIT, dtype=np.int64)
        if limits.device_bytes is not None:
            out = np.minimum(out, limits.device_bytes - self.beside)
        if limits.boundary_bytes is not None:
            out = np.minimum(out, limits.boundary_bytes)
        return out

    def least(self, leaves: npt.NDArray[np.bool_] | None = None) -> Ints:
        """Return the least bytes of boundaries during each task where these leave, or all that may; shape (tasks,)."""
        chosen = np.flatnonzero(self.may_leave if leaves is None else leaves & self.may_leave)
        change = np.zeros(len(self.kept) + 1, dtype=np.int64)
        np.add.at(change, self.forward_at[chosen] + 1, -self.sizes[chosen])
        np.add.at(change, self.backward_at[chosen], self.sizes[chosen])
        return self.kept + np.cumsum(change)[:-1]
