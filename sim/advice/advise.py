"""A scenario's horizons are searched, and what was found becomes advice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from loadahead.sim.advice import obstacles
from loadahead.sim.advice.answer import Advice
from loadahead.sim.advice.findings import Alternative, Figures
from loadahead.sim.advice.names import TOO_FEW_TASKS
from loadahead.sim.advice.search import Effort, Found, Horizons, furthest, search, smallest, tasks_for
from loadahead.sim.advice.steps import Steps
from loadahead.sim.advice.within import limit_ns
from loadahead.sim.costs import Costs
from loadahead.sim.planner import HORIZON_UNITS, Policy
from loadahead.sim.workload import Workload

# Other release windows that are looked at, in both units.
WINDOWS = (1, 2, 3, 4)


def advise(
    workload: Workload, costs: Costs, policy: Policy, tell: Callable[[str], None] = lambda _: None
) -> Advice | None:
    """Return which horizon needs the least memory at no more time than keeping all, all else as in the policy.

    None comes back without activation checkpointing, where offloading has no effect. ``tell`` is called before work
    that takes about a second or more, with what is done.
    """
    if not policy.checkpoint:
        return None
    return _Adviser(workload, costs, policy, tell).advice()


class _Adviser:
    """Searches the horizons of one policy, then of others that differ in unit and release window."""

    def __init__(self, workload: Workload, costs: Costs, policy: Policy, tell: Callable[[str], None]) -> None:
        self._policy = policy
        self._steps = Steps(workload, costs)
        self._tasks = tasks_for(workload, policy)
        self._effort = Effort(tell)
        self._effort.announce(3 * self._steps.seconds(policy), 1)
        self._keep_all = self._steps.figures(replace(policy, offload=False))
        self._limit_ns = limit_ns(self._keep_all.step_time_ns)

    def advice(self) -> Advice:
        """Return what was found."""
        policy, horizons = self._policy, Horizons.of(self._tasks, self._policy)
        found = search(self._steps, horizons, self._limit_ns, self._effort)
        best = None if found.horizon is None else self._steps.figures(horizons.at(found.horizon))
        least = self._steps.figures(horizons.at(1)) if found.searched.last else None
        costs = self._steps.costs
        return Advice(
            horizon_unit=policy.horizon_unit,
            release_window=policy.release_window,
            capacity_bytes=costs.memory_bytes,
            host_capacity_bytes=costs.host_memory_bytes,
            keep_all=self._keep_all,
            own=self._steps.figures(policy) if policy.offload else None,
            best=best,
            least_step_time_ns=found.least_ns,
            searched=found.searched,
            obstacles=self._obstacles(horizons, found),
            furthest=furthest(self._tasks),
            alternatives=tuple(sorted(self._alternatives(), key=_least_memory)),
            windows=WINDOWS,
            smallest=least,
            fitting=self._fitting(horizons, found.searched.last, [self._keep_all, *([best] if best else [])]),
        )

    def _fitting(self, horizons: Horizons, last: int, others: Sequence[Figures]) -> Figures | None:
        """Return the largest horizon that fits the device; None where one of the others does, and where none does."""
        capacity = self._steps.costs.memory_bytes

        def figures(horizon: int) -> Figures:
            return self._steps.figures(horizons.at(horizon))

        def is_too_much(horizon: int) -> bool:
            return figures(horizon).peak_device_bytes > capacity

        if not last or any(other.peak_device_bytes <= capacity for other in others) or is_too_much(1):
            return None
        # A larger horizon takes no less memory.
        above = smallest(2, last, is_too_much)
        return figures(last if above is None else above - 1)

    def _obstacles(self, horizons: Horizons, found: Found) -> tuple[str, ...]:
        """Return what keeps the next smaller horizon, or all horizons, from being short enough."""
        if not found.searched.last:
            return (TOO_FEW_TASKS,)
        if found.horizon is None:
            return obstacles.of_all(self._steps, horizons, self._limit_ns, self._effort)
        if found.horizon == 1:
            return ()
        return obstacles.of_horizon(self._steps, horizons, found.horizon - 1, self._limit_ns)

    def _alternatives(self) -> Iterable[Alternative]:
        for unit in HORIZON_UNITS:
            for window in WINDOWS:
                other = replace(self._policy, horizon_unit=unit, release_window=window)
                if (unit, window) == (self._policy.horizon_unit, self._policy.release_window):
                    continue
                horizons = Horizons.of(self._tasks, other)
                found = search(self._steps, horizons, self._limit_ns, self._effort)
                if found.horizon is not None:
                    figures = self._steps.figures(horizons.at(found.horizon))
                    yield Alternative(horizon_unit=unit, release_window=window, figures=figures)


def _least_memory(alternative: Alternative) -> tuple[int, int, int, int]:
    figures: Figures = alternative.figures
    total = sum(figures.rank_device_bytes)
    return figures.peak_device_bytes, total, figures.step_time_ns, alternative.release_window
