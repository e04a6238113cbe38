"""The links of a validation: how a timeline used them, and how copying boundaries more than once slows them."""

from __future__ import annotations

from typing import Any

from loadahead.sim.costs import CONFIGURED, Costs
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.overlap import merge
from loadahead.sim.timeline import Timeline

LINKS = {"d2h": Kind.OFFLOAD, "h2d": Kind.PREFETCH}


def link_usage(plan: Plan, timeline: Timeline, costs: Costs) -> dict[str, dict[str, int]]:
    """Return how a timeline's transfers used each link to the host.

    That is their number and bytes, the time in which one was under way, the time from the first start to the last end,
    and what they would take at these costs' latency and bandwidth; times are in ns.
    """
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


# What several copies share, by the names of loadahead.sim.costs.SharedLinks.
_LIMITS = ("uplink_d2h", "uplink_h2d", "duplex", "host_memory_bandwidth")


def slowed(costs: Costs, copies: int) -> Costs:
    """Return costs under which a transfer takes as long as one that copies its boundary that often.

    Bandwidths are divided, shared ones too, and each further copy adds the latency of a bare copy. What a transfer
    takes beyond that, to be started and waited for, it takes once.
    """
    if copies == 1:
        return costs
    evidence = dict(costs.evidence)
    if CONFIGURED in evidence:
        given = evidence[CONFIGURED]
        bare = {link: given[f"{link}_latency_ns"] for link in LINKS}
        evidence[CONFIGURED] = given | _slower(given, bare, copies)
    update: dict[str, Any] = _slower(costs.model_dump(), _bare_latencies(costs), copies) | {"evidence": evidence}
    if costs.shared is not None:
        limits = {name: getattr(costs.shared, name) for name in _LIMITS}
        given = {name: max(1, limit // copies) for name, limit in limits.items() if limit is not None}
        update["shared"] = costs.shared.model_copy(update=given)
    return costs.model_copy(update=update)


def _bare_latencies(costs: Costs) -> dict[str, int]:
    """Return the latency in ns of a bare copy by link: configured, or fitted to many sizes; else a transfer's."""
    out = {}
    for link in LINKS:
        own = getattr(costs, f"{link}_latency_ns")
        fitted = costs.evidence.get("links", {}).get(link, {}).get("pinned", {}).get("latency_ns", own)
        bare = costs.evidence.get(CONFIGURED, {}).get(f"{link}_latency_ns", fitted)
        out[link] = min(own, int(bare))
    return out


def _slower(figures: dict[str, Any], bare_ns: dict[str, int], copies: int) -> dict[str, int]:
    out = {}
    for link in LINKS:
        out[f"{link}_bandwidth"] = max(1, figures[f"{link}_bandwidth"] // copies)
        out[f"{link}_latency_ns"] = figures[f"{link}_latency_ns"] + (copies - 1) * bare_ns[link]
    return out


def execution_arguments(costs: Costs, copies: int, device: str) -> dict[str, Any]:
    """What :func:`loadahead.executor.execute.execute` has to be told: copy more than once, or emulate links slower by
    as much."""
    if device == "cpu":
        return {"costs": slowed(costs, copies)}
    return {"costs": costs} | ({"copies": copies} if copies != 1 else {})
