"""A plan is well formed if its ids exist and are distinct, its queues fit its kinds, and its edges point backwards.

A plan file that is not raises InputError; races in a well-formed plan are for the verifier to find.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import QUEUE_OF, Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan, Ragged


@dataclass(frozen=True, slots=True)
class Ids:
    """Holds the ids that a file gives its rows, and the rows' positions in order of id."""

    ids: Ints
    order: Ints

    @classmethod
    def of(cls, ids: Ints, where: str) -> Ids:
        """Return the ids with their order; raise InputError when an id is given twice."""
        order = np.argsort(ids, kind="stable")
        twice = np.flatnonzero(ids[order][1:] == ids[order][:-1])
        if len(twice):
            raise InputError(f"{where}: id = {int(ids[order][twice[0]])} is given twice; ids must be distinct")
        return cls(ids, order)

    def unless_positions(self) -> Ints | None:
        """Return the ids, or None where they are just 0, 1, 2, ..."""
        return None if np.array_equal(self.ids, np.arange(len(self.ids))) else self.ids


def positions(column: Ragged, of: Ids, where: str, key: str, op_ids: Ids) -> Ragged:
    """Return the column's ids as positions; raise InputError for an id that no row has."""
    values = column.values
    at = np.searchsorted(of.ids, values, sorter=of.order) if len(of.ids) else np.zeros(len(values), dtype=np.int64)
    exists = at < len(of.ids)
    exists[exists] = of.ids[of.order[at[exists]]] == values[exists]
    if not exists.all():
        bad = int(np.flatnonzero(~exists)[0])
        op = int(op_ids.ids[column.rows()[bad]])
        what = "an operation" if key == "after" else "a buffer"
        raise InputError(f"{where}: operation {op}: {key} names {int(values[bad])}, the id of no row; give {what}'s id")
    return Ragged(column.starts, of.order[at].astype(np.int32))


def require_well_formed(plan: Plan, source: str) -> None:
    """Raise InputError with one line unless ranks, queues, edges and lists are well formed."""
    ops, where = plan.ops, f"{source}: ops"
    for ranks, ids, what in (
        (ops.rank, plan.op_id, "operation"),
        (plan.buffers.rank, plan.buffer_id, "buffer"),
    ):
        outside = np.flatnonzero((ranks >= plan.ranks) | (ranks < 0))
        if len(outside):
            bad = int(outside[0])
            raise InputError(
                f"{source}: {what} {ids(bad)}: rank = {int(ranks[bad])}; it must be below ranks = {plan.ranks}"
            )
    _right_queues(plan, where)
    _backward_edges(plan, where)
    for key in ("after", "reads", "writes", "allocs", "frees"):
        _no_doubles(plan, getattr(ops, key), key, where)


def _right_queues(plan: Plan, where: str) -> None:
    expected = np.asarray([QUEUE_OF[kind] for kind in Kind])[plan.ops.kind]
    wrong = np.flatnonzero(expected != plan.ops.queue)
    if len(wrong):
        bad = int(wrong[0])
        op = plan.op(bad)
        raise InputError(
            f"{where}: operation {plan.op_id(bad)}: queue = {op.queue.label!r}; "
            f"{op.kind.name} runs on {Queue(int(expected[bad])).label!r}"
        )


def _backward_edges(plan: Plan, where: str) -> None:
    after = plan.ops.after
    rows = after.rows()
    forward = np.flatnonzero(after.values >= rows)
    if len(forward):
        bad = int(forward[0])
        raise InputError(
            f"{where}: operation {plan.op_id(int(rows[bad]))}: after names {plan.op_id(int(after.values[bad]))}, "
            "which is not listed before it; edges must point backwards (a cycle would deadlock)"
        )


def _no_doubles(plan: Plan, column: Ragged, key: str, where: str) -> None:
    rows = column.rows()
    # A row whose values rise has none twice; only the others are sorted.
    falls = (rows[1:] == rows[:-1]) & (column.values[1:] <= column.values[:-1])
    if not falls.any():
        return
    suspects = np.zeros(len(column), dtype=np.bool_)
    suspects[rows[1:][falls]] = True
    r, v = rows[suspects[rows]], column.values[suspects[rows]]
    order = np.lexsort((v, r))
    r, v = r[order], v[order]
    twice = np.flatnonzero((r[1:] == r[:-1]) & (v[1:] == v[:-1]))
    if len(twice):
        at = int(twice[0])
        what = plan.op_id(int(v[at])) if key == "after" else plan.buffer_id(int(v[at]))
        raise InputError(f"{where}: operation {plan.op_id(int(r[at]))}: {key} names {what} twice; name it once")
