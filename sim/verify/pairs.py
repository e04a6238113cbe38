"""Ordering rules collect pairs of operations that must happen in this order, and ask about all of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from loadahead.sim.ir.plan import Ints, Plan, Ragged
from loadahead.sim.verify.happens_before import Flags, HappensBefore
from loadahead.sim.verify.naming import buffer_name
from loadahead.sim.verify.violation import Violation, title


@dataclass(slots=True)
class Pairs:
    """Collects pairs of operations, the first of which must be or happen before the second, with their buffer."""

    rule: str
    why: str
    first: list[Ints] = field(default_factory=list)
    then: list[Ints] = field(default_factory=list)
    buffer: list[Ints] = field(default_factory=list)

    def add(self, first: Ints, then: Ints, buffer: Ints) -> None:
        """Add pairs of positions with the buffer each is about; shape (pairs,)."""
        self.first.append(first)
        self.then.append(then)
        self.buffer.append(buffer)

    def broken(self, plan: Plan, order: HappensBefore) -> Iterator[Violation]:
        """Yield a violation for each pair that the plan does not order."""
        if not self.first:
            return
        first, then, buffer = (np.concatenate(c).astype(np.int64) for c in (self.first, self.then, self.buffer))
        for index in np.flatnonzero(~order.ordered(first, then)).tolist():
            a, b = int(first[index]), int(then[index])
            about = buffer_name(plan, int(buffer[index]))
            yield Violation(
                self.rule,
                f"{title(plan, b)} does not wait for {title(plan, a)}, {self.why.format(about)}",
                (a, b),
            )


def owner(column: Ragged, buffers: int) -> Ints:
    """Return the operation that has each buffer in this column, or -1; the last if there are several."""
    out = np.full(buffers, -1, dtype=np.int64)
    out[column.values] = column.rows()
    return out


def rows_by_buffer(columns: Sequence[Ragged], chosen: Flags) -> dict[int, list[int]]:
    """Return, for each chosen buffer that one of the columns names, the operations that do, each once and in order."""
    if not chosen.any():
        return {}
    own = [chosen[column.values] for column in columns]
    pairs = [np.stack([c.values[o], c.rows()[o]], axis=1) for c, o in zip(columns, own, strict=True)]
    out: dict[int, list[int]] = {}
    for buffer, row in np.unique(np.concatenate(pairs), axis=0).tolist():
        out.setdefault(buffer, []).append(row)
    return out


def where_both_exist(first: Ints, then: Ints, buffer: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the pairs, with their buffers, of which both operations exist."""
    keep = (first >= 0) & (then >= 0)
    return first[keep], then[keep], buffer[keep]
