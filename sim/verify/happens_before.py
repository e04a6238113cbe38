"""Happens-before follows from queue order and ``after`` edges, and from nothing else.

Operation a happens before b if b's clock for a's queue has reached a, as with vector clocks. A whole clock has an
entry for every queue of every rank. Nearly all that the rules ask about lies on one rank, so that each operation's
clock of its own rank's queues, made without the edges from other ranks, settles nearly everything in one pass: leaving
edges out can only miss an order. An order that goes through another rank is mostly found one or two edges back: a SEND
waits for the ACQUIRE on the rank that receives. What is then not known to be ordered goes to the exact pass, which
makes one column of the whole clock at a time, for just the queues that are asked about. So memory is bounded by the
operations, not by the ranks.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from loadahead.sim.compiled import compiled, inlined
from loadahead.sim.ir.kinds import QUEUES_PER_RANK
from loadahead.sim.ir.plan import Ints, Plan, SmallInts

Flags = npt.NDArray[np.bool_]

# No operation of the queue happens before this one.
_NONE = -1


@compiled
def _own_clocks(rank, queue, place, previous, starts, values, clocks):  # type: ignore[no-untyped-def]
    """Fill each row of ``clocks`` with the places, on its rank's queues, of the last operations known to be before it.

    An operation's own queue holds its own place.
    """
    for i in range(len(rank)):
        if previous[i] >= 0:
            for q in range(clocks.shape[1]):
                clocks[i, q] = clocks[previous[i], q]
        else:
            for q in range(clocks.shape[1]):
                clocks[i, q] = _NONE
        for e in range(starts[i], starts[i + 1]):
            source = values[e]
            if rank[source] == rank[i]:
                for q in range(clocks.shape[1]):
                    clocks[i, q] = max(clocks[i, q], clocks[source, q])
        clocks[i, queue[i]] = place[i]


@inlined
def _shown(a, b, rank, queue, place, clocks):  # type: ignore[no-untyped-def]
    """Return whether the clock of ``b`` shows that ``a`` is before it or is it."""
    return rank[a] == rank[b] and clocks[b, queue[a]] >= place[a]


@compiled
def _known(first, then, rank, queue, place, starts, values, clocks, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with whether the clocks show each pair to be ordered; return how many they do not.

    Where the clock of the second does not, those are asked which it waits for, and those which they wait for: that is
    how a RECV follows, by way of a SEND on another rank, the ACQUIRE of its memory.
    """
    unknown = 0
    for k in range(len(out)):
        a, b = first[k], then[k]
        found = _shown(a, b, rank, queue, place, clocks)
        if not found:
            for e in range(starts[b], starts[b + 1]):
                c = values[e]
                found |= _shown(a, c, rank, queue, place, clocks)
                for f in range(starts[c], starts[c + 1]):
                    found |= _shown(a, values[f], rank, queue, place, clocks)
                if found:
                    break
        out[k] = found
        unknown += not found
    return unknown


@compiled
def _clock(queue, begin, end, queue_index, place, previous, starts, values, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the place of the last operation on ``queue`` that happens before or is each one, else -1.

    Only rows from ``begin`` to ``end`` are filled, as if nothing were listed before ``begin``.
    """
    for i in range(begin, end):
        if queue_index[i] == queue:
            out[i] = place[i]
            continue
        best = _NONE
        if previous[i] >= begin:
            best = out[previous[i]]
        for e in range(starts[i], starts[i + 1]):
            if values[e] >= begin and out[values[e]] > best:
                best = out[values[e]]
        out[i] = best


class HappensBefore:
    """Says of pairs of a plan's operations whether they are ordered.

    Every edge of the plan must point backwards (:mod:`loadahead.sim.ir.wellformed`).
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    @cached_property
    def _own(self) -> SmallInts:
        """Return the operations' clocks of their own ranks' queues; shape (operations, queues of a rank)."""
        plan, ops = self._plan, self._plan.ops
        clocks = np.empty((len(plan), QUEUES_PER_RANK), dtype=np.int32)
        place, previous, after = plan.place_in_queue, plan.previous_in_queue, ops.after
        _own_clocks(ops.rank, ops.queue, place, previous, after.starts, after.values, clocks)
        return clocks

    def ordered(self, first: Ints, then: Ints) -> Flags:
        """Return whether ``first[k]`` is, or happens before, ``then[k]``; both hold positions, shape (pairs,)."""
        ops, out = self._plan.ops, np.empty(len(first), dtype=np.bool_)
        edges = (ops.after.starts, ops.after.values)
        if _known(first, then, ops.rank, ops.queue, self._plan.place_in_queue, *edges, self._own, out):
            # Edges point backwards, so that nothing happens before what is listed above it.
            open_ = np.flatnonzero(~out & (first < then))
            out[open_] = self._exactly(first[open_], then[open_])
        return out

    def _exactly(self, first: Ints, then: Ints) -> Flags:
        """Return the same by a pass for each queue of ``first``; each of ``first`` is listed before its ``then``."""
        plan, after, out = self._plan, self._plan.ops.after, np.empty(len(first), dtype=np.bool_)
        queues, clock = plan.queue_index[first], np.empty(len(plan), dtype=np.int64)
        pairs = np.argsort(queues, kind="stable")
        for group in np.split(pairs, np.flatnonzero(np.diff(queues[pairs])) + 1) if len(pairs) else ():
            # What is listed before the first of them is after none of them, and behind the last nothing is asked.
            begin, end = first[group].min(), then[group].max() + 1
            graph = (plan.queue_index, plan.place_in_queue, plan.previous_in_queue, after.starts, after.values)
            _clock(queues[group[0]], begin, end, *graph, clock)
            out[group] = clock[then[group]] >= plan.place_in_queue[first[group]]
        return out
