"""How the links of a timeline were used."""

from __future__ import annotations

from loadahead.sim.costs import Costs
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.metrics import merge
from loadahead.sim.timeline import Timeline

LINKS = {"d2h": Kind.OFFLOAD, "h2d": Kind.PREFETCH}


def link_figures(plan: Plan, timeline: Timeline, costs: Costs) -> dict[str, dict[str, int]]:
    """Of each link: transfers, their bytes, the time in which one was under way, from the first start to the last end,
    and what they take at these costs' latency and bandwidth."""
    out = {}
    for link, kind in LINKS.items():
        at = timeline.kind == kind
        start, end = merge(timeline.start_ns[at], timeline.end_ns[at])
        nbytes = plan.ops.nbytes[plan.ops.kind == kind]
        out[link] = {
            "transfers": len(nbytes),
            "bytes": int(nbytes.sum()),
            "busy_ns": int((end - start).sum()),
            "span_ns": int(end[-1] - start[0]) if len(end) else 0,
            "expected_ns": int(costs.transfer(kind, nbytes).sum()),
        }
    return out
