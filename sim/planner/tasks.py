"""An order's passes become the tasks on each rank's compute queue, with where each boundary is made and needed.

Units are numbered through the model, and boundary ``unit * microbatches + microbatch`` is the input of a unit for a
microbatch. A place on a rank's compute queue is counted in tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadahead.sim.compiled import compiled
from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner.orders import Order
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
        stage_rank: the rank that holds each stage; shape (stages,).
        frozen_units: how many of the first units have a FORWARD alone; their ``backward_at`` is -1.
    """

    microbatches: int
    start: Ints
    unit: Ints
    microbatch: Ints
    backward: Ints
    forward_at: Ints
    backward_at: Ints
    stage: Ints
    place: Ints
    rank: Ints
    stage_rank: Ints
    frozen_units: int = 0

    @property
    def ranks(self) -> int:
        """Return the number of ranks."""
        return len(self.start) - 1

    @property
    def boundaries(self) -> int:
        """Return the number of boundaries: one for each unit and microbatch."""
        return len(self.forward_at)

    @property
    def frozen_boundaries(self) -> int:
        """Return how many of them, the first ones, are freed by their FORWARD: nothing is decided on these."""
        return self.frozen_units * self.microbatches

    @property
    def several_stages(self) -> bool:
        """Return whether some rank holds more than one stage."""
        return int(np.bincount(self.stage_rank).max()) > 1

    def columns(self) -> tuple[Ints, ...]:
        """Return what makers of decisions look at: start, unit, microbatch, backward, forward_at, backward_at."""
        return self.start, self.unit, self.microbatch, self.backward, self.forward_at, self.backward_at

    def name(self, unit: int, microbatch: int) -> str:
        """Return a boundary's stage.unit.microbatch."""
        return f"{self.stage[unit]}.{self.place[unit]}.{microbatch}"


@compiled
def _expand(passes, first_unit, frozen, microbatches, unit, microbatch, backward, forward_at, backward_at):  # type: ignore[no-untyped-def]
    """Cut one rank's passes into units, forwards up and backwards down, as far as a unit is trained."""
    at = 0
    for p in range(len(passes)):
        is_backward, stage, mb = passes[p, 0] != 0, passes[p, 1], passes[p, 2]
        lowest = max(first_unit[stage], frozen) if is_backward else first_unit[stage]
        count = first_unit[stage + 1] - lowest
        for step in range(count):
            u = first_unit[stage + 1] - 1 - step if is_backward else first_unit[stage] + step
            place = backward_at if is_backward else forward_at
            place[u * microbatches + mb] = at
            unit[at], microbatch[at], backward[at] = u, mb, is_backward
            at += 1


def require_few_tasks(microbatches: int, units: int) -> None:
    """Raise InputError for a step of more tasks than can be planned; ``units`` counts those of all stages."""
    total = 2 * microbatches * units
    if total > MOST_TASKS:
        raise InputError(
            f"{microbatches} microbatches of {units} units make {total} tasks; "
            f"at most {MOST_TASKS} are planned, use fewer microbatches or units"
        )


def tasks_of(units: tuple[int, ...], order: Order, frozen_units: int = 0) -> Tasks:
    """Return the tasks of every rank; ``units`` holds the number of each stage's units, for the order's stages.

    A backward pass of a stage leaves its frozen units out.
    """
    microbatches = order.microbatches
    first_unit = np.concatenate([[0], np.cumsum(units)]).astype(np.int64)
    trained = np.clip(first_unit[1:] - frozen_units, 0, np.asarray(units))
    of_pass = np.stack([np.asarray(units, dtype=np.int64), trained])
    counts = [int(of_pass[own[:, 0], own[:, 1]].sum()) for own in order.passes]
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    unit, microbatch, backward = (np.empty(int(start[-1]), dtype=np.int64) for _ in range(3))
    forward_at, backward_at = (np.full(microbatches * sum(units), -1, dtype=np.int64) for _ in range(2))
    for rank, own in enumerate(order.passes):
        rows = slice(int(start[rank]), int(start[rank + 1]))
        columns = (unit[rows], microbatch[rows], backward[rows])
        _expand(own, first_unit, frozen_units, microbatches, *columns, forward_at, backward_at)
    return Tasks(
        microbatches=microbatches,
        start=start,
        unit=unit,
        microbatch=microbatch,
        backward=backward,
        forward_at=forward_at,
        backward_at=backward_at,
        stage=np.repeat(np.arange(len(units)), units),
        place=np.concatenate([np.arange(n) for n in units]),
        rank=np.repeat(order.stage_rank, units),
        stage_rank=order.stage_rank,
        frozen_units=frozen_units,
    )


def units_of(workload: Workload, order: Order) -> tuple[int, ...]:
    """Return the number of each stage's units; raise InputError where workload and order do not go together."""
    units = tuple(len(stage) for stage in workload.stages)
    if len(units) != order.stages:
        raise InputError(
            f"the workload has {len(units)} stages and order {order.name!r} runs {order.stages}, on {order.ranks} "
            "ranks; cut the model into as many stages as the order runs"
        )
    require_few_tasks(order.microbatches, sum(units))
    return units
