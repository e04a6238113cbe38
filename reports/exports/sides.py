"""Takes the sides of a run that can be exported: a timeline with what is known of its plan, its costs and its host."""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.reports.launches import launches_of
from loadahead.reports.run_data import RunData
from loadahead.sim.costs import Costs
from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.timeline import Timeline

PREDICTED, MEASURED = "predicted", "measured"
SIDES = (PREDICTED, MEASURED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Holds one timeline that is exported, and what explains it.

    Attributes:
        name: one of :data:`SIDES`.
        timeline: when each operation ran.
        plan: what was simulated or run; None where a file of times is all there is.
        costs: which links are shared, and what operations take; None where they are not known.
    """

    name: str
    timeline: Timeline
    plan: Plan | None = None
    costs: Costs | None = None

    @property
    def ranks(self) -> int:
        """Return how many ranks the timeline has."""
        seen = int(max(self.timeline.rank.max(initial=-1), self.timeline.memory.rank.max(initial=-1))) + 1
        return seen if self.plan is None else max(seen, self.plan.ranks)

    @property
    def launches(self) -> Ints | None:
        """Return the host's time to issue each operation, in ns: as measured, or as the costs have it, else None."""
        return None if self.plan is None else launches_of(self.timeline, self.plan, self.costs)


def side_of(timeline: Timeline, costs: Costs | None = None, plan: Plan | None = None) -> Side:
    """Return the side that a timeline is by its source, with the plan it was made of, or the one given."""
    name = MEASURED if timeline.is_measured else PREDICTED
    return Side(name=name, timeline=timeline, plan=timeline.plan if plan is None else plan, costs=costs)


def sides_of_run(run: RunData, costs: Costs | None = None) -> tuple[Side, ...]:
    """Return the sides that a run has, the predicted one first; costs that are given stand for the run's own."""
    known = run.costs if costs is None else costs
    timelines = {PREDICTED: run.predicted, MEASURED: run.measured}
    return tuple(
        Side(name=name, timeline=timeline, plan=run.plan, costs=known)
        for name, timeline in timelines.items()
        if timeline is not None
    )


def chosen(sides: tuple[Side, ...], side: str | None, name: str) -> tuple[Side, ...]:
    """Return the side that is asked for, else all; raise InputError where it is none or not there."""
    if side is None:
        return sides
    if side not in SIDES:
        raise InputError(f"the side is {side!r:.40}; it must be {' or '.join(SIDES)}", parameters=("side",))
    found = tuple(one for one in sides if one.name == side)
    if not found:
        there = ", ".join(one.name for one in sides)
        raise InputError(f"{name}: holds nothing {side}; ask for what is there ({there})", parameters=("side",))
    return found
