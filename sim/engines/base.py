"""What an engine is: a plan and its costs in, when each operation starts and ends out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from loadahead.sim.costs import Costs
from loadahead.sim.ir.plan import Ints, Plan


@dataclass(frozen=True, slots=True)
class Times:
    """Start and end of each operation in ns from the step's start, both of shape (operations,).

    ``note`` says what else to know, e.g. that another engine worked the times out.
    """

    start_ns: Ints
    end_ns: Ints
    note: str | None = None


class Engine(Protocol):
    """Runs a well-formed plan on a clock."""

    def __call__(self, plan: Plan, costs: Costs) -> Times: ...
