"""The bound by links is the least of cases, one of which every plan is: they say what is away during some tasks.

A case is divided at a task that asks for something to be away, by which of the boundaries that may be away during it is
the last that is: by its FORWARD, or by its BACKWARD. The case with the least bound is divided first, and the bound of
all is that of the least case left. So a boundary that one wait of a path takes away is away for the others, too.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from loadahead.sim.clock import host_times
from loadahead.sim.costs import Costs
from loadahead.sim.ir.kinds import QUEUES_PER_RANK
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.step_metrics import step_time
from loadahead.sim.tuning import bound_walk as w
from loadahead.sim.tuning.bound_needs import Needs

Bools = npt.NDArray[np.bool_]

# So many cases are looked at, and no more than so many steps of their walks are taken: some tenths of a second.
MOST_CASES, MOST_STEPS = 400, 20_000_000
# Of more pairs of tasks than this not all are looked at.
MOST_PAIRS = 40_000_000


@dataclass(frozen=True, slots=True)
class Wait:
    """Holds a wait over a link that the longest path has: how long, of which rank, for what which task asks.

    ``back``: for copies back; else for copies out.
    """

    ns: int
    rank: int
    task: int
    back: bool


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """Holds what one case allows and supposes (:data:`bound_walk.MADE` and those after it) and its bound in ns."""

    step_time_ns: int
    number: int
    stretches: Ints = field(compare=False)
    waits: tuple[Wait, ...] = field(compare=False)


class Cases:
    """Bounds the plans of an order by cases; ``plan`` is the one that keeps all."""

    def __init__(self, plan: Plan, costs: Costs, needs: Needs) -> None:
        self.plan, self.needs, self._made = plan, needs, 0
        ops = plan.ops
        self._columns = (
            costs.durations(plan),
            plan.queue_index,
            ops.rank,
            ops.after.starts,
            ops.after.values,
            *host_times(plan, costs.launches(plan)),
            needs.operations,
            needs.tasks,
            needs.ranks,
            needs.tables,
            # An odd number, as FORWARDs and BACKWARDs may take turns.
            1 + 2 * (_pairs(needs) // MOST_PAIRS),
        )
        asking = np.flatnonzero(needs.tasks[:, w.EXCESS])
        most = np.argsort(needs.tasks[asking, w.EXCESS], kind="stable")[::-1]
        self._asking: list[int] = asking[most].tolist()

    def least(self) -> Case:
        """Return the case with the least bound that is left: no plan that keeps the limits is faster."""
        first, possible = self._case(self.needs.stretches)
        if not possible:
            return first
        most = min(MOST_CASES, MOST_STEPS // _pairs(self.needs))
        left, found = [first], first
        while left and self._made < most:
            found = left[0]
            divided = self._divided(found)
            if divided is None:
                break
            heapq.heappop(left)
            for stretches in divided:
                case, possible = self._case(stretches, found.step_time_ns)
                if possible:
                    heapq.heappush(left, case)
        return left[0] if left else found

    def _case(self, stretches: Ints, least: int = 0) -> tuple[Case, bool]:
        """Return a case and whether there may be such a plan; ``least`` is the bound of the case that it is one of."""
        count = len(self.plan)
        end, cause, asked = (np.zeros(count, dtype=np.int64) for _ in range(3))
        queue_end = np.zeros(self.plan.ranks * QUEUES_PER_RANK, dtype=np.int64)
        began, possible = w.walk(*self._columns, stretches, queue_end, end, cause, asked)
        bound = step_time(int(began), int(end.max()))
        self._made += 1
        return Case(max(bound, least), self._made, stretches, tuple(self._waits(end, cause, asked))), bool(possible)

    def _waits(self, end: Ints, cause: Ints, asked: Ints) -> Iterator[Wait]:
        """Yield the waits over links on the longest path."""
        at = int(end.argmax())
        while at >= 0:
            before = int(cause[at])
            if before < -1:
                before = -2 - before
                task, back = divmod(int(asked[at]), 2)
                since = int(end[before]) if before >= 0 else 0
                yield Wait(int(end[at]) - since, int(self.plan.ops.rank[at]), task, back == w.BACK)
            at = before

    def _divided(self, case: Case) -> list[Ints] | None:
        """Return the cases that one is divided into; None where all is said about every task that asks.

        It is divided at the task that the longest wait is for, or else at the one that asks for most.
        """
        on_path = [
            (wait.task, wait.back) for wait in sorted(case.waits, key=lambda one: (one.ns, one.task), reverse=True)
        ]
        for task, back in [*on_path, *((task, True) for task in self._asking)]:
            undecided = self._undecided(case.stretches, task)
            if len(undecided):
                return list(self._by_last(case.stretches, task, undecided, w.NEEDED if back else w.MADE))
        return None

    def _covering(self, stretches: Ints, task: int) -> Bools:
        return (stretches[:, w.FROM] <= task) & (task <= stretches[:, w.TO])

    def _undecided(self, stretches: Ints, task: int) -> Ints:
        """Return the stretches of boundaries that may be away during a task, and may not."""
        supposed = (stretches[:, w.AWAY_FROM] <= task) & (task <= stretches[:, w.AWAY_TO])
        return np.flatnonzero(self._covering(stretches, task) & ~supposed)

    def _by_last(self, stretches: Ints, task: int, undecided: Ints, column: int) -> Iterator[Ints]:
        """Yield a case for each of these that may be the last that is away during a task, and one in which none is."""
        undecided = undecided[np.argsort(stretches[undecided, column], kind="stable")]
        decided = np.setdiff1d(np.flatnonzero(self._covering(stretches, task)), undecided)
        away = int(stretches[decided, w.SIZE].sum()) + np.cumsum(stretches[undecided, w.SIZE])
        excess = int(self.needs.tasks[task, w.EXCESS])
        if int(stretches[decided, w.SIZE].sum()) >= excess:
            yield _without(stretches, task, undecided)
        for place, last in enumerate(undecided.tolist()):
            if int(away[place]) >= excess:
                supposed, (since, until) = stretches.copy(), stretches[last, [w.AWAY_FROM, w.AWAY_TO]]
                supposed[last, w.AWAY_FROM] = task if since < 0 else min(task, since)
                supposed[last, w.AWAY_TO] = max(task, until)
                # It is away in one stretch, which is none of its others.
                others = (stretches[:, w.MADE] == stretches[last, w.MADE]) & (np.arange(len(stretches)) != last)
                yield _without(supposed, task, undecided[place + 1 :], others)


def _without(stretches: Ints, task: int, present: Ints, dropped: Bools | None = None) -> Ints:
    """Return the stretches where these are not away during a task: before it or behind it, at most.

    One that is supposed to be away before, or behind, is so in that part alone. ``dropped`` are left out.
    """
    parts = np.repeat(stretches[present], 2, axis=0)
    parts[::2, w.TO], parts[1::2, w.FROM] = task - 1, task + 1
    possible = parts[:, w.FROM] <= parts[:, w.TO]
    supposed = parts[:, w.AWAY_FROM] >= 0
    possible &= ~supposed | ((parts[:, w.FROM] <= parts[:, w.AWAY_FROM]) & (parts[:, w.AWAY_TO] <= parts[:, w.TO]))
    rest = np.ones(len(stretches), dtype=bool) if dropped is None else ~dropped
    rest[present] = False
    return np.concatenate([stretches[rest], parts[possible]])


def _pairs(needs: Needs) -> int:
    """Return how many pairs of tasks of one rank there are."""
    lengths = needs.ranks[:, w.END] - needs.ranks[:, w.FIRST]
    return max(int((lengths * lengths).sum()), 1)
