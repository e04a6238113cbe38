"""What the compiled walk wrote into its arena becomes a plan's columns here."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from loadahead.sim.compiled import compiled
from loadahead.sim.errors import InputError
from loadahead.sim.ir.decisions import STAYS, Decisions
from loadahead.sim.ir.kinds import QUEUE_OF, Kind
from loadahead.sim.ir.plan import Buffers, Ints, Ops, Ragged, SmallInts
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import EDGES, LISTED, OP_WIDTH, Arena, UnitSizes
from loadahead.sim.planner.lower import lower
from loadahead.sim.planner.orders import Order
from loadahead.sim.planner.tasks import MOST_TASKS, Tasks
from loadahead.sim.planner.workspaces import add_workspaces
from loadahead.sim.workload import Workload


def lower_tasks(
    workload: Workload, tasks: Tasks, order: Order, decisions: Decisions, checkpoint: bool, receive_ahead: int
) -> tuple[Ops, Buffers]:
    """Return the operations and buffers of tasks under decisions on every boundary, in the tasks' order.

    ``receive_ahead`` is the number of tasks between the ACQUIRE of what is received and the task that reads it. Raise
    InputError for an order that deadlocks.
    """
    operations = operations_of(tasks, checkpoint, decisions.offloaded)
    arena = Arena(tasks, UnitSizes.of(workload), operations, checkpoint=checkpoint, recording=True)
    arena.memory[a.RECEIVE_AHEAD] = few(receive_ahead)
    frozen = np.full(tasks.frozen_boundaries, STAYS, dtype=np.int64)
    slots = [np.concatenate([frozen, column]) for column in (decisions.release, decisions.acquire)]
    stuck = int(lower(arena.memory, *slots))
    require_no_deadlock(arena, stuck, tasks, order)
    arena.require_room()
    assert int(arena.memory[a.OPS]) == operations, "operations_of counts what the walk adds"
    rows, buffers = arena.view(a.ROWS), arena.view(a.BUFFER_ROWS)[: int(arena.memory[a.BUFFERS])]
    return add_workspaces(_ops(rows, tasks), _buffers(buffers, tasks), rows[:, 2], workload, tasks, checkpoint)


def few(receive_ahead: int) -> int:
    """Return a number of tasks that means the same in any plan and with which places can be computed."""
    return min(receive_ahead, MOST_TASKS)


def operations_of(tasks: Tasks, checkpoint: bool, offloaded: int) -> int:
    """Return how many operations a plan has: its tasks, four per offloaded boundary, four for each that is sent."""
    crosses, trained = np.diff(tasks.rank) != 0, tasks.boundaries - tasks.frozen_boundaries
    sent = (int(crosses.sum()) + int(crosses[tasks.frozen_units :].sum())) * tasks.microbatches
    return tasks.boundaries + trained * (2 if checkpoint else 1) + 4 * offloaded + 4 * sent + tasks.ranks


def require_no_deadlock(arena: Arena, stuck: int, tasks: Tasks, order: Order) -> None:
    """Raise InputError where the walk came to a halt; ``stuck`` is a rank that waits for ever, or -1."""
    if stuck < 0:
        return
    rank = arena.view(a.RANK_ROWS)[stuck]
    at = int(tasks.start[stuck]) + int(rank[a.R_NEXT] - rank[a.R_FIRST]) // a.TASK_WIDTH
    arena.clear()
    kind = Kind.BACKWARD if tasks.backward[at] else Kind.FORWARD
    raise InputError(
        f"order {order.name!r} deadlocks: rank {stuck} waits for what its {kind.name} "
        f"{tasks.name(int(tasks.unit[at]), int(tasks.microbatch[at]))} reads, and no rank can go on"
    )


@compiled
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
