"""The plan of a workload and a policy is built here."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit

from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import QUEUE_OF, Kind
from loadahead.sim.ir.plan import Buffers, Ints, Ops, Plan, Ragged, SmallInts
from loadahead.sim.planner.arena import (
    BUFFER_ROWS,
    BUFFERS,
    CHECKPOINT,
    EDGES,
    LISTED,
    NEXT_TASK,
    OP_WIDTH,
    OPS,
    ROWS,
    Arena,
    UnitSizes,
)
from loadahead.sim.planner.lower import lower
from loadahead.sim.planner.offload import decide, outcome_sentence, reasons_kept
from loadahead.sim.planner.policy import Policy
from loadahead.sim.planner.tasks import Tasks, tasks_of
from loadahead.sim.workload import Workload


def build_plan(workload: Workload, policy: Policy, *, name: str = "plan", echo: dict[str, Any] | None = None) -> Plan:
    """Return the plan of one step; raise InputError where workload and policy do not go together.

    ``plan.policy`` holds ``echo`` (e.g. the scenario), the policy's fields, and the outcome: ``offloaded``, ``kept``,
    ``kept_because`` (reason -> count) and ``sentence``.
    """
    tasks = tasks_of(workload, policy)
    most = operations_of(tasks, policy.checkpoint, tasks.boundaries if policy.checkpoint and policy.offload else 0)
    arena = Arena(tasks, UnitSizes.of(workload), most, recording=True)
    offloaded = lay_out(arena, policy)
    kept_because = reasons_kept(tasks.boundaries - offloaded, policy)
    outcome = {
        "offloaded": offloaded,
        "kept": tasks.boundaries - offloaded,
        "kept_because": dict(kept_because),
        "sentence": outcome_sentence(offloaded, kept_because, policy),
    }
    rows = arena.view(ROWS)[: operations_of(tasks, policy.checkpoint, offloaded)]
    buffers = arena.view(BUFFER_ROWS)[: int(arena.memory[BUFFERS])]
    assert len(rows) == int(arena.memory[OPS])
    facts = (echo or {}) | policy.to_dict() | outcome
    return Plan(name, policy.ranks, policy.microbatches, _ops(rows, tasks), _buffers(buffers, tasks), facts)


def operations_of(tasks: Tasks, checkpoint: bool, offloaded: int) -> int:
    """Return how many operations a plan has: its tasks, four per offloaded boundary, eight per boundary sent."""
    sent = int((np.diff(tasks.rank) != 0).sum()) * tasks.microbatches
    return tasks.boundaries * (3 if checkpoint else 2) + 4 * offloaded + 8 * sent + tasks.ranks


def lay_out(arena: Arena, policy: Policy) -> int:
    """Decide what is offloaded, walk the tasks, and return how many boundaries are offloaded.

    Raise InputError for a pipeline order that deadlocks.
    """
    m = arena.memory
    m[CHECKPOINT] = policy.checkpoint
    layers = policy.horizon_unit == "layers"
    offloaded = int(decide(m, policy.horizon, layers, policy.release_window, policy.offload))
    stuck = int(lower(m))
    if stuck >= 0:
        raise InputError(
            f"pipeline {policy.pipeline!r} deadlocks: rank {stuck} waits for the input of its task "
            f"{int(arena.view(NEXT_TASK)[stuck])} and no rank can go on"
        )
    return offloaded


@njit(cache=True)
def _compact(rows, begin, end, starts, values):  # type: ignore[no-untyped-def]
    """Copy each row's entries from ``begin`` to ``end``, up to the first -1, and return how many there are."""
    count = 0
    for row in range(len(rows)):
        starts[row] = count
        for at in range(begin, end):
            if rows[row, at] < 0:
                break
            values[count] = rows[row, at]
            count += 1
    starts[len(rows)] = count
    return count


def _ragged(rows: Ints, begin: int, end: int) -> Ragged:
    """Return the lists that stand in these places of the rows, where they are padded with -1."""
    starts = np.empty(len(rows) + 1, dtype=np.int64)
    values = np.empty(len(rows) * (end - begin), dtype=np.int32)
    count = int(_compact(rows, begin, end, starts, values))
    return Ragged(starts, values[:count].copy())


def _keys(boundary: Ints, tasks: Tasks) -> tuple[SmallInts, SmallInts, SmallInts]:
    """Return (stage, unit of the stage, microbatch) of each boundary; -1 where there is none."""
    there, unit = boundary >= 0, boundary // tasks.microbatches
    columns = (tasks.stage[unit], tasks.place[unit], boundary % tasks.microbatches)
    stage, place, microbatch = (np.where(there, column, -1).astype(np.int32) for column in columns)
    return stage, place, microbatch


def _ops(rows: Ints, tasks: Tasks) -> Ops:
    rank, kind, boundary, nbytes = rows[:, :4].T
    lists = [_ragged(rows, begin, end) for begin, end in pairwise([4, *range(4 + EDGES, OP_WIDTH + 1, LISTED)])]
    stage, unit, microbatch = _keys(boundary, tasks)
    queue_of = np.asarray([QUEUE_OF[kind] for kind in Kind], dtype=np.int8)
    return Ops(
        rank=rank.astype(np.int32),
        queue=queue_of[kind],
        kind=kind.astype(np.int8),
        stage=stage,
        unit=unit,
        microbatch=microbatch,
        nbytes=nbytes.copy(),
        after=lists[0],
        reads=lists[1],
        writes=lists[2],
        allocs=lists[3],
        frees=lists[4],
    )


def _buffers(rows: Ints, tasks: Tasks) -> Buffers:
    rank, space, nbytes, role, boundary = rows.T
    stage, unit, microbatch = _keys(boundary, tasks)
    return Buffers(
        rank=rank.astype(np.int32),
        space=space.astype(np.int8),
        nbytes=nbytes.copy(),
        role=role.astype(np.int8),
        stage=stage,
        unit=unit,
        microbatch=microbatch,
    )
