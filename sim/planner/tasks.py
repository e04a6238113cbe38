"""An order's passes become the tasks on each rank's compute queue, with where each boundary is made and needed.

Units are numbered through the model, and boundary ``unit * microbatches + microbatch`` is the input of a unit for a
microbatch. A place on a rank's compute queue is counted in tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner.orders import find_order
from loadahead.sim.planner.policy import Policy
from loadahead.sim.workload import Workload

# A plan of this many tasks has some ten million operations and takes some GB to make; a larger number is likelier a
# typing error than an intention.
MOST_TASKS = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """Holds the tasks of all ranks, one rank after the other; nothing in it depends on offloading.

    Attributes:
        start: where each rank's tasks begin; shape (ranks + 1,).
        unit, microbatch, backward: each task's unit, its microbatch and whether it is a BACKWARD; shape (tasks,).
        forward_at, backward_at: places of each boundary's two tasks on its rank's queue; shape (boundaries,).
        stage, place: the stage of each unit, and which of the stage's units it is; shape (units,).
        rank: the rank that runs each unit; shape (units,).
    """

    microbatches: int
    start: Ints
    unit: Ints
    microbatch: Ints
    backward: npt.NDArray[np.bool_]
    forward_at: Ints
    backward_at: Ints
    stage: Ints
    place: Ints
    rank: Ints

    @property
    def ranks(self) -> int:
        """Return the number of ranks."""
        return len(self.start) - 1

    @property
    def boundaries(self) -> int:
        """Return the number of boundaries: one for each unit and microbatch."""
        return len(self.forward_at)


@njit(cache=True)
def _expand(passes, first_unit, microbatches, unit, microbatch, backward, forward_at, backward_at):  # type: ignore[no-untyped-def]
    """Cut one rank's passes into units, forwards up and backwards down; return whether each task is there once."""
    at = 0
    for p in range(len(passes)):
        is_backward, stage, mb = passes[p, 0] != 0, passes[p, 1], passes[p, 2]
        if stage < 0 or stage + 1 >= len(first_unit) or mb < 0 or mb >= microbatches:
            return False
        count = first_unit[stage + 1] - first_unit[stage]
        for step in range(count):
            u = first_unit[stage + 1] - 1 - step if is_backward else first_unit[stage] + step
            b = u * microbatches + mb
            seen = backward_at if is_backward else forward_at
            if at >= len(unit) or seen[b] >= 0 or (is_backward and forward_at[b] < 0):
                return False
            seen[b] = at
            unit[at], microbatch[at], backward[at] = u, mb, is_backward
            at += 1
    return at == len(unit)


def require_few_tasks(microbatches: int, units: int) -> None:
    """Raise InputError for a step of more tasks than can be planned; ``units`` counts those of all stages."""
    total = 2 * microbatches * units
    if total > MOST_TASKS:
        raise InputError(
            f"{microbatches} microbatches of {units} units make {total} tasks; "
            f"at most {MOST_TASKS} are planned, use fewer microbatches or units"
        )


def tasks_of(workload: Workload, policy: Policy) -> Tasks:
    """Return the tasks of every rank; raise InputError where workload and policy do not go together."""
    stages = len(workload.stages)
    if stages != policy.ranks:
        raise InputError(
            f"the workload has {stages} stages and the pipeline {policy.ranks} ranks; "
            f"{policy.pipeline!r} runs one stage on each rank"
        )
    units = [len(stage) for stage in workload.stages]
    total = 2 * policy.microbatches * sum(units)
    require_few_tasks(policy.microbatches, sum(units))
    order = find_order(policy.pipeline)
    active = min(policy.active_microbatches or policy.microbatches, policy.microbatches)
    passes = [order(rank, policy.ranks, policy.microbatches, active) for rank in range(policy.ranks)]
    first_unit = np.concatenate([[0], np.cumsum(units)]).astype(np.int64)
    counts = [int(np.asarray(units)[of_rank[:, 1]].sum()) for of_rank in passes]
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rank_of = np.zeros(sum(units), dtype=np.int64)
    for rank, of_rank in enumerate(passes):
        for stage in np.unique(of_rank[:, 1]).tolist():
            rank_of[first_unit[stage] : first_unit[stage + 1]] = rank
    unit, microbatch = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    backward = np.empty(total, dtype=np.bool_)
    forward_at, backward_at = np.full(total // 2, -1, dtype=np.int64), np.full(total // 2, -1, dtype=np.int64)
    for rank, of_rank in enumerate(passes):
        rows = slice(int(start[rank]), int(start[rank + 1]))
        columns = (unit[rows], microbatch[rows], backward[rows])
        complete = _expand(of_rank, first_unit, policy.microbatches, *columns, forward_at, backward_at)
        assert complete, f"pipeline {policy.pipeline!r} must run each microbatch once forward, then once backward"
    return Tasks(
        microbatches=policy.microbatches,
        start=start,
        unit=unit,
        microbatch=microbatch,
        backward=backward,
        forward_at=forward_at,
        backward_at=backward_at,
        stage=np.repeat(np.arange(stages), units),
        place=np.concatenate([np.arange(n) for n in units]),
        rank=rank_of,
    )
