"""A row of weights is cut into consecutive parts, the heaviest as light as possible.

Of several best cuts it is the one whose later parts start earliest: the last part starts as early as it can, then the
rest is cut the same way.

The heaviest part's weight is found by bisection. No part then has to be looked at beyond the places where it can end at
all: what comes before it must be cut well enough, and so must what comes after. These places are few where the parts
are nearly even, and the dynamic programme runs over them alone, a pointer moving along each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from loadahead.sim.compiled import compiled, inlined

# Sums are compared and halved, so that twice the largest has to fit int64.
MOST_SUM = 2**62 - 1


def even_cuts(weights: Sequence[int], parts: int) -> list[int]:
    """Return where each part starts, and the number of weights at the end: ``parts + 1`` places.

    There must be at least one part, and at least as many weights as parts; a weight may be any integer from 0 on.
    """
    totals: Any = list(accumulate(weights, initial=0))
    fits = totals[-1] <= MOST_SUM
    numbers: Any = np.int64 if fits else object
    find, cut = (_find_ends, _cut) if fits else (_find_ends_in_python, _cut_in_python)
    if fits:
        totals = np.asarray(totals, dtype=np.int64)
    first, last = np.zeros(parts + 1, dtype=np.int64), np.zeros(parts + 1, dtype=np.int64)
    find(totals, max(weights), first, last)
    worst = np.zeros(int((last - first).sum()) + parts + 1, dtype=numbers)
    starts = np.zeros(parts + 1, dtype=np.int64)
    cut(totals, first, last, worst, starts)
    return list(starts.tolist())


@inlined
def _first_at_least(totals: Any, amount: Any, low: int, high: int) -> int:
    """Return the first place from ``low`` on whose total is at least this; ``high`` where none before it is."""
    while low < high:
        middle = (low + high) // 2
        if totals[middle] < amount:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def _fill(totals: Any, most: Any, last: Any) -> bool:
    """Put down the latest end of each part when none is heavier than ``most``; return whether that reaches the end."""
    parts, end = len(last) - 1, len(totals) - 1
    for part in range(1, parts + 1):
        latest = end - (parts - part)  # each later part needs a weight
        last[part] = _first_at_least(totals, totals[last[part - 1]] + most + 1, last[part - 1] + 1, latest + 1) - 1
    return bool(last[parts] == end)


def _find_ends_in_python(totals: Any, heaviest: Any, first: Any, last: Any) -> None:
    """Fill in the first and the last place where each part can end in a best cut."""
    parts, end = len(last) - 1, len(totals) - 1
    low = max(heaviest, -(-totals[end] // parts))
    # When an even share and the heaviest weight may be in a part, each that is filled holds more than an even share.
    high = min(low + heaviest, totals[end])
    while low < high:
        middle = (low + high) // 2
        if _fill(totals, middle, last):
            high = middle
        else:
            low = middle + 1
    _fill(totals, low, last)
    first[parts] = end
    for part in range(parts - 1, -1, -1):
        first[part] = max(part, _first_at_least(totals, totals[first[part + 1]] - low, 0, first[part + 1]))
    first[0] = 0


def _cut_in_python(totals: Any, first: Any, last: Any, worst: Any, starts: Any) -> None:
    """Fill in where each part starts.

    ``worst`` has a row for each number of parts: the heaviest part when all before a place is cut into so many, for
    the places from ``first`` to ``last``.
    """
    parts = len(last) - 1
    row = 1  # row 0 is the place 0 alone
    for end in range(first[1], last[1] + 1):
        worst[row + end - first[1]] = totals[end]
    for part in range(2, parts + 1):
        before, shift = row, first[part - 1]
        row += last[part - 1] - first[part - 1] + 1
        at = shift
        for end in range(first[part], last[part] + 1):
            latest = min(end - 1, last[part - 1])
            while at < latest and worst[before + at - shift] < totals[end] - totals[at]:
                at += 1
            best = max(worst[before + at - shift], totals[end] - totals[at])
            if at > shift:
                best = min(best, max(worst[before + at - 1 - shift], totals[end] - totals[at - 1]))
            worst[row + end - first[part]] = best
    end = starts[parts] = len(totals) - 1
    for part in range(parts, 1, -1):
        best = worst[row + end - first[part]]
        end = _first_at_least(totals, totals[end] - best, max(first[part - 1], part - 1), end - 1)
        starts[part - 1] = end
        row -= last[part - 1] - first[part - 1] + 1


_find_ends, _cut = compiled(_find_ends_in_python), compiled(_cut_in_python)
