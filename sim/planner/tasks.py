"""From an order's passes to the tasks on each rank's compute queue, and where each boundary is made and needed.

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

# A plan of this many tasks has some ten million operations and takes some GB to make; past it a typing error is
# likelier than an intention.
MOST_TASKS = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """The tasks of all ranks, one rank's after the other's; nothing in it depends on offloading.

    Attributes:
        start: where each rank's tasks begin; shape (ranks + 1,).
        unit, microbatch, backward: of each task; shape (tasks,).
        forward_at, backward_at: places of each boundary's two tasks on its rank's queue; shape (boundaries,).
        stage, place: the stage of each unit, and which of the stage's units it is; shape (units,).
        rank: that runs each unit; shape (units,).
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
        return len(self.start) - 1

    @property
    def boundaries(self) -> int:
        return len(self.forward_at)


@njit(cache=True)
def _expand(passes, first_unit, microbatches, unit, microbatch, backward, forward_at, backward_at):  # type: ignore[no-untyped-def]
    """One rank's passes cut into units, forwards up and backwards down; False unless each task is there once."""
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
    """InputError for a step of more tasks than can be planned; units are those of all stages."""
    total = 2 * microbatches * units
    if total > MOST_TASKS:
        raise InputError(
            f"{microbatches} microbatches of {units} units make {total} tasks; "
            f"at most {MOST_TASKS} are planned, use fewer microbatches or units"
        )


def tasks_of(workload: Workload, policy: Policy) -> Tasks:
    """The tasks of every rank; InputError where workload and policy do not go together."""
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
    counts = [int(np.asarray(units)[found[:, 1]].sum()) for found in passes]
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rank_of = np.zeros(sum(units), dtype=np.int64)
    for rank, found in enumerate(passes):
        for stage in np.unique(found[:, 1]).tolist():
            rank_of[first_unit[stage] : first_unit[stage + 1]] = rank
    unit, microbatch = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    backward = np.empty(total, dtype=np.bool_)
    forward_at, backward_at = np.full(total // 2, -1, dtype=np.int64), np.full(total // 2, -1, dtype=np.int64)
    for rank, found in enumerate(passes):
        mine = slice(int(start[rank]), int(start[rank + 1]))
        columns = (unit[mine], microbatch[mine], backward[mine])
        sound = _expand(found, first_unit, policy.microbatches, *columns, forward_at, backward_at)
        assert sound, f"pipeline {policy.pipeline!r} must run each microbatch once forward, then once backward"
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
