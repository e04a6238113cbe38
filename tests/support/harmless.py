"""Changes a plan's rows to those of a plan that means the same: another order of the list, later frees, other ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np

from loadahead.sim.ir.kinds import RECV_KINDS, UNIT_KINDS, Kind
from loadahead.sim.ir.plan import Plan
from tests.support.plan_rows import BACKWARDS, LISTS, Rows, any_list_of, between

Change = Callable[[Rows, Random], None]


def redundant_edges(rows: Rows, random: Random) -> None:
    """Edges that say again what is so already."""
    masks = rows.before()
    for op in rows.ops:
        earlier = [o for place, o in enumerate(rows.ops) if masks[id(op)] >> place & 1 and o not in op.after]
        op.after += random.sample(earlier, min(len(earlier), random.randint(0, 3)))
        random.shuffle(op.after)


def another_list_order(rows: Rows, random: Random) -> None:
    """Any list in which edges point backwards and each queue has its order."""
    listed = any_list_of(rows.queues(), random)
    assert listed is not None
    rows.ops = listed


def releases_later(rows: Rows, random: Random) -> None:
    for op in [op for op in rows.ops if op.kind == Kind.RELEASE]:
        if random.random() < 0.5:
            rows.move(op, random.randint(rows.ops.index(op) + 1, len(rows.ops)))


def acquires_earlier(rows: Rows, random: Random) -> None:
    for op in [op for op in rows.ops if op.kind == Kind.ACQUIRE and not op.after]:
        if random.random() < 0.5:
            queue = [o for o in rows.ops[: rows.ops.index(op) + 1] if o.queue == op.queue]
            at = random.randrange(len(queue))
            # Directly before a BACKWARD is its RECOMPUTE's place.
            while at and queue[at].kind in (*BACKWARDS, Kind.RELEASE):
                at -= 1
            if queue[at].kind not in (*BACKWARDS, Kind.RELEASE):
                rows.move(op, rows.ops.index(queue[at]))


def acquires_merged(rows: Rows, random: Random) -> None:
    """A later ACQUIRE's memory is taken by an earlier one of the rank."""
    acquires = [op for op in rows.ops if op.kind == Kind.ACQUIRE]
    random.shuffle(acquires)
    for op in acquires[: len(acquires) // 2]:
        earlier = [o for o in rows.ops[: rows.ops.index(op)] if o.kind == Kind.ACQUIRE and o.rank == op.rank]
        if not earlier:
            continue
        into = random.choice(earlier)
        into.allocs += op.allocs
        into.key = random.choice([into.key, op.key, (-1, -1, -1)])
        for other in rows.ops:
            if op in other.after:
                other.after = [edge for edge in other.after if edge is not op and edge is not into] + [into]
        rows.ops.remove(op)


def freed_later(rows: Rows, random: Random) -> None:
    """What a task frees is freed by a later operation of the compute queue."""
    for op in [op for op in rows.ops if op.kind in UNIT_KINDS and op.frees]:
        later = [o for o in rows.ops[rows.ops.index(op) + 1 :] if o.queue == op.queue and o.kind != Kind.ACQUIRE]
        if random.random() < 0.3:
            random.choice(later).frees.append(op.frees.pop())


def releases_merged(rows: Rows, random: Random) -> None:
    """An earlier RELEASE's memory is freed by a later one of the rank."""
    for op in [op for op in rows.ops if op.kind == Kind.RELEASE]:
        later = [o for o in rows.ops[rows.ops.index(op) + 1 :] if o.kind == Kind.RELEASE and o.rank == op.rank]
        if later and random.random() < 0.5:
            into = random.choice(later)
            into.frees += op.frees
            into.after += [edge for edge in op.after if edge not in into.after]
            rows.ops.remove(op)


def buffers_shuffled(rows: Rows, random: Random) -> None:
    """The buffers stand in another order, and so do the operations' lists."""
    order = list(range(len(rows.buffers)))
    random.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    rows.buffers = [rows.buffers[old] for old in order]
    for op in rows.ops:
        for name in LISTS:
            row = [place[buffer] for buffer in getattr(op, name)]
            random.shuffle(row)
            setattr(op, name, row)


def named_by_the_other(rows: Rows, random: Random) -> None:
    """An output or a gradient lies between two units, and may have the name of either."""
    names = [sorted(between(rows, number)) for number in range(len(rows.buffers))]
    for buffer, either in zip(rows.buffers, names, strict=True):
        if either:
            buffer.key = random.choice(either)


def arrivals_say_no_bytes(rows: Rows, random: Random) -> None:
    """A RECV takes no time, and what it moves is its SEND's."""
    for op in rows.ops:
        if op.kind in RECV_KINDS:
            op.nbytes = random.choice([0, op.nbytes])


def acquires_behind_recomputes(rows: Rows, random: Random) -> None:
    """What a BACKWARD needs beside its boundary may be taken between its RECOMPUTE and itself."""
    for queue in rows.queues().values():
        for acquire, op, then in zip(queue, queue[1:], queue[2:], strict=False):
            if acquire.kind != Kind.ACQUIRE or op.kind != Kind.RECOMPUTE or set(acquire.allocs) & set(op.reads):
                continue
            if then.kind != Kind.BACKWARD:
                continue
            place = rows.ops.index(acquire)
            if all(rows.ops.index(edge) < place for edge in op.after):
                rows.move(op, place)


def nothing_named(rows: Rows, random: Random) -> None:
    """An ACQUIRE or a RELEASE, which may be of many, needs no name."""
    for op in rows.ops:
        if op.kind in (Kind.ACQUIRE, Kind.RELEASE):
            op.key = (-1, -1, -1)


# In this order any of them can be made together: those that move operations go before those that add edges.
HARMLESS: tuple[Change, ...] = (
    acquires_merged,
    acquires_earlier,
    releases_merged,
    releases_later,
    freed_later,
    nothing_named,
    named_by_the_other,
    arrivals_say_no_bytes,
    acquires_behind_recomputes,
    buffers_shuffled,
    redundant_edges,
    another_list_order,
)


def with_other_ids(plan: Plan, random: Random) -> Plan:
    """The same plan as a file may give it, whose ids are any numbers."""
    op_ids = np.asarray(random.sample(range(2**40), len(plan)), dtype=np.int64)
    buffer_ids = np.asarray(random.sample(range(2**40), len(plan.buffers)), dtype=np.int64)
    return replace(plan, op_ids=op_ids, buffer_ids=buffer_ids)
