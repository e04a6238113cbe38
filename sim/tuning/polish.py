"""Slots themselves are searched here, one or two at a time, from those that a deciding walk has found.

The deciding walk never waits for an OFFLOAD where it could do without, and lets nothing come back early at the cost of
such a wait; a few of the best plans do. Each set of slots is timed by the planner's walk, and must keep every limit.
"""

from __future__ import annotations

import numpy as np

from loadahead.sim.compiled import compiled
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import get
from loadahead.sim.planner.lower import lower_without_rows
from loadahead.sim.tuning.search import BEYOND_HOST, NEVER, STEP_WEIGHT, draw, missing_of_host, time_value


@compiled
def value_of_slots(m, release, acquire, hosts, most):  # type: ignore[no-untyped-def]
    """Walk with these slots, and return how bad they are: the less the better; ``NEVER`` where they break a limit.

    ``most`` holds the most bytes of any device, of boundaries on it, and of the slots of any host.
    """
    if lower_without_rows(m, release, acquire) >= 0:
        return NEVER
    for r in range(m[a.RANK_ROWS], m[a.UNIT_ROWS], a.RANK_WIDTH):
        if get(m, r + a.R_PEAK) > most[0] or get(m, r + a.R_BOUNDARY_PEAK) > most[1]:
            return NEVER
    missing = missing_of_host(m, hosts, most[2])
    if missing:
        return BEYOND_HOST + missing
    return time_value(m)


@compiled
def polish(m, candidates, starts, first, last, hosts, most, release, acquire, enough, effort, length, state):  # type: ignore[no-untyped-def]
    """Change slots for the better in ``effort`` walks, and return the value of the best, which are left in place.

    Args:
        candidates, starts: as :func:`loadahead.sim.tuning.search.improve` takes them.
        first, last: the first and the last slot that each candidate may have; shape (candidates,).
        hosts, most: as :func:`value_of_slots` takes them.
        enough: as there.
        release, acquire: slots, which keep the limits; shape (boundaries,).
    """
    ranks = len(starts) - 1
    value = least = value_of_slots(m, release, acquire, hosts, most)
    best_release, best_acquire = release.copy(), acquire.copy()
    history = np.full(length, value, dtype=np.int64)
    touched = np.empty(2, dtype=np.int64)
    before = np.empty((2, 2), dtype=np.int64)
    for step in range(effort):
        if least < (enough + 1) * STEP_WEIGHT:
            break
        rank = draw(state, ranks)
        while starts[rank] == starts[rank + 1]:
            rank = draw(state, ranks)
        begin, width = starts[rank], starts[rank + 1] - starts[rank]
        count = 1 + draw(state, 2)
        i = begin + draw(state, width)
        reach = draw(state, min(width, 9)) - min(width, 9) // 2
        j = min(max(i + reach, begin), begin + width - 1)
        if j == i:
            count = 1
        touched[0], touched[1] = i, j
        for n in range(count):
            b = candidates[touched[n]]
            before[n, 0], before[n, 1] = release[b], acquire[b]
        kind = draw(state, 8)
        if count == 2 and kind == 0:
            # One stays where the other leaves.
            b, c = candidates[i], candidates[j]
            release[b], release[c] = release[c], release[b]
            acquire[b], acquire[c] = acquire[c], acquire[b]
        else:
            for n in range(count):
                b = candidates[touched[n]]
                lowest, highest = first[touched[n]], last[touched[n]]
                if release[b] < 0:
                    release[b] = lowest + draw(state, highest - lowest)
                    acquire[b] = release[b] + 1 + draw(state, highest - release[b])
                else:
                    what = draw(state, 9)
                    if what < 4:
                        release[b] = max(release[b] + draw(state, 5) - 2, lowest)
                    elif what < 8:
                        acquire[b] = max(acquire[b] + draw(state, 5) - 2, lowest)
                    else:
                        release[b] = acquire[b] = -1
        for n in range(count):
            b = candidates[touched[n]]
            if release[b] >= 0:
                release[b] = min(max(release[b], first[touched[n]]), last[touched[n]] - 1)
                acquire[b] = min(max(acquire[b], release[b] + 1), last[touched[n]])
        found = value_of_slots(m, release, acquire, hosts, most)
        if found <= value or found <= history[step % length]:
            value = found
            if found < least:
                least = found
                best_release[:], best_acquire[:] = release, acquire
        else:
            for n in range(count):
                b = candidates[touched[n]]
                release[b], acquire[b] = before[n, 0], before[n, 1]
        history[step % length] = value
    release[:], acquire[:] = best_release, best_acquire
    return least


@compiled
def prune(m, candidates, hosts, most, release, acquire, effort):  # type: ignore[no-untyped-def]
    """Let boundaries stay whose leaving makes the step no shorter, in at most ``effort`` walks.

    Many are tried at once, those that are away for the fewest tasks first; where that is too much, half of them.
    """
    step = value_of_slots(m, release, acquire, hosts, most) // STEP_WEIGHT
    away = np.where(release[candidates] >= 0, acquire[candidates] - release[candidates], 0)
    order = candidates[np.argsort(away, kind="mergesort")]
    was_release, was_acquire = release.copy(), acquire.copy()
    changed = True
    # What stays may let another one stay.
    while changed and effort > 0:
        changed = False
        # What is left to be tried, the next last: from one place to another.
        left = [(0, len(order))]
        while len(left) and effort > 0:
            begin, end = left.pop()
            leaving = 0
            for i in range(begin, end):
                leaving += release[order[i]] >= 0
                release[order[i]] = acquire[order[i]] = -1
            if not leaving:
                continue
            effort -= 1
            if value_of_slots(m, release, acquire, hosts, most) // STEP_WEIGHT <= step:
                changed = True
                for i in range(begin, end):
                    was_release[order[i]] = was_acquire[order[i]] = -1
            else:
                for i in range(begin, end):
                    release[order[i]], acquire[order[i]] = was_release[order[i]], was_acquire[order[i]]
                if end > begin + 1:
                    middle = (begin + end) // 2
                    left.append((middle, end))
                    left.append((begin, middle))
