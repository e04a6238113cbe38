"""Ordering rules (DESIGN, section 2) make pairs of operations that must happen in this order.

They ask :mod:`loadahead.sim.verify.happens_before` about all of them at once, and yield the pairs that do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from loadahead.sim.ir.kinds import Kind, Space
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.verify.happens_before import Flags, HappensBefore
from loadahead.sim.verify.naming import buffer_name
from loadahead.sim.verify.pairs import Pairs, owner, rows_by_buffer, where_both_exist
from loadahead.sim.verify.violation import Violation, title


def lifetimes(plan: Plan, order: HappensBefore) -> Iterator[Violation]:
    """Require that memory is taken before it is used and freed after every read, write and copy of it."""
    ops, count = plan.ops, len(plan.buffers)
    taken, freed = owner(ops.allocs, count), owner(ops.frees, count)
    after_take = Pairs("use-after-take", "which takes {}")
    before_free = Pairs("free-after-use", "which still uses {}")
    for column in (ops.reads, ops.writes):
        rows, buffers = column.rows(), column.values.astype(np.int64)
        after_take.add(*where_both_exist(taken[buffers], rows, buffers))
        before_free.add(*where_both_exist(rows, freed[buffers], buffers))
    everything = np.arange(count, dtype=np.int64)
    before_free.add(*where_both_exist(taken, freed, everything))
    yield from after_take.broken(plan, order)
    yield from before_free.broken(plan, order)


def reads_follow_writes(plan: Plan, order: HappensBefore) -> Iterator[Violation]:
    """Require that device memory is written once, before every read of it."""
    ops, count = plan.ops, len(plan.buffers)
    device = plan.buffers.space == Space.DEVICE
    writes = np.bincount(ops.writes.values, minlength=count)
    for buffer, writers in rows_by_buffer((ops.writes,), device & (writes > 1)).items():
        both = " and ".join(title(plan, row) for row in writers[:2])
        yield Violation("written-once", f"{buffer_name(plan, buffer)} is written by {both}", tuple(writers[:2]))
    writer = owner(ops.writes, count)
    rows, buffers = ops.reads.rows(), ops.reads.values.astype(np.int64)
    for entry in np.flatnonzero(device[buffers] & (writer[buffers] < 0)).tolist():
        op, name = int(rows[entry]), buffer_name(plan, int(buffers[entry]))
        yield Violation("read-after-write", f"{title(plan, op)} reads {name}, never written", (op,))
    pairs = Pairs("read-after-write", "which writes {}")
    pairs.add(*where_both_exist(np.where(device[buffers], writer[buffers], -1), rows, buffers))
    yield from pairs.broken(plan, order)


def offload_follows_forward(plan: Plan, order: HappensBefore) -> Iterator[Violation]:
    """Require that an OFFLOAD starts only after the FORWARD that reads the boundary."""
    reads = plan.ops.reads
    rows, buffers = reads.rows(), reads.values.astype(np.int64)
    forward = np.full(len(plan.buffers), -1, dtype=np.int64)
    of_forward = plan.ops.kind[rows] == Kind.FORWARD
    forward[buffers[of_forward]] = rows[of_forward]
    copied = plan.ops.kind[rows] == Kind.OFFLOAD
    pairs = Pairs("offload-after-forward", "which reads {}")
    pairs.add(*where_both_exist(forward[buffers[copied]], rows[copied], buffers[copied]))
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
    pairs = Pairs("slot-reuse", "which uses {} before")
    yield from _fills_and_empties(plan, uses, pairs)
    yield from pairs.broken(plan, order)


def _fills_and_empties(plan: Plan, uses: Ints, pairs: Pairs) -> Iterator[Violation]:
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


ORDERING: tuple[Callable[[Plan, HappensBefore], Iterator[Violation]], ...] = (
    reads_follow_writes,
    lifetimes,
    offload_follows_forward,
    host_slots,
)
