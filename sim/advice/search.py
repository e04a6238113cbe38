"""The smallest horizon whose step is short enough is found here, and it is said how far that was searched.

A larger horizon takes no less memory on any rank: each boundary comes back no later, or stays. So the smallest horizon
is the one with the least memory. Where a larger horizon never makes a step longer either
(:attr:`loadahead.sim.advice.steps.Steps.monotone`), halving finds it; elsewhere halving over a lower bound tells which
horizons are too small, and those from there on are tried one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from loadahead.sim.advice.findings import Searched
from loadahead.sim.advice.steps import Steps
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner import Policy
from loadahead.sim.planner.build import order_for
from loadahead.sim.planner.horizon import decide
from loadahead.sim.planner.tasks import Tasks, tasks_of, units_of
from loadahead.sim.workload import Workload

# Whoever waits is told when searches have taken, or will take, longer than this; in all they end by MOST_SECONDS.
TOLD_SECONDS, MOST_SECONDS = 0.5, 10.0
# However little time is left, so many horizons are tried.
_LEAST_TRIED = 16


@dataclass(slots=True)
class Effort:
    """Holds how long searches may take together, in seconds as estimated, and who is told before a long one."""

    tell: Callable[[str], None] = lambda _: None
    left: float = field(default_factory=lambda: MOST_SECONDS)
    _spent: float = 0.0
    _told: bool = False

    def announce(self, seconds: float, last: int) -> None:
        """Tell, once, where so much more takes long; horizons up to ``last`` are looked at."""
        if self._spent + seconds > TOLD_SECONDS and not self._told:
            self.tell(f"looking for the best horizon up to {last}")
            self._told = True

    def spend(self, seconds: float, last: int) -> None:
        """Take this long of what is left."""
        self.announce(seconds, last)
        self._spent += seconds
        self.left = max(self.left - seconds, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizons:
    """Holds the horizons of one policy, all else as it says: which offload anything, and how much."""

    policy: Policy
    tasks: Tasks
    _slots: tuple[Ints, Ints] = field(repr=False)

    @classmethod
    def of(cls, tasks: Tasks, policy: Policy) -> Horizons:
        """Return the horizons of a policy over its tasks."""
        slots = (np.empty(tasks.boundaries, dtype=np.int64), np.empty(tasks.boundaries, dtype=np.int64))
        return cls(policy=policy, tasks=tasks, _slots=slots)

    def at(self, horizon: int) -> Policy:
        """Return the policy with this horizon."""
        return replace(self.policy, horizon=horizon, offload=True)

    def offloaded(self, horizon: int) -> int:
        """Return how many boundaries leave at this horizon: no more than at any smaller one."""
        layers = self.policy.horizon_unit == "layers"
        settings = (self.tasks.microbatches, horizon, layers, self.policy.release_window, True)
        return int(decide(self.tasks.columns(), *settings, *self._slots))

    def last(self) -> int:
        """Return the largest horizon that offloads anything and is not the same as a smaller one; 0 for none.

        In tasks nothing leaves at a horizon of a rank's number of tasks. In layers all that leaves comes back before
        the first BACKWARD at a horizon of a rank's number of boundaries.
        """
        if not self.offloaded(1):
            return 0
        boundaries = np.add.reduceat(self.tasks.backward, self.tasks.start[:-1])
        most = int((boundaries if self.policy.horizon_unit == "layers" else np.diff(self.tasks.start)).max())
        return smallest(1, most, lambda horizon: not self.offloaded(horizon + 1)) or most


def tasks_for(workload: Workload, policy: Policy) -> Tasks:
    """Return the policy's tasks; horizons change nothing of them."""
    order = order_for(workload, policy)
    return tasks_of(units_of(workload, order), order, workload.frozen_units)


def furthest(tasks: Tasks) -> int:
    """Return by how many tasks a BACKWARD comes after its FORWARD at the most; 0 where none does."""
    return int((tasks.backward_at - tasks.forward_at).max(initial=0))


def smallest(first: int, last: int, holds: Callable[[int], bool]) -> int | None:
    """Return the smallest number from first to last for which something holds; where it does, it does for larger ones.

    None comes back where it does for none.
    """
    if last < first or not holds(last):
        return None
    while first < last:
        middle = (first + last) // 2
        if holds(middle):
            last = middle
        else:
            first = middle + 1
    return last


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Holds the smallest horizon that is short enough, or None, and how it was searched.

    ``least_ns`` is a time that no step of the horizons looked at is shorter than; None where none was.
    """

    horizon: int | None
    searched: Searched
    least_ns: int | None = None


def search(steps: Steps, horizons: Horizons, limit_ns: int, effort: Effort) -> Found:
    """Return the smallest horizon at which something is offloaded and whose step is not above the limit."""
    last = horizons.last()
    if not last:
        return Found(horizon=None, searched=Searched(last=0, tried=0, complete=True))
    bound = steps.lower_bound()
    effort.spend((last.bit_length() + 1) * bound.seconds(horizons.policy), last)

    def bound_ns(horizon: int) -> int:
        return bound.times_ns([horizons.at(horizon)])[0]

    lowest = smallest(1, last, lambda horizon: bound_ns(horizon) <= limit_ns)
    if lowest is None or steps.monotone:
        everything = Searched(last=last, tried=last, complete=True)
        return Found(horizon=lowest, searched=everything, least_ns=bound_ns(last))
    found, times = _one_by_one(steps, horizons, limit_ns, effort, range(lowest, last + 1))
    looked_at = range(lowest, (found or last) + 1)
    complete = all(horizon in times for horizon in looked_at)
    tried = last if complete else lowest - 1 + len(times)
    ruled_out = [bound_ns(lowest - 1)] if lowest > 1 else []
    least = min([*times.values(), *ruled_out])
    return Found(horizon=found, searched=Searched(last=last, tried=tried, complete=complete), least_ns=least)


def _one_by_one(
    steps: Steps, horizons: Horizons, limit_ns: int, effort: Effort, candidates: range
) -> tuple[int | None, dict[int, int]]:
    """Try horizons in turn until one is short enough, and return it and the steps that were timed, by horizon.

    Where all would take too long, some of them are tried, spread evenly, and then those before the first that is short
    enough.
    """
    each = steps.seconds(horizons.policy)
    may_try = max(int(effort.left / 2 / each), _LEAST_TRIED)
    stride = -(-len(candidates) // may_try)
    times: dict[int, int] = {}

    def first_short(chosen: Iterable[int]) -> int | None:
        for horizon in chosen:
            effort.spend(each, candidates[-1])
            (times[horizon],) = steps.times_ns([horizons.at(horizon)])
            if times[horizon] <= limit_ns:
                return horizon
        return None

    chosen = sorted({*candidates[::stride], candidates[-1]})
    found = first_short(chosen)
    if found is not None and stride > 1:
        before = max((horizon for horizon in times if horizon < found), default=candidates[0] - 1)
        found = first_short(range(before + 1, found)[-may_try:]) or found
    return found, times
