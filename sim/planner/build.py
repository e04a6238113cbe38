"""From a workload and a policy to a plan."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.errors import InputError
from sim.ir.kinds import QUEUE_OF, Kind
from sim.ir.plan import Buffers, Ints, Ops, Plan, Ragged, SmallInts
from sim.planner.lower import EDGES, LISTED, Model, Rows, lower, make_desk, no_clock
from sim.planner.offload import decide, sentence
from sim.planner.policy import Policy
from sim.planner.shapes import shapes_of
from sim.planner.tasks import Tasks, tasks_of
from sim.workload import Workload


def build_plan(
    workload: Workload, policy: Policy, *, name: str = "plan", echo: dict[str, Any] | None = None
) -> Plan:
    """Plan one step.

    ``plan.policy`` holds ``echo`` (e.g. the scenario), the policy's fields, and what came of it: ``offloaded``,
    ``kept``, ``kept_because`` (reason -> count) and ``sentence``.
    """
    tasks = tasks_of(workload, policy)
    offloads = decide(tasks, policy)
    kept = offloads.kept.total()
    offloaded = tasks.boundaries - kept
    rows = _rows(tasks, policy, model_of(tasks, workload), offloads.acquire_slot, offloaded)
    outcome = {
        "offloaded": offloaded,
        "kept": kept,
        "kept_because": dict(offloads.kept),
        "sentence": sentence(offloaded, offloads.kept, policy),
    }
    facts = (echo or {}) | policy.to_dict() | outcome
    ops, buffers = _ops(rows, tasks), _buffers(rows, tasks)
    return Plan(name, policy.ranks, policy.microbatches, ops, buffers, facts)


def model_of(tasks: Tasks, workload: Workload) -> Model:
    """What every policy over these tasks has in common."""
    shapes = shapes_of(workload)
    return Model(
        start=tasks.start, unit=tasks.unit, microbatch=tasks.microbatch, backward=tasks.backward,
        backward_at=tasks.backward_at, rank=tasks.rank, boundary=shapes.boundary, gradient=shapes.gradient,
        saved=shapes.saved, size_class=shapes.size_class,
    )  # fmt: skip


def operations_of(tasks: Tasks, checkpoint: bool, offloaded: int) -> int:
    """How many operations a plan has: the tasks, four per offloaded boundary, eight per boundary that is sent."""
    sent = int((np.diff(tasks.rank) != 0).sum()) * tasks.microbatches
    return tasks.boundaries * (3 if checkpoint else 2) + 4 * offloaded + 8 * sent + tasks.ranks


def _rows(tasks: Tasks, policy: Policy, model: Model, slots: Ints, offloaded: int) -> Rows:
    count = operations_of(tasks, policy.checkpoint, offloaded)
    # At most: a unit's input, output, saved bytes and gradient, what is loaded and received, and its host slot.
    buffers = 7 * tasks.boundaries
    rows = Rows(
        op=np.empty((count, 4), dtype=np.int64),
        edges=np.empty((count, EDGES), dtype=np.int32),
        lists=np.full((4, count, LISTED), -1, dtype=np.int32),
        buffer=np.empty((buffers, 5), dtype=np.int64),
    )
    desk = make_desk(model)
    stuck = int(lower(desk, model, rows, no_clock(), slots, policy.checkpoint, policy.release_window))
    if stuck >= 0:
        raise InputError(
            f"pipeline {policy.pipeline!r} deadlocks: rank {stuck} waits for the input of its task "
            f"{int(desk.next_task[stuck])} and no rank can go on"
        )
    assert desk.count[0] == count
    return rows._replace(buffer=rows.buffer[: desk.count[1]])


def _ragged(padded: SmallInts) -> Ragged:
    """Rows padded with -1, of shape (rows, most), without the padding."""
    there = padded >= 0
    starts = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int64)
    return Ragged(starts, padded[there])


def _keys(boundary: Ints, tasks: Tasks) -> tuple[SmallInts, SmallInts, SmallInts]:
    """(stage, unit of the stage, microbatch) of each boundary; -1 where there is none."""
    there, unit = boundary >= 0, boundary // tasks.microbatches
    columns = (tasks.stage[unit], tasks.place[unit], boundary % tasks.microbatches)
    stage, place, microbatch = (np.where(there, column, -1).astype(np.int32) for column in columns)
    return stage, place, microbatch


def _ops(rows: Rows, tasks: Tasks) -> Ops:
    rank, kind, boundary, nbytes = rows.op.T
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
        after=_ragged(rows.edges),
        reads=_ragged(rows.lists[0]),
        writes=_ragged(rows.lists[1]),
        allocs=_ragged(rows.lists[2]),
        frees=_ragged(rows.lists[3]),
    )


def _buffers(rows: Rows, tasks: Tasks) -> Buffers:
    rank, space, nbytes, role, boundary = rows.buffer.T
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
