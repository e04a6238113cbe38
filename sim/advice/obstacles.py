"""What stands in the way of a horizon is what can be thought away so that its step becomes short enough."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

from loadahead.sim.advice.names import REMOVABLE
from loadahead.sim.advice.search import Effort, Horizons, search
from loadahead.sim.advice.steps import Steps


def of_horizon(steps: Steps, horizons: Horizons, horizon: int, limit_ns: int) -> tuple[str, ...]:
    """Return the fewest things without which the step of one horizon is not above the limit."""
    policy = horizons.at(horizon)
    return _fewest(lambda removed: _at_most(steps.without(removed).times_ns([policy])[0], limit_ns))


def of_all(steps: Steps, horizons: Horizons, limit_ns: int, effort: Effort) -> tuple[str, ...]:
    """Return the fewest things without which some horizon's step is not above the limit."""

    def smallest_horizon(removed: tuple[str, ...]) -> int | None:
        return search(steps.without(removed), horizons, limit_ns, effort).horizon

    return _fewest(smallest_horizon)


def _at_most(ns: int, limit_ns: int) -> int | None:
    return ns if ns <= limit_ns else None


def _fewest(value: Callable[[tuple[str, ...]], int | None]) -> tuple[str, ...]:
    """Return the fewest things whose removal gives a value, and of as many those that give the smallest.

    Without copies that take time and launches a step is no longer than the one that keeps all.
    """
    for count in range(1, len(REMOVABLE) + 1):
        values = {removed: value(removed) for removed in combinations(REMOVABLE, count)}
        possible = {removed: found for removed, found in values.items() if found is not None}
        if possible:
            return min(possible, key=lambda removed: possible[removed])
    return ()
