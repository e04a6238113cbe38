"""Says how long the host took to issue a timeline's operations, predicted or measured."""

from __future__ import annotations

import numpy as np

from loadahead.sim.costs import Costs
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.timeline import Timeline


def launches_of(timeline: Timeline, plan: Plan, costs: Costs | None) -> Ints | None:
    """Return the host's time to issue each operation, in ns, as measured or as the costs have it; None for neither."""
    if not timeline.is_measured:
        return None if costs is None else costs.launches(plan)
    issue = timeline.header.get("issue_ns")
    whole = isinstance(issue, list) and len(issue) == len(plan) and all(type(ns) is int for ns in issue)
    return np.asarray(issue, dtype=np.int64) if whole else None
