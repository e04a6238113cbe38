"""The smallest horizon whose plan may be advised is found here, and it is said how far that was searched.

A larger horizon takes no less memory on any rank: each boundary comes back no later, or stays; those that are too small
to leave (``min_bytes``) stay at every horizon. So the smallest horizon
is the one with the least memory. It takes no more of the host either. Where it never makes a step longer
(:attr:`loadahead.sim.advice.steps.Steps.monotone`), halving finds the smallest horizon that is allowed; elsewhere
halving over a lower bound tells which horizons are too small, and those from there on are tried one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from loadahead.sim.advice.findings import Figures, Searched
from loadahead.sim.advice.steps import Steps
from loadahead.sim.advice.within import Limits
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner import Policy
from loadahead.sim.planner.build import order_for
from loadahead.sim.planner.horizon import decide
from loadahead.sim.planner.tasks import Tasks, tasks_of, units_of
from loadahead.sim.workload import Workload

# Whoever waits is told when searches have taken longer than this. Horizons are tried one by one, and other settings
# looked at, as long as all took less than MOST_SECONDS.
TOLD_SECONDS, MOST_SECONDS = 0.5, 10.0
# However little time is left, so many horizons are tried.
_LEAST_TRIED = 16


@dataclass(slots=True)
class Effort:
    """Holds how long searches may take together, in seconds as estimated, and who is told when they take long.

    ``cut_short`` says whether something was left out for want of time.
    """

    tell: Callable[[str], None] = lambda _: None
    left: float = field(default_factory=lambda: MOST_SECONDS)
    cut_short: bool = False
    _spent: float = 0.0
    _told: bool = False

    def spend(self, seconds: float) -> None:
        """Take this long of what is left; tell, once, when it is much in all."""
        self._spent += seconds
        self.left = max(self.left - seconds, 0.0)
        if self._spent > TOLD_SECONDS and not self._told:
            self.tell("looking for the best horizon")
            self._told = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizons:
    """Holds the horizons of one policy, all else as it says: which offload anything, and how much.

    ``sizes`` is what :meth:`loadahead.sim.workload.Workload.boundary_bytes` returns.
    """

    policy: Policy
    tasks: Tasks
    sizes: Ints
    _slots: tuple[Ints, Ints] = field(repr=False)

    @classmethod
    def of(cls, tasks: Tasks, sizes: Ints, policy: Policy) -> Horizons:
        """Return the horizons of a policy over its tasks."""
        slots = (np.empty(tasks.boundaries, dtype=np.int64), np.empty(tasks.boundaries, dtype=np.int64))
        return cls(policy=policy, tasks=tasks, sizes=sizes, _slots=slots)

    def at(self, horizon: int) -> Policy:
        """Return the policy with this horizon."""
        return replace(self.policy, horizon=horizon, offload=True)

    def offloaded(self, horizon: int) -> int:
        """Return how many boundaries leave at this horizon: no more than at any smaller one."""
        policy, layers = self.policy, self.policy.horizon_unit == "layers"
        settings = (self.tasks.microbatches, horizon, layers, policy.release_window, policy.min_bytes, True)
        return int(decide(self.tasks.columns(), self.sizes, *settings, *self._slots))

    def last(self) -> int:
        """Return the largest horizon that offloads anything and is not the same as a smaller one; 0 for none.

        In tasks nothing leaves at a horizon of a rank's number of tasks. In layers all that leaves comes back before
        the first BACKWARD at a horizon of a rank's number of boundaries.
        """
        if not self.offloaded(1):
            return 0
        before = np.concatenate([[0], np.cumsum(self.tasks.backward)])
        boundaries = np.diff(before[self.tasks.start])
        most = int((boundaries if self.policy.horizon_unit == "layers" else np.diff(self.tasks.start)).max())
        return smallest(1, most, lambda horizon: not self.offloaded(horizon + 1)) or most

    def last_that_saves(self, steps: Steps, keep_all: Figures) -> int:
        """Return the largest horizon at which some rank's peak is below that of keeping all; 0 for none."""
        total = sum(keep_all.rank_device_bytes)

        def saves(horizon: int) -> bool:
            return sum(steps.figures(self.at(horizon)).rank_device_bytes) < total

        last = self.last()
        if not last or not saves(1):
            return 0
        return smallest(1, last - 1, lambda horizon: not saves(horizon + 1)) or last


def tasks_for(workload: Workload, policy: Policy) -> Tasks:
    """Return the policy's tasks; horizons change nothing of them."""
    order = order_for(workload, policy)
    return tasks_of(units_of(workload, order), order, workload.frozen_units)


def furthest(tasks: Tasks, sizes: Ints, least: int) -> int:
    """Return by how many tasks a BACKWARD comes after its FORWARD at the most; 0 where none does.

    Boundaries with fewer bytes than ``least`` do not count.
    """
    apart = tasks.backward_at - tasks.forward_at
    return int(apart[np.repeat(sizes >= least, tasks.microbatches)].max(initial=0))


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
    """Holds the smallest horizon that is allowed, or None, and how it was searched.

    ``least_ns`` is the shortest step of all horizons that save memory; None where not all were timed.
    """

    horizon: int | None
    searched: Searched
    least_ns: int | None = None


def search(steps: Steps, horizons: Horizons, last: int, limits: Limits, effort: Effort) -> Found:
    """Return the smallest horizon up to ``last`` whose plan the limits allow."""
    if not last:
        return Found(horizon=None, searched=Searched(last=0, tried=0, complete=True))
    bound = steps.lower_bound()
    effort.spend((last.bit_length() + 1) * bound.seconds(horizons.policy))

    def allowed(steps: Steps, horizon: int) -> bool:
        figures = steps.figures(horizons.at(horizon))
        return limits.allow(figures.step_time_ns, figures.host_bytes)

    lowest = smallest(1, last, lambda horizon: allowed(bound, horizon))
    if lowest is None or steps.monotone:
        least = bound.figures(horizons.at(last)).step_time_ns if steps.monotone else None
        return Found(horizon=lowest, searched=Searched(last=last, tried=last, complete=True), least_ns=least)
    found, times = _one_by_one(steps, horizons, limits, effort, range(lowest, last + 1))
    complete = all(horizon in times for horizon in range(lowest, (found or last) + 1))
    effort.cut_short |= not complete
    tried = last if complete else lowest - 1 + len(times)
    least = min(times.values()) if len(times) == last else None
    return Found(horizon=found, searched=Searched(last=last, tried=tried, complete=complete), least_ns=least)


def _one_by_one(
    steps: Steps, horizons: Horizons, limits: Limits, effort: Effort, candidates: range
) -> tuple[int | None, dict[int, int]]:
    """Try horizons in turn until one is allowed, and return it and the steps that were timed, by horizon.

    Where all would take too long, some of them are tried, spread evenly, then some of those before the first that is
    allowed, and so on.
    """
    each = steps.seconds(horizons.policy)
    times: dict[int, int] = {}
    best: int | None = None
    while candidates:
        may_try = max(int(effort.left / 2 / each), _LEAST_TRIED)
        stride = -(-len(candidates) // may_try)
        tried = sorted({*candidates[::stride], candidates[-1]})
        found = _first_allowed(steps, horizons, limits, effort, tried, times)
        if found is None:
            break
        best = found
        before = max((horizon for horizon in times if horizon < found), default=candidates[0] - 1)
        candidates = range(max(before + 1, candidates[0]), found)
    return best, times


def _first_allowed(
    steps: Steps, horizons: Horizons, limits: Limits, effort: Effort, chosen: Iterable[int], times: dict[int, int]
) -> int | None:
    """Try horizons in turn, and return the first that is allowed; ``times`` takes the steps that were timed."""
    for horizon in chosen:
        effort.spend(steps.seconds(horizons.policy))
        figures = steps.figures(horizons.at(horizon))
        times[horizon] = figures.step_time_ns
        if limits.allow(figures.step_time_ns, figures.host_bytes):
            return horizon
    return None
