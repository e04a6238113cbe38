"""Ordering rules (DESIGN, section 2) make pairs of operations that must happen in this order.

They ask :mod:`loadahead.sim.verify.happens_before` about all of them at once, and yield the pairs that do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from loadahead.sim.ir.kinds import UNIT_KINDS, Kind, Space
from loadahead.sim.ir.plan import Ints, Plan, Ragged
from loadahead.sim.verify.happens_before import Flags, HappensBefore
from loadahead.sim.verify.naming import buffer_name, is_kind
from loadahead.sim.verify.violation import Violation, title


@dataclass(slots=True)
class _Pairs:
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


def _owner(column: Ragged, buffers: int) -> Ints:
    """Return the operation that has each buffer in this column, or -1; the last if there are several."""
    out = np.full(buffers, -1, dtype=np.int64)
    out[column.values] = column.rows()
    return out


def _where_both_exist(first: Ints, then: Ints, buffer: Ints) -> tuple[Ints, Ints, Ints]:
    keep = (first >= 0) & (then >= 0)
    return first[keep], then[keep], buffer[keep]


def lifetimes(plan: Plan, order: HappensBefore) -> Iterator[Violation]:
    """Require that memory is taken before it is used and freed after every read, write and copy of it."""
    ops, count = plan.ops, len(plan.buffers)
    taken, freed = _owner(ops.allocs, count), _owner(ops.frees, count)
    after_take = _Pairs("use-after-take", "which takes {}")
    before_free = _Pairs("free-after-use", "which still uses {}")
    for column in (ops.reads, ops.writes):
        rows, buffers = column.rows(), column.values.astype(np.int64)
        after_take.add(*_where_both_exist(taken[buffers], rows, buffers))
        before_free.add(*_where_both_exist(rows, freed[buffers], buffers))
    everything = np.arange(count, dtype=np.int64)
    before_free.add(*_where_both_exist(taken, freed, everything))
    yield from after_take.broken(plan, order)
    yield from before_free.broken(plan, order)


def reads_follow_writes(plan: Plan, order: HappensBefore) -> Iterator[Violation]:
    """Require that device memory is written once, before every read of it."""
    ops, count = plan.ops, len(plan.buffers)
    device = plan.buffers.space == Space.DEVICE
    writes = np.bincount(ops.writes.values, minlength=count)
    for buffer in np.flatnonzero(device & (writes > 1)).tolist():
        rows = ops.writes.rows()[ops.writes.values == buffer][:2].tolist()
        both = " and ".join(title(plan, int(row)) for row in rows)
        yield Violation("written-once", f"{buffer_name(plan, buffer)} is written by {both}", tuple(map(int, rows)))
    writer = _owner(ops.writes, count)
    rows, buffers = ops.reads.rows(), ops.reads.values.astype(np.int64)
    for entry in np.flatnonzero(device[buffers] & (writer[buffers] < 0)).tolist():
        op, name = int(rows[entry]), buffer_name(plan, int(buffers[entry]))
        yield Violation("read-after-write", f"{title(plan, op)} reads {name}, never written", (op,))
    pairs = _Pairs("read-after-write", "which writes {}")
    pairs.add(*_where_both_exist(np.where(device[buffers], writer[buffers], -1), rows, buffers))
    yield from pairs.broken(plan, order)


def offload_follows_forward(plan: Plan, order: HappensBefore) -> Iterator[Violation]:
    """Require that an OFFLOAD starts only after the FORWARD that reads the boundary."""
    reads = plan.ops.reads
    rows, buffers = reads.rows(), reads.values.astype(np.int64)
    forward = np.full(len(plan.buffers), -1, dtype=np.int64)
    of_forward = plan.ops.kind[rows] == Kind.FORWARD
    forward[buffers[of_forward]] = rows[of_forward]
    copied = plan.ops.kind[rows] == Kind.OFFLOAD
    pairs = _Pairs("offload-after-forward", "which reads {}")
    pairs.add(*_where_both_exist(forward[buffers[copied]], rows[copied], buffers[copied]))
    yield from pairs.broken(plan, order)


def host_slots(plan: Plan, order: HappensBefore) -> Iterator[Violation]:
    """Require that a host slot is filled, emptied and only then filled again, and that its content is loaded back."""
    ops = plan.ops
    host = plan.buffers.space == Space.HOST
    entries = []
    for column, fills in ((ops.writes, True), (ops.reads, False)):
        on_host = host[column.values]
        rows, slots = column.rows()[on_host], column.values[on_host].astype(np.int64)
        entries.append(np.stack([slots, rows, np.full(len(rows), fills)], axis=1))
    uses = np.concatenate(entries)
    uses = uses[np.lexsort((uses[:, 1], uses[:, 0]))]
    pairs = _Pairs("slot-reuse", "which uses {} before")
    yield from _fills_and_empties(plan, uses, pairs)
    yield from pairs.broken(plan, order)


def _fills_and_empties(plan: Plan, uses: Ints, pairs: _Pairs) -> Iterator[Violation]:
    """Check ``uses``, sorted rows of (slot, operation, fills); ``pairs`` collects what must be ordered."""
    slot, op, fills = uses.T
    again = np.append(False, slot[1:] == slot[:-1])[: len(uses)]  # whether the use before is one of the same slot
    pairs.add(op[np.flatnonzero(again) - 1], op[again], slot[again])
    filled = _latest_marked(fills == 1, again)  # the fill before each use, or itself
    before = np.arange(len(uses)) - 1
    full = (fills == 1) & again & (fills[before] == 1)
    never = (fills == 0) & (filled < 0)
    other = np.zeros(len(uses), dtype=bool)
    for column in (plan.ops.stage, plan.ops.unit, plan.ops.microbatch):
        other |= (fills == 0) & (filled >= 0) & (column[op[filled]] != column[op])
    for use in np.flatnonzero(full | never | other).tolist():
        this, name = int(op[use]), buffer_name(plan, int(slot[use]))
        first = int(op[use - 1 if full[use] else filled[use]])
        if full[use]:
            text = f"{title(plan, this)} fills {name}, which {title(plan, first)} filled and nothing has emptied"
            yield Violation("slot-reuse", text, (first, this))
        elif never[use]:
            yield Violation("slot-reuse", f"{title(plan, this)} empties {name}, never filled", (this,))
        else:
            text = f"{title(plan, this)} loads what {title(plan, first)} stored: another boundary"
            yield Violation("slot-content", text, (first, this))


def _latest_marked(marked: Flags, again: Flags) -> Ints:
    """Return, for each row, the last marked row up to it in its group, or -1; ``again`` says where a group goes on."""
    at = np.arange(len(marked))
    begin = np.maximum.accumulate(np.where(again, 0, at))
    last = np.maximum.accumulate(np.where(marked, at, -1))
    out: Ints = np.where(last >= begin, last, -1)
    return out


def backward_follows_forward(plan: Plan, order: HappensBefore) -> Iterator[Violation]:
    """Require that a unit's RECOMPUTE and BACKWARD have a FORWARD before them and wait for it."""
    ops = plan.ops
    tasks = np.flatnonzero(is_kind(plan, *UNIT_KINDS))
    names = np.stack([ops.stage[tasks], ops.unit[tasks], ops.microbatch[tasks]], axis=1)
    by_name = np.lexsort(names.T)  # stable, so that list order remains within a unit and microbatch
    tasks, names = tasks[by_name], names[by_name]
    again = np.append(False, (names[1:] == names[:-1]).all(axis=1))[: len(tasks)]
    forward = _latest_marked(ops.kind[tasks] == Kind.FORWARD, again)
    later = ops.kind[tasks] != Kind.FORWARD
    for op in np.sort(tasks[later & (forward < 0)]).tolist():
        yield Violation("backward-after-forward", f"{title(plan, op)} has no FORWARD listed before it", (op,))
    known = later & (forward >= 0)
    a, b = tasks[forward[known]], tasks[known]
    for index in np.flatnonzero(~order.ordered(a, b)).tolist():
        pair = (int(a[index]), int(b[index]))
        message = f"{title(plan, pair[1])} does not wait for {title(plan, pair[0])}"
        yield Violation("backward-after-forward", message, pair)


ORDERING: tuple[Callable[[Plan, HappensBefore], Iterator[Violation]], ...] = (
    reads_follow_writes,
    lifetimes,
    offload_follows_forward,
    host_slots,
    backward_follows_forward,
)
