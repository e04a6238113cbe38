"""Memory that outlives an operation but is no boundary, output or gradient is a buffer of its own, made here.

There are three: what the graph keeps from FORWARD to BACKWARD without checkpointing; the values from before of module
buffers that a FORWARD changes, from which its RECOMPUTE starts; and tensors that units hand on unchanged, such as a
mask. Which operations take, read and free them follows from the tasks alone, and no edge depends on them: so the
compiled walk knows their bytes (:func:`bytes_beside`), and their buffers are added to what it wrote
(:func:`add_workspaces`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from loadahead.sim.ir.kinds import Kind, Role, Space
from loadahead.sim.ir.plan import Buffers, Ints, Ops
from loadahead.sim.planner.tasks import Tasks
from loadahead.sim.workload import PassThrough, Workload

_Integer = TypeVar("_Integer", np.int8, np.int32, np.int64)
_FORWARD, _RECOMPUTE, _BACKWARD = int(Kind.FORWARD), int(Kind.RECOMPUTE), int(Kind.BACKWARD)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Workspace:
    """Describes one buffer of every microbatch; an operation is named by its kind and its unit.

    Attributes:
        unit: the unit whose FORWARD takes and writes it.
        readers: who reads it.
        freed_by: who frees it.
    """

    nbytes: int
    unit: int
    readers: tuple[tuple[int, int], ...]
    freed_by: tuple[int, int]


def kept_bytes(saved: Ints, state: Ints, checkpoint: bool, frozen_units: int) -> Ints:
    """Return what each unit keeps from its FORWARD to its BACKWARD beside boundaries; arrays have shape (units,)."""
    out = (state if checkpoint else saved).copy()
    out[:frozen_units] = 0
    return out


def _passes(tensor: PassThrough, tasks: Tasks, checkpoint: bool) -> Iterator[_Workspace]:
    """Yield the buffer of a tensor that is handed on, for each rank that reads it."""
    readers = np.asarray(tensor.readers)
    for rank in np.unique(tasks.rank[readers]).tolist():
        own = readers[tasks.rank[readers] == rank]
        trained = own[own >= tasks.frozen_units]
        kinds = (_RECOMPUTE, _BACKWARD) if checkpoint else (_BACKWARD,)
        reads = [(_FORWARD, unit) for unit in own.tolist()]
        reads += [(kind, unit) for unit in trained.tolist() for kind in kinds]
        last = (_BACKWARD, int(trained[0])) if len(trained) else (_FORWARD, int(own[-1]))
        yield _Workspace(nbytes=tensor.nbytes, unit=int(own[0]), readers=tuple(reads), freed_by=last)


def bytes_beside(
    kept: Ints, passed: tuple[PassThrough, ...], tasks: Tasks, checkpoint: bool
) -> tuple[Ints, Ints, Ints]:
    """Return the bytes of workspaces that each unit's FORWARD takes, its FORWARD frees and its BACKWARD frees.

    ``kept`` is what :func:`kept_bytes` returns; all have shape (units,).
    """
    taken, freed_forward, freed_backward = kept.copy(), np.zeros_like(kept), kept.copy()
    for tensor in passed:
        for workspace in _passes(tensor, tasks, checkpoint):
            kind, unit = workspace.freed_by
            taken[workspace.unit] += workspace.nbytes
            (freed_forward if kind == _FORWARD else freed_backward)[unit] += workspace.nbytes
    return taken, freed_forward, freed_backward


def _workspaces(workload: Workload, tasks: Tasks, checkpoint: bool) -> Iterator[_Workspace]:
    """Yield all workspaces, the units' own first.

    Without checkpointing a unit always has one, of 0 bytes where it keeps nothing: a BACKWARD without a RECOMPUTE is
    one that reads what its FORWARD kept.
    """
    units = [unit for stage in workload.stages for unit in stage]
    saved, state = (np.asarray(sizes) for sizes in zip(*((u.saved_bytes, u.state_bytes) for u in units), strict=True))
    kept = kept_bytes(saved, state, checkpoint, tasks.frozen_units).tolist()
    for number in range(tasks.frozen_units, len(units)):
        backward, reader = (_BACKWARD, number), (_RECOMPUTE if checkpoint else _BACKWARD, number)
        if kept[number] or not checkpoint:
            yield _Workspace(nbytes=kept[number], unit=number, readers=(reader,), freed_by=backward)
    for tensor in workload.passed:
        yield from _passes(tensor, tasks, checkpoint)


def add_workspaces(
    ops: Ops, buffers: Buffers, boundary: Ints, workload: Workload, tasks: Tasks, checkpoint: bool
) -> tuple[Ops, Buffers]:
    """Return the operations and buffers with the workspaces, whose buffers stand behind all others.

    ``boundary`` is the boundary of each operation's unit and microbatch, -1 where there is none; shape (operations,).
    """
    found = list(_workspaces(workload, tasks, checkpoint))
    if not found:
        return ops, buffers
    microbatches = np.arange(tasks.microbatches)
    at = np.full((3, tasks.boundaries), -1, dtype=np.int64)
    for kind in (_FORWARD, _RECOMPUTE, _BACKWARD):
        rows = np.flatnonzero(ops.kind == kind)
        at[kind, boundary[rows]] = rows

    def operations(named: tuple[int, int]) -> Ints:
        """Return the operation of each microbatch."""
        kind, unit = named
        out: Ints = at[kind, unit * tasks.microbatches + microbatches]
        return out

    takes, reads, frees = _Entries(), _Entries(), _Entries()
    for number, workspace in enumerate(found):
        buffer = len(buffers) + number * tasks.microbatches + microbatches
        takes.add(operations((_FORWARD, workspace.unit)), buffer)
        frees.add(operations(workspace.freed_by), buffer)
        for reader in workspace.readers:
            reads.add(operations(reader), buffer)
    more = Ops(
        **{name: getattr(ops, name) for name in ("rank", "queue", "kind", "stage", "unit", "microbatch", "nbytes")},
        after=ops.after,
        reads=ops.reads.with_entries(*reads.columns()),
        writes=ops.writes.with_entries(*takes.columns()),
        allocs=ops.allocs.with_entries(*takes.columns()),
        frees=ops.frees.with_entries(*frees.columns()),
    )
    return more, _with_buffers(buffers, found, tasks)


class _Entries:
    """Collects what is added to a column of lists: operations and buffers."""

    def __init__(self) -> None:
        self._ops: list[Ints] = []
        self._buffers: list[Ints] = []

    def add(self, ops: Ints, buffers: Ints) -> None:
        """Add a buffer to each operation's list."""
        self._ops.append(ops)
        self._buffers.append(buffers)

    def columns(self) -> tuple[Ints, Ints]:
        """Return all operations and their buffers; shape (entries,)."""
        return np.concatenate(self._ops), np.concatenate(self._buffers)


def _with_buffers(buffers: Buffers, found: list[_Workspace], tasks: Tasks) -> Buffers:
    count = tasks.microbatches
    unit = np.asarray([workspace.unit for workspace in found], dtype=np.int64)
    nbytes = np.asarray([workspace.nbytes for workspace in found], dtype=np.int64)

    def longer(column: npt.NDArray[_Integer], each: Ints) -> npt.NDArray[_Integer]:
        """Return a column with an entry more for each workspace and microbatch."""
        return np.concatenate([column, np.repeat(each, count).astype(column.dtype)])

    return Buffers(
        rank=longer(buffers.rank, tasks.rank[unit]),
        space=longer(buffers.space, np.full(len(found), Space.DEVICE)),
        nbytes=longer(buffers.nbytes, nbytes),
        role=longer(buffers.role, np.full(len(found), Role.WORKSPACE)),
        stage=longer(buffers.stage, tasks.stage[unit]),
        unit=longer(buffers.unit, tasks.place[unit]),
        microbatch=np.concatenate([buffers.microbatch, np.tile(np.arange(count), len(found)).astype(np.int32)]),
    )
