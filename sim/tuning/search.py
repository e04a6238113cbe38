"""Which boundaries leave is searched here; when they leave and come back the deciding walk says.

A search goes from one set of boundaries to another that differs a little, and keeps it where the step is no longer than
it was some sets before (late acceptance: Burke and Bykov, "The late acceptance hill-climbing heuristic", 2017). It
draws from a generator of its own, so that equal questions have equal answers, and it ends after so many operations were
timed, not after so much time.
"""

from __future__ import annotations

import numpy as np

from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.ir.kinds import QUEUES_PER_RANK
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import get
from loadahead.sim.planner.deciding import LEAVES, Q_LEAD, Q_URGENCY, RANK, RANK_WIDTH_HERE
from loadahead.sim.planner.lower import lower_deciding

# A step's time counts so many times as much as a ns, so that the mean end of the ranks, which tells sets apart whose
# step is equal, goes in between. Longer steps count as equally long, so that 64 bits suffice.
STEP_WEIGHT, LONGEST_STEP = 2**12, 2**48
# The linear congruential generator modulo 2^64 of Knuth's MMIX.
_MULTIPLIER, _INCREMENT = np.uint64(6364136223846793005), np.uint64(1442695040888963407)
# Of a rank with more candidates than this, many change at once more often.
_WIDE = 48
# How bad it is to break the device's limits, and to break the host's beside the bytes that are missing.
NEVER, BEYOND_HOST = 2**62, 2**61


@inlined
def draw(state, below):  # type: ignore[no-untyped-def]
    """Return the next number from 0 to below ``below``; ``state`` is an array of one."""
    state[0] = state[0] * _MULTIPLIER + _INCREMENT
    return np.int64((state[0] >> np.uint64(33)) % np.uint64(below))


@compiled
def time_value(m):  # type: ignore[no-untyped-def]
    """Return how long the step of the last walk took, times ``STEP_WEIGHT``, and in between how early its ranks end."""
    last, total, ranks = 1, 0, 0
    for r in range(m[a.RANK_ROWS], m[a.UNIT_ROWS], a.RANK_WIDTH):
        end = 0
        for queue in range(QUEUES_PER_RANK):
            end = max(end, get(m, r + a.R_QUEUE_END + queue))
        last = max(last, end)
        total += min(end, LONGEST_STEP)
        ranks += 1
    early = total // ranks * (STEP_WEIGHT - 1) // (min(last, LONGEST_STEP) + 1)
    return min(last - m[a.FIRST_START], LONGEST_STEP) * STEP_WEIGHT + early


@compiled
def missing_of_host(m, hosts, most_host):  # type: ignore[no-untyped-def]
    """Return by how many bytes the slots of the fullest host are more than it may have, after a walk; or 0.

    ``hosts`` has rows of host, rank, and how many GPUs of the host work for it; shape (rows, 3).
    """
    needs, fullest = 0, 0
    for row in range(len(hosts)):
        if row == 0 or hosts[row, 0] != hosts[row - 1, 0]:
            needs = 0
        needs += hosts[row, 2] * m[m[a.RANK_ROWS] + hosts[row, 1] * a.RANK_WIDTH + a.R_HOST]
        fullest = max(fullest, needs)
    return max(fullest - most_host, 0)


@compiled
def value_of(m, d, nothing, hosts, most_host):  # type: ignore[no-untyped-def]
    """Walk with what leaves now, and return how bad it is: the less the better; ``NEVER`` where too little leaves."""
    if lower_deciding(m, d, nothing, nothing) >= 0:
        return NEVER
    missing = missing_of_host(m, hosts, most_host)
    if missing:
        return BEYOND_HOST + missing
    return time_value(m)


@inlined
def _keep_settings(d, settings):  # type: ignore[no-untyped-def]
    """Copy each rank's urgency and lead."""
    for rank in range(len(settings)):
        row = d[RANK] + rank * RANK_WIDTH_HERE
        settings[rank, 0], settings[rank, 1] = d[row + Q_URGENCY], d[row + Q_LEAD]


@compiled
def improve(m, d, nothing, candidates, starts, hosts, most_host, enough, effort, length, state, best):  # type: ignore[no-untyped-def]
    """Go from what leaves now to better sets for ``effort`` walks; leave the best in ``best``, return its value.

    Args:
        candidates: boundaries that may leave, rank by rank in the order of their FORWARDs; shape (candidates,).
        starts: where each rank's candidates begin; shape (ranks + 1,).
        hosts, most_host: who shares a host, and the most bytes of host slots of any; as in :func:`missing_of_host`.
        enough: a step in ns than which none is shorter, so that the search is over there.
        length: how many sets late acceptance looks back.
        state: the generator's.
        best: which of the candidates leave; shape (candidates,).
    """
    leaves, ranks = d[LEAVES], len(starts) - 1
    count = len(candidates)
    current = np.empty(count, dtype=np.int64)
    chosen = np.empty(count, dtype=np.int64)
    for i in range(count):
        current[i] = d[leaves + candidates[i]]
    value = value_of(m, d, nothing, hosts, most_host)
    for i in range(count):
        current[i] = best[i] = d[leaves + candidates[i]]
    least = value
    history = np.full(length, value, dtype=np.int64)
    settings = np.empty((ranks, 2), dtype=np.int64)
    _keep_settings(d, settings)
    before = 0
    for step in range(effort):
        if least < (enough + 1) * STEP_WEIGHT:
            break
        chosen[:] = current
        rank = draw(state, ranks)
        while starts[rank] == starts[rank + 1]:
            rank = draw(state, ranks)
        first, width = starts[rank], starts[rank + 1] - starts[rank]
        kind, changed = draw(state, 20 if width <= _WIDE else 40), -1
        if kind < 5:
            i = first + draw(state, width)
            chosen[i] = 1 - chosen[i]
        elif kind < 12:
            # Two that are near each other change places.
            i = first + draw(state, width)
            reach = 1 + draw(state, min(width, 8))
            j = i + reach if draw(state, 2) else i - reach
            if j < first or j >= first + width:
                j = first + draw(state, width)
            chosen[i], chosen[j] = chosen[j], chosen[i]
        elif kind < 14:
            # A stretch moves by one.
            i = first + draw(state, width)
            j = min(i + 2 + draw(state, 8), first + width)
            kept = chosen[i]
            for at in range(i, j - 1):
                chosen[at] = chosen[at + 1]
            chosen[j - 1] = kept
        elif kind < 15:
            for _ in range(3):
                i = first + draw(state, width)
                chosen[i] = 1 - chosen[i]
        elif kind != 15:
            # So many of so many leave, evenly, over a stretch of one rank or of all.
            everywhere = draw(state, 3) == 0
            begin, stop = draw(state, 1024), draw(state, 1024)
            begin, stop = min(begin, stop), max(begin, stop) + 1
            of = 1 + draw(state, 12)
            share, phase = draw(state, of + 1), draw(state, of)
            for other in range(ranks):
                if other == rank or everywhere:
                    own, size = starts[other], starts[other + 1] - starts[other]
                    for at in range(size * begin // 1024, size * stop // 1024):
                        turn = at + phase
                        chosen[own + at] = (turn + 1) * share // of - turn * share // of
        else:
            is_urgency = draw(state, 2) != 0
            changed = d[RANK] + rank * RANK_WIDTH_HERE + (Q_URGENCY if is_urgency else Q_LEAD)
            before = d[changed]
            if is_urgency:
                d[changed] = 100 * draw(state, 3)
            else:
                d[changed] = max(before // 2, 1) if draw(state, 2) else before + (before + 1) // 2
        for i in range(count):
            d[leaves + candidates[i]] = chosen[i]
        found = value_of(m, d, nothing, hosts, most_host)
        if found <= value or found <= history[step % length]:
            value = found
            for i in range(count):
                current[i] = d[leaves + candidates[i]]
            if found < least:
                least = found
                best[:] = current
                _keep_settings(d, settings)
        elif changed >= 0:
            d[changed] = before
        history[step % length] = value
    for i in range(count):
        d[leaves + candidates[i]] = best[i]
    for rank in range(ranks):
        row = d[RANK] + rank * RANK_WIDTH_HERE
        d[row + Q_URGENCY], d[row + Q_LEAD] = settings[rank]
    return least
