"""Happens-before follows from queue order and ``after`` edges, and from nothing else.

Operation a happens before b if b's clock for a's queue has reached a, as with vector clocks. Clocks of different
queues do not influence each other, so one queue's column is computed at a time, for just the queues that are asked
about: memory stays at one integer per operation however many ranks there are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from loadahead.sim.compiled import compiled
from loadahead.sim.ir.plan import Ints, Plan

Flags = npt.NDArray[np.bool_]


@compiled
def _clock(queue, queue_index, place, previous, starts, values, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the place of the last operation on ``queue`` that happens before or is each one, else -1."""
    for i in range(len(out)):
        if queue_index[i] == queue:
            out[i] = place[i]
            continue
        best = -1
        if previous[i] >= 0:
            best = out[previous[i]]
        for e in range(starts[i], starts[i + 1]):
            if out[values[e]] > best:
                best = out[values[e]]
        out[i] = best


def ordered(plan: Plan, first: Ints, then: Ints) -> Flags:
    """Return whether ``first[k]`` is, or happens before, ``then[k]``; both hold positions, shape (pairs,).

    Every edge of the plan must point backwards (:mod:`loadahead.sim.ir.wellformed`).
    """
    out: Flags = first == then
    queues = plan.queue_index[first]
    clock = np.empty(len(plan), dtype=np.int64)
    after = plan.ops.after
    pairs = np.argsort(queues, kind="stable")
    for group in np.split(pairs, np.flatnonzero(np.diff(queues[pairs])) + 1):
        if not len(group):
            continue
        _clock(
            queues[group[0]],
            plan.queue_index,
            plan.place_in_queue,
            plan.previous_in_queue,
            after.starts,
            after.values,
            clock,
        )
        out[group] |= clock[then[group]] >= plan.place_in_queue[first[group]]
    return out
