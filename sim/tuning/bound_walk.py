"""The earliest times of what every plan of an order has in common, where memory makes boundaries leave (docs/bound.md).

A walk over the operations of keeping all, as the engines have it, in which a task also waits for the least that its
rank's links have to carry before it. Bytes are counted in *parts*, the largest common divisor of a rank's boundaries,
of which every sum of boundaries is a whole number.
"""

from __future__ import annotations

import numpy as np

from loadahead.sim.clock import finish, later
from loadahead.sim.compiled import compiled, inlined

# What is known of a task beside its times.
FORWARD, PARTNER, PARTS, EXCESS = range(4)
TASK_COLUMNS = 4
# What is known of a rank: where its tasks begin and end, the tasks between which some boundary has to be away, and the
# quickest copies out and in, each as ns for so many parts.
FIRST, END, FIRST_EXCESS, LAST_EXCESS, OUT_NS, OUT_PARTS, IN_NS, IN_PARTS = range(8)
RANK_COLUMNS = 8
# What an operation is to its task.
SLOT, BEGINS, ENDS = range(3)
OPERATION_COLUMNS = 3
# A product and a quotient of floats, times this, are below the exact figure.
_ROUNDED_DOWN = 1 - 1e-15


@inlined
def copy_time(parts, table, ns, each):  # type: ignore[no-untyped-def]
    """Return no more than boundaries of so many parts together take to copy, in ns.

    ``table`` says it for few parts, shape (parts,); for more, the quickest copies take ``ns`` for ``each`` parts.
    """
    if parts < len(table):
        return table[parts]
    whole, rest = parts // each, parts % each
    least = whole * ns + int(float(rest) * float(ns) / float(each) * _ROUNDED_DOWN)
    return max(table[len(table) - 1], least)


@inlined
def _push_offloads(i, alive, end, origin, tasks, rank, table, available, used, head, source):  # type: ignore[no-untyped-def]
    """Lift the slots behind the FORWARD ``i`` by what has to be copied out between its end and them.

    ``alive`` counts the parts whose FORWARD came before and whose BACKWARD comes after it. Every boundary of these
    may be away at no cost, so that the others have to cover the rest. From the left, what is needed is taken from
    those whose BACKWARD comes last: it covers the most of what follows. Where all of them are not enough no plan keeps
    the limits, and all are taken.
    """
    top = tasks[i, PARTNER]
    available[top] = tasks[i, PARTS]
    cover, total, highest = 0, 0, top
    for k in range(i + 1, rank[LAST_EXCESS] + 1):
        partner, parts = tasks[k, PARTNER], tasks[k, PARTS]
        forward = tasks[k, FORWARD] != 0
        if not forward:
            if partner < i:
                alive -= parts
            else:
                cover -= used[k]
        need = tasks[k, EXCESS] - alive - cover
        if need > 0:
            while need > 0 and top > k:
                taken = min(available[top], need)
                available[top] -= taken
                used[top] += taken
                cover += taken
                total += taken
                need -= taken
                if available[top] == 0:
                    top -= 1
            lifted = end + copy_time(total, table, rank[OUT_NS], rank[OUT_PARTS])
            if lifted > head[k]:
                head[k], source[k] = lifted, origin
        if forward and partner >= 0:
            available[partner] = parts
            top = max(top, partner)
            highest = max(highest, partner)
    available[i : highest + 1] = 0
    used[i : highest + 1] = 0
    return total


@inlined
def _pull_prefetches(k, alive, tasks, rank, table, available, used, opened):  # type: ignore[no-untyped-def]
    """Return when the BACKWARD ``k`` can start for what has to be copied in before it, and since which slot.

    It is :func:`_push_offloads` from right to left: boundaries whose BACKWARD comes after ``k`` may be away at no
    cost; what is needed is taken from those whose FORWARD came first.
    """
    bottom = tasks[k, PARTNER]
    available[bottom] = tasks[k, PARTS]
    cover, total, lowest = 0, 0, bottom
    at, since = 0, -1
    for i in range(k - 1, rank[FIRST_EXCESS] - 1, -1):
        partner, parts = tasks[i, PARTNER], tasks[i, PARTS]
        forward = tasks[i, FORWARD] != 0
        if forward and partner >= 0:
            if partner > k:
                alive -= parts
            else:
                cover -= used[i]
        need = tasks[i, EXCESS] - alive - cover
        if need > 0:
            while need > 0 and bottom < i:
                taken = min(available[bottom], need)
                available[bottom] -= taken
                used[bottom] += taken
                cover += taken
                total += taken
                need -= taken
                if available[bottom] == 0:
                    bottom += 1
            lifted = opened[i + 1] + copy_time(total, table, rank[IN_NS], rank[IN_PARTS])
            if lifted > at:
                at, since = lifted, i + 1
        if not forward:
            available[partner] = parts
            bottom = min(bottom, partner)
            lowest = min(lowest, partner)
    available[lowest : k + 1] = 0
    used[lowest : k + 1] = 0
    return at, since


@compiled
def walk(duration, queue, rank_of, starts, values, allowed, issued, of, tasks, ranks, tables, queue_end, end, cause):  # type: ignore[no-untyped-def]
    """Fill when each operation can end at the earliest, and what it then waited for; return the first start.

    ``cause`` holds an operation, -1 for none, or, for a wait over a link, -2 less the operation it begins with.
    """
    count = len(tasks)
    head, source, opened, opener = (
        np.zeros(count + 1, dtype=np.int64),
        np.full(count + 1, -1, dtype=np.int64),
        np.zeros(count + 1, dtype=np.int64),
        np.full(count + 1, -2, dtype=np.int64),
    )
    available, used = np.zeros(count + 1, dtype=np.int64), np.zeros(count + 1, dtype=np.int64)
    alive, last = np.zeros(len(ranks), dtype=np.int64), np.full(len(queue_end), -1, dtype=np.int64)
    first = np.iinfo(np.int64).max
    for i in range(len(duration)):
        at, why = queue_end[queue[i]], last[queue[i]]
        slot, r = of[i, SLOT], rank_of[i]
        if slot >= 0:
            if opener[slot] == -2:
                opened[slot], opener[slot] = at, why
                if head[slot] > at:
                    opened[slot], opener[slot] = head[slot], source[slot]
            if head[slot] > at:
                at, why = head[slot], -2 - source[slot]
        at = later(at, allowed[i])
        for e in range(starts[i], starts[i + 1]):
            if end[values[e]] > at:
                at, why = end[values[e]], values[e]
        if of[i, BEGINS] and not tasks[slot, FORWARD] and ranks[r, FIRST_EXCESS] < slot:
            lifted, since = _pull_prefetches(
                slot, alive[r] - tasks[slot, PARTS], tasks, ranks[r], tables[r, 1], available, used, opened
            )
            if lifted > at:
                at, why = lifted, -2 - opener[since]
        first = min(first, at)
        cause[i] = why
        end[i] = queue_end[queue[i]] = finish(at, duration[i], issued[i])
        last[queue[i]] = i
        if of[i, ENDS]:
            parts, partner = tasks[slot, PARTS], tasks[slot, PARTNER]
            if not tasks[slot, FORWARD]:
                alive[r] -= parts
            elif partner >= 0:
                if slot < ranks[r, LAST_EXCESS]:
                    _push_offloads(
                        slot, alive[r], end[i], i, tasks, ranks[r], tables[r, 0], available, used, head, source
                    )
                alive[r] += parts
    return first


@compiled
def parts_that_leave(tasks, rank):  # type: ignore[no-untyped-def]
    """Return the fewest parts of a rank that leave in a plan that keeps the limits."""
    available, used = np.zeros(len(tasks) + 1, dtype=np.int64), np.zeros(len(tasks) + 1, dtype=np.int64)
    cover, total, top = 0, 0, -1
    for k in range(rank[FIRST], rank[LAST_EXCESS] + 1):
        if tasks[k, FORWARD] == 0:
            cover -= used[k]
        need = tasks[k, EXCESS] - cover
        while need > 0 and top > k:
            taken = min(available[top], need)
            available[top] -= taken
            used[top] += taken
            cover += taken
            total += taken
            need -= taken
            if available[top] == 0:
                top -= 1
        if tasks[k, FORWARD] != 0 and tasks[k, PARTNER] >= 0:
            available[tasks[k, PARTNER]] = tasks[k, PARTS]
            top = max(top, tasks[k, PARTNER])
    return total
