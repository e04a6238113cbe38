"""What stands in the way of a horizon is what can be thought away so that its plan may be advised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

from loadahead.sim.advice.names import HOST_MEMORY, LAUNCHES, OFFLOAD_STALLS, PREFETCH_STALLS
from loadahead.sim.advice.search import Effort, Horizons, search
from loadahead.sim.advice.steps import Steps
from loadahead.sim.advice.within import Limits

Removed = tuple[str, ...]


def of_horizon(steps: Steps, horizons: Horizons, horizon: int, limits: Limits) -> Removed:
    """Return the fewest things without which the plan of one horizon is allowed."""

    def step_time(removed: Removed) -> int | None:
        figures = _without(steps, removed).figures(horizons.at(horizon))
        allowed = _lifted(limits, removed).allow(figures.step_time_ns, figures.host_bytes)
        return figures.step_time_ns if allowed else None

    return _fewest(step_time, limits)


def of_all(steps: Steps, horizons: Horizons, last: int, limits: Limits, effort: Effort) -> Removed:
    """Return the fewest things without which the plan of some horizon up to ``last`` is allowed."""

    def smallest_horizon(removed: Removed) -> int | None:
        return search(_without(steps, removed), horizons, last, _lifted(limits, removed), effort).horizon

    return _fewest(smallest_horizon, limits)


def _without(steps: Steps, removed: Removed) -> Steps:
    return steps.without([name for name in removed if name != HOST_MEMORY])


def _lifted(limits: Limits, removed: Removed) -> Limits:
    return replace(limits, host_bytes=None) if HOST_MEMORY in removed else limits


def _fewest(value: Callable[[Removed], int | None], limits: Limits) -> Removed:
    """Return the fewest things whose removal gives a value, and of as many those that give the smallest.

    Without copies that take time and launches a step is no longer than the one that keeps all.
    """
    names = [OFFLOAD_STALLS, PREFETCH_STALLS, LAUNCHES, *([HOST_MEMORY] if limits.host_bytes is not None else [])]
    for count in range(1, len(names) + 1):
        values = {removed: value(removed) for removed in combinations(names, count)}
        possible = {removed: found for removed, found in values.items() if found is not None}
        if possible:
            return min(possible, key=lambda removed: possible[removed])
    return ()
