"""A scenario's horizons are searched, and what was found becomes advice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from loadahead.sim.advice import obstacles
from loadahead.sim.advice.answer import Advice
from loadahead.sim.advice.findings import Alternative, Figures
from loadahead.sim.advice.names import TOO_FEW_TASKS, TOO_SMALL
from loadahead.sim.advice.search import Effort, Found, Horizons, furthest, search, smallest, tasks_for
from loadahead.sim.advice.steps import SHARED_PER_SECOND, Steps
from loadahead.sim.advice.within import Limits, limit_ns
from loadahead.sim.costs import Costs, is_estimate
from loadahead.sim.planner import HORIZON_UNITS, Policy
from loadahead.sim.workload import Workload

# Other release windows that are looked at, in both units.
WINDOWS = (1, 2, 3, 4)
# How long a smaller horizon waits is not looked at where that takes longer, as its whole plan is needed.
MOST_SECONDS_OF_WAITS = 1.0
# So many plans are looked at beside those of the searches: keeping all, the scenario's own, the ends.
_BESIDE = 6


def advise(
    workload: Workload,
    costs: Costs,
    policy: Policy,
    tell: Callable[[str], None] = lambda _: None,
    *,
    alternatives: bool = True,
) -> Advice | None:
    """Return which horizon needs the least memory at no more time than keeping all, all else as in the policy.

    None comes back without activation checkpointing, where offloading has no effect. ``tell`` is called before work
    that takes about a second or more, with what is done. Without ``alternatives`` other units and release windows are
    not looked at, which takes most of the time.
    """
    if not policy.checkpoint:
        return None
    return _Adviser(workload, costs, policy, tell).advice(alternatives)


class _Adviser:
    """Searches the horizons of one policy, then of others that differ in unit and release window."""

    def __init__(self, workload: Workload, costs: Costs, policy: Policy, tell: Callable[[str], None]) -> None:
        self._policy, self._costs = policy, costs
        self._steps = Steps(workload, costs, policy.ranks, policy.stage_rank)
        # What a plan holds needs no clock: the quickest to compute will do.
        self._memory = self._steps.lower_bound()
        self._tasks, self._sizes = tasks_for(workload, policy), workload.boundary_bytes()
        # No boundary is larger than this; it is too small where it is below min_bytes.
        self._largest = workload.largest_boundary()
        self._effort = Effort(tell)
        self._effort.spend(_BESIDE * self._steps.seconds(policy))
        self._keep_all = self._steps.figures(replace(policy, offload=False))
        self._limits = Limits(limit_ns(self._keep_all.step_time_ns), costs.host_memory_bytes)

    def advice(self, with_alternatives: bool) -> Advice:
        """Return what was found."""
        policy, horizons = self._policy, Horizons.of(self._tasks, self._sizes, self._policy)
        found = self._search(horizons)
        offloads, last = horizons.offloaded(1) > 0, found.searched.last
        best = self._figures(horizons, found.horizon)
        in_the_way = self._obstacles(horizons, found)
        alternatives, complete = self._alternatives() if with_alternatives else ([], True)
        return Advice(
            horizon_unit=policy.horizon_unit,
            release_window=policy.release_window,
            min_bytes=policy.min_bytes,
            capacity_bytes=self._costs.memory_bytes,
            host_capacity_bytes=self._costs.host_memory_bytes,
            keep_all=self._keep_all,
            own=self._steps.figures(policy) if policy.offload else None,
            best=best,
            smallest=self._figures(horizons, 1 if offloads else None),
            largest=self._figures(horizons, last or None),
            least_step_time_ns=found.least_ns,
            searched=found.searched,
            obstacles=in_the_way,
            furthest=furthest(self._tasks, self._sizes, policy.min_bytes),
            alternatives=tuple(sorted(alternatives, key=_least_memory)),
            alternatives_complete=complete,
            windows=WINDOWS if with_alternatives else (),
            estimated=is_estimate(self._costs.source),
            smaller=None if best is None else self._smaller(horizons, found.horizon),
            fitting=None if best is not None and self._fits(best) else self._fitting(horizons, last),
        )

    def _search(self, horizons: Horizons) -> Found:
        last = horizons.last_that_saves(self._memory, self._keep_all)
        self._effort.spend(last.bit_length() * self._memory.seconds(horizons.policy))
        return search(self._steps, horizons, last, self._limits, self._effort)

    def _figures(self, horizons: Horizons, horizon: int | None) -> Figures | None:
        return None if horizon is None else self._steps.figures(horizons.at(horizon))

    def _smaller(self, horizons: Horizons, horizon: int | None) -> Figures | None:
        """Return what the next smaller horizon takes, and how long it waits for copies where that is soon known."""
        if horizon is None or horizon == 1:
            return None
        policy = horizons.at(horizon - 1)
        figures = self._steps.figures(policy)
        seconds = self._steps.operations(policy) / SHARED_PER_SECOND
        if seconds > MOST_SECONDS_OF_WAITS:
            return figures
        self._effort.spend(seconds)
        return replace(figures, waits_ns=self._steps.waits_ns(policy))

    def _fits(self, figures: Figures) -> bool:
        return figures.peak_device_bytes <= self._costs.memory_bytes

    def _fitting(self, horizons: Horizons, last: int) -> Figures | None:
        """Return the largest horizon that fits device and host; None where keeping all does, and where none does."""

        def is_too_much(horizon: int) -> bool:
            return not self._fits(self._memory.figures(horizons.at(horizon)))

        if not last or self._fits(self._keep_all) or is_too_much(1):
            return None
        # A larger horizon takes no less memory of the device, and no more of the host.
        above = smallest(2, last, is_too_much)
        fitting = self._steps.figures(horizons.at(last if above is None else above - 1))
        host = self._limits.host_bytes
        return fitting if host is None or fitting.host_bytes <= host else None

    def _obstacles(self, horizons: Horizons, found: Found) -> tuple[str, ...]:
        """Return what keeps the next smaller horizon, or all horizons, from being advised."""
        if not found.searched.last:
            return (TOO_SMALL,) if self._largest < self._policy.min_bytes else (TOO_FEW_TASKS,)
        if found.horizon is None:
            return obstacles.of_all(self._steps, horizons, found.searched.last, self._limits, self._effort)
        if found.horizon == 1:
            return ()
        return obstacles.of_horizon(self._steps, horizons, found.horizon - 1, self._limits)

    def _alternatives(self) -> tuple[list[Alternative], bool]:
        """Return the best horizons of other settings, and whether all of these were looked at, in all horizons."""
        out: list[Alternative] = []
        self._effort.cut_short = False
        for unit in HORIZON_UNITS:
            for window in WINDOWS:
                other = replace(self._policy, horizon_unit=unit, release_window=window)
                if (unit, window) == (self._policy.horizon_unit, self._policy.release_window):
                    continue
                if not self._effort.left:
                    return out, False
                horizons = Horizons.of(self._tasks, self._sizes, other)
                figures = self._figures(horizons, self._search(horizons).horizon)
                if figures is not None:
                    out.append(Alternative(horizon_unit=unit, release_window=window, figures=figures))
        return out, not self._effort.cut_short


def _least_memory(alternative: Alternative) -> tuple[int, int, int, int]:
    figures: Figures = alternative.figures
    total = sum(figures.rank_device_bytes)
    return figures.peak_device_bytes, total, figures.step_time_ns, alternative.release_window
