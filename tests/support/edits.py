"""Changed plans: edges and buffers taken out or put in, operations in another order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from loadahead.sim.ir.plan import Ops, Plan, Ragged


def with_column(plan: Plan, name: str, column: Ragged) -> Plan:
    """The plan with one of its ragged columns replaced."""
    return replace(plan, ops=replace(plan.ops, **{name: column}))


def without_entry(column: Ragged, row: int, value: int) -> Ragged:
    """The column with one value taken out of one row."""
    rows = column.to_lists()
    rows[row] = [v for v in rows[row] if v != value]
    return Ragged.from_lists(rows)


def with_entry(column: Ragged, row: int, value: int) -> Ragged:
    """The column with one value added at the end of one row."""
    rows = column.to_lists()
    rows[row] = [*rows[row], value]
    return Ragged.from_lists(rows)


_SCALARS = ("rank", "queue", "kind", "stage", "unit", "microbatch", "nbytes")
_LISTS = ("after", "reads", "writes", "allocs", "frees")


def take_ops(plan: Plan, order: list[int]) -> Plan:
    """The plan made of these rows, in this order: leave one out, or name one twice.

    Edges to a row that is left out vanish; edges to a row named twice go to its first copy.
    """
    place: dict[int, int] = {}
    for new, old in enumerate(order):
        place.setdefault(old, new)
    index = np.asarray(order)
    lists = {name: [getattr(plan.ops, name)[old].tolist() for old in order] for name in _LISTS}
    lists["after"] = [[place[edge] for edge in row if edge in place] for row in lists["after"]]
    ops = Ops(
        **{name: getattr(plan.ops, name)[index] for name in _SCALARS},
        **{name: Ragged.from_lists(rows) for name, rows in lists.items()},
    )
    return replace(plan, ops=ops)
