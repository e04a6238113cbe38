"""No plan of an order, a model and a memory budget is faster than a bound, which is reckoned without a plan.

Here is what a bound says; :mod:`loadahead.sim.tuning.bound_of_order` reckons it.
"""

from __future__ import annotations

from dataclasses import dataclass

# What sets a bound.
COMPUTE, LINK, CRITICAL_PATH = "compute", "link", "critical_path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Says how long every plan of the order takes at the least, and what sets that.

    Attributes:
        step_time_ns: the largest of the bounds below.
        limited_by: the name of the one that is largest: ``"compute"``, ``"link"`` or ``"critical_path"``; of equal ones
            the first of compute, critical path and link.
        rank: the rank whose compute queue or link it is; None for the critical path.
        compute_ns, link_ns, critical_path_ns: the bounds by each; 0 where one says nothing.
        link_bytes: what has to leave that rank and come back in every plan that keeps the limits; 0 where no link sets
            the bound.
    """

    step_time_ns: int
    limited_by: str
    rank: int | None
    compute_ns: int
    link_ns: int
    critical_path_ns: int
    link_bytes: int = 0
