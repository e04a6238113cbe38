"""Shows what each unit costs for one microbatch."""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.sim.costs import Costs


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTimes:
    """Holds the times in ns of the model's units, stage by stage, one entry per unit; ``units`` is how many there are.

    A backward that is split has both its parts in ``backward_ns``, as one that is not.
    """

    stage: tuple[int, ...]
    forward_ns: tuple[int, ...]
    recompute_ns: tuple[int, ...]
    backward_ns: tuple[int, ...]
    units: int


def unit_times(costs: Costs, most: int) -> UnitTimes:
    """Return the times of the first units, at most so many."""
    every = [(stage, unit) for stage, units in enumerate(costs.units) for unit in units]
    shown = every[:most]
    return UnitTimes(
        stage=tuple(stage for stage, _ in shown),
        forward_ns=tuple(unit.forward_ns for _, unit in shown),
        recompute_ns=tuple(unit.recompute_ns for _, unit in shown),
        backward_ns=tuple(unit.backward_ns for _, unit in shown),
        units=len(every),
    )
