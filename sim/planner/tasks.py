"""From an order's passes to the tasks on each rank's compute queue, and where each boundary is made and needed."""

from __future__ import annotations

from dataclasses import dataclass

from sim.errors import InputError
from sim.planner.orders import find_order
from sim.planner.policy import Policy
from sim.workload import Workload

# A plan of this many tasks takes some tens of GB; past it a typing error is likelier than an intention.
MOST_TASKS = 50_000_000

BoundaryKey = tuple[int, int, int]  # (stage, unit, microbatch)


@dataclass(frozen=True, slots=True)
class RankTasks:
    """One rank's tasks. Position in the lists is the position on the compute queue, counted in tasks.

    ``key[k]`` is the (stage, unit, microbatch) of task k, ``backward[k]`` its direction. ``forward_at`` and
    ``backward_at`` give the positions of the two tasks of a boundary.
    """

    key: list[BoundaryKey]
    backward: list[bool]
    forward_at: dict[BoundaryKey, int]
    backward_at: dict[BoundaryKey, int]

    def __len__(self) -> int:
        return len(self.key)


def rank_tasks(workload: Workload, policy: Policy) -> list[RankTasks]:
    """The tasks of every rank: stages' passes cut into units, forwards up and backwards down."""
    stages = len(workload.stages)
    if stages != policy.ranks:
        raise InputError(
            f"the workload has {stages} stages and the pipeline {policy.ranks} ranks; "
            f"{policy.pipeline!r} runs one stage on each rank"
        )
    units = [len(stage) for stage in workload.stages]
    total = 2 * policy.microbatches * sum(units)
    if total > MOST_TASKS:
        raise InputError(
            f"{policy.microbatches} microbatches of {sum(units)} units make {total} tasks; "
            f"at most {MOST_TASKS} are planned, use fewer microbatches or units"
        )
    order = find_order(policy.pipeline)
    active = min(policy.active_microbatches or policy.microbatches, policy.microbatches)
    out = []
    for rank in range(policy.ranks):
        tasks = RankTasks([], [], {}, {})
        for backward, stage, microbatch in order(rank, policy.ranks, policy.microbatches, active):
            steps = range(units[stage])
            for unit in reversed(steps) if backward else steps:
                key = (stage, unit, microbatch)
                (tasks.backward_at if backward else tasks.forward_at)[key] = len(tasks)
                tasks.key.append(key)
                tasks.backward.append(backward)
        out.append(tasks)
    return out
