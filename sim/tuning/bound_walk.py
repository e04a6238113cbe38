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
FIRST, END, FIRST_EXCESS, LAST_EXCESS, OUT_NS, OUT_PARTS, IN_NS, IN_PARTS, NUMBER = range(9)
RANK_COLUMNS = 9
# What an operation is to its task.
SLOT, BEGINS, ENDS = range(3)
OPERATION_COLUMNS = 3
# A stretch in which a boundary may be away: its FORWARD, the first and last task during which it may be, its BACKWARD,
# its parts, the first and last task during which it is supposed to be (-1: during none), and its rank.
MADE, FROM, TO, NEEDED, SIZE, AWAY_FROM, AWAY_TO, RANK = range(8)
STRETCH_COLUMNS = 8
# A wait over a link is for what one task asks to be away: twice the task, and one more where it is for copies back.
BACK = 1
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


@compiled
def _sorted(stretches, column, keys):  # type: ignore[no-untyped-def]
    """Return the stretches by the value in a column: key k's are ``rows[starts[k]:starts[k + 1]]``."""
    starts, rows = np.zeros(keys + 1, dtype=np.int64), np.empty(len(stretches), dtype=np.int64)
    for s in range(len(stretches)):
        starts[stretches[s, column] + 1] += 1
    for key in range(keys):
        starts[key + 1] += starts[key]
    place = starts.copy()
    for s in range(len(stretches)):
        key = stretches[s, column]
        rows[place[key]] = s
        place[key] += 1
    return starts, rows


@compiled
def _push_offloads(  # type: ignore[no-untyped-def]
    i, end, origin, tasks, rank, table, stretches, own, begin, finishing, supposed, work, head, source, asked
):
    """Lift the slots behind the FORWARD ``i`` by what has to be copied out between its end and them.

    Boundaries whose FORWARD came before are away at no cost wherever they may be, so that the others have to cover the
    rest. From the left, what is needed is taken from those that may be away longest: they cover the most of what
    follows. Those that are supposed to be away cover what they can, and count once they are; by then, all that are
    supposed to be away at any time and whose FORWARD came earlier have been copied too. Return whether they suffice.
    """
    available, used = work[0], work[1]
    available[rank[FIRST] : rank[END]] = 0
    used[rank[FIRST] : rank[END]] = 0
    cover, total, top, counted, enough = 0, 0, -1, i - 1, True
    for s in own:
        if stretches[s, MADE] < i and stretches[s, FROM] <= i <= stretches[s, TO]:
            cover += stretches[s, SIZE]
    for k in range(i + 1, rank[LAST_EXCESS] + 1):
        for row in range(finishing[0][k - 1], finishing[0][k]):
            s = finishing[1][row]
            if stretches[s, MADE] < i or stretches[s, AWAY_FROM] >= 0:
                cover -= stretches[s, SIZE]
        cover -= used[k - 1]
        for row in range(begin[0][k], begin[0][k + 1]):
            s = begin[1][row]
            if stretches[s, MADE] < i or stretches[s, AWAY_FROM] >= 0:
                cover += stretches[s, SIZE]
            else:
                available[stretches[s, TO]] += stretches[s, SIZE]
                top = max(top, stretches[s, TO])
        before, latest = total, counted
        for s in supposed:
            if stretches[s, AWAY_FROM] == k and stretches[s, RANK] == rank[NUMBER]:
                latest = max(latest, stretches[s, MADE])
        if latest > counted:
            for s in supposed:
                if stretches[s, RANK] == rank[NUMBER] and counted < stretches[s, MADE] <= latest:
                    total += stretches[s, SIZE]
            counted = latest
        need = tasks[k, EXCESS] - cover
        while need > 0 and top >= k:
            taken = min(available[top], need)
            available[top] -= taken
            used[top] += taken
            cover += taken
            total += taken
            need -= taken
            if available[top] == 0:
                top -= 1
        enough &= need <= 0
        if total > before:
            lifted = end + copy_time(total, table, rank[OUT_NS], rank[OUT_PARTS])
            if lifted > head[k]:
                head[k], source[k], asked[k] = lifted, origin, 2 * k
    return enough


@compiled
def _pull_prefetches(k, tasks, rank, table, stretches, own, begin, finishing, supposed, work, opened):  # type: ignore[no-untyped-def]
    """Return when the BACKWARD ``k`` can start for what is copied in before it, who asks for that, and if it suffices.

    It is :func:`_push_offloads` from right to left: boundaries whose BACKWARD comes after ``k`` are away at no cost
    wherever they may be; what is needed is taken from those that may be away soonest.
    """
    available, used = work[0], work[1]
    available[rank[FIRST] : rank[END]] = 0
    used[rank[FIRST] : rank[END]] = 0
    cover, total, bottom, enough = 0, 0, k, True
    at, asked = 0, -1
    for s in own:
        if stretches[s, NEEDED] > k and stretches[s, FROM] <= k <= stretches[s, TO]:
            cover += stretches[s, SIZE]
    for i in range(k - 1, rank[FIRST_EXCESS] - 1, -1):
        for row in range(begin[0][i + 1], begin[0][i + 2]):
            s = begin[1][row]
            if stretches[s, NEEDED] > k or stretches[s, AWAY_FROM] >= 0:
                cover -= stretches[s, SIZE]
        cover -= used[i + 1]
        for row in range(finishing[0][i], finishing[0][i + 1]):
            s = finishing[1][row]
            if stretches[s, NEEDED] > k or stretches[s, AWAY_FROM] >= 0:
                cover += stretches[s, SIZE]
            else:
                available[stretches[s, FROM]] += stretches[s, SIZE]
                bottom = min(bottom, stretches[s, FROM])
        before = total
        for s in supposed:
            if stretches[s, AWAY_TO] == i and stretches[s, RANK] == rank[NUMBER] and stretches[s, NEEDED] <= k:
                total += stretches[s, SIZE]
        need = tasks[i, EXCESS] - cover
        while need > 0 and bottom <= i:
            taken = min(available[bottom], need)
            available[bottom] -= taken
            used[bottom] += taken
            cover += taken
            total += taken
            need -= taken
            if available[bottom] == 0:
                bottom += 1
        enough &= need <= 0
        if total > before:
            lifted = opened[i + 1] + copy_time(total, table, rank[IN_NS], rank[IN_PARTS])
            if lifted > at:
                at, asked = lifted, 2 * i + BACK
    return at, asked, enough


@compiled
def walk(  # type: ignore[no-untyped-def]
    duration,
    queue,
    rank_of,
    starts,
    values,
    allowed,
    issued,
    of,
    tasks,
    ranks,
    tables,
    stride,
    stretches,
    queue_end,
    end,
    cause,
    asked_by,
):
    """Fill when each operation can end at the earliest, and what it then waited for.

    ``cause`` holds an operation, -1 for none, or, for a wait over a link, -2 less the operation it begins with; in that
    case ``asked_by`` holds what the wait is for, else -1. Copies are looked at from one in ``stride``
    tasks: fewer say less, and nothing wrong. Return the first start, and whether the stretches suffice
    for what has to be away.
    """
    count = len(tasks)
    begin, finishing = _sorted(stretches, FROM, count), _sorted(stretches, TO, count)
    of_rank, supposed = _sorted(stretches, RANK, len(ranks)), np.flatnonzero(stretches[:, AWAY_FROM] >= 0)
    head, opened = np.zeros(count + 1, dtype=np.int64), np.zeros(count + 1, dtype=np.int64)
    source, asked = np.full(count + 1, -1, dtype=np.int64), np.full(count + 1, -1, dtype=np.int64)
    opener, last = np.full(count + 1, -2, dtype=np.int64), np.full(len(queue_end), -1, dtype=np.int64)
    work = np.zeros((2, count + 1), dtype=np.int64)
    first, enough = np.iinfo(np.int64).max, True
    for i in range(len(duration)):
        at, why, who = queue_end[queue[i]], last[queue[i]], -1
        slot, r = of[i, SLOT], rank_of[i]
        own = of_rank[1][of_rank[0][r] : of_rank[0][r + 1]]
        if slot >= 0:
            if opener[slot] == -2:
                opened[slot], opener[slot] = at, why
                if head[slot] > at:
                    opened[slot], opener[slot] = head[slot], source[slot]
            if head[slot] > at:
                at, why, who = head[slot], -2 - source[slot], asked[slot]
        at = later(at, allowed[i])
        for e in range(starts[i], starts[i + 1]):
            if end[values[e]] > at:
                at, why, who = end[values[e]], values[e], -1
        looked = slot >= 0 and (slot - ranks[r, FIRST]) % stride == 0
        if looked and of[i, BEGINS] and not tasks[slot, FORWARD] and ranks[r, FIRST_EXCESS] < slot:
            lifted, by, suffices = _pull_prefetches(
                slot, tasks, ranks[r], tables[r, 1], stretches, own, begin, finishing, supposed, work, opened
            )
            enough &= suffices
            if lifted > at:
                at, why, who = lifted, -2 - opener[by // 2 + 1], by
        first = min(first, at)
        cause[i], asked_by[i] = why, who
        end[i] = queue_end[queue[i]] = finish(at, duration[i], issued[i])
        last[queue[i]] = i
        if (
            looked
            and of[i, ENDS]
            and tasks[slot, FORWARD]
            and tasks[slot, PARTNER] >= 0
            and slot < ranks[r, LAST_EXCESS]
        ):
            enough &= _push_offloads(
                slot,
                end[i],
                i,
                tasks,
                ranks[r],
                tables[r, 0],
                stretches,
                own,
                begin,
                finishing,
                supposed,
                work,
                head,
                source,
                asked,
            )
    return first, enough


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
