"""What overlap is is said here, once: the time in which a copy and compute run at once, over that of any copying.

That is Holistic Trace Analysis's definition. Copies in both directions count as one stretch of copying where they meet.
"""

from __future__ import annotations

import numpy as np

from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.ir.plan import Ints
from loadahead.sim.step_metrics import overlap_share


@inlined
def copying_and_hidden(busy, leaving, coming):  # type: ignore[no-untyped-def]
    """Return (time in which any copy runs, time in which both a copy and compute run), in ns.

    Each array holds one queue's spans, disjoint and in order, start and end in turn.
    """
    copying = hidden = 0
    i = j = k = 0
    while i < len(leaving) or j < len(coming):
        if j == len(coming) or (i < len(leaving) and leaving[i] <= coming[j]):
            start, end = leaving[i], leaving[i + 1]
            i += 2
        else:
            start, end = coming[j], coming[j + 1]
            j += 2
        while True:  # a copy that begins inside belongs to the same stretch of copying
            if i < len(leaving) and leaving[i] <= end:
                end = max(end, leaving[i + 1])
                i += 2
            elif j < len(coming) and coming[j] <= end:
                end = max(end, coming[j + 1])
                j += 2
            else:
                break
        copying += end - start
        while k < len(busy) and busy[k + 1] <= start:
            k += 2
        while k < len(busy) and busy[k] < end:
            hidden += min(busy[k + 1], end) - max(busy[k], start)
            if busy[k + 1] > end:
                break
            k += 2
    return copying, hidden


# Compiled code calls it as well.
overlap = inlined(overlap_share)


@compiled
def _copying_and_hidden(busy, leaving, coming):  # type: ignore[no-untyped-def]
    return copying_and_hidden(busy, leaving, coming)


def merge(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Return the union of intervals as (starts, ends) of disjoint spans in order; empty ones are left out."""
    keep = end > start
    start, end = start[keep], end[keep]
    if not len(start):
        return start, end
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    opens = np.append(True, start[1:] > reach[:-1])
    closes = np.append(opens[1:], True)
    return start[opens], reach[closes]


def spans(start: Ints, end: Ints) -> Ints:
    """Return the same as one array, start and end in turn."""
    out: Ints = np.stack(merge(start, end), axis=1).ravel()
    return out


def of_spans(busy: Ints, leaving: Ints, coming: Ints) -> tuple[int, int]:
    """Return :func:`copying_and_hidden` of the spans of compute, of copies out and of copies in."""
    copying, hidden = _copying_and_hidden(busy, leaving, coming)
    return int(copying), int(hidden)
