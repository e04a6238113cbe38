"""An engine takes a plan and its costs and returns when each operation starts and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from loadahead.sim.costs import Costs
from loadahead.sim.ir.plan import Ints, Plan


@dataclass(frozen=True, slots=True)
class Times:
    """Holds the start and end of each operation in ns from the step's start, both of shape (operations,).

    ``note`` tells the user what else to know, e.g. that another engine computed the times.
    """

    start_ns: Ints
    end_ns: Ints
    note: str | None = None


class Engine(Protocol):
    """Runs a well-formed plan on a clock."""

    def __call__(self, plan: Plan, costs: Costs) -> Times:
        """Return the times of every operation; raise InputError when the costs do not describe the plan."""
        ...
