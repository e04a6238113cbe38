"""Links slowed by copying each boundary more than once: what that costs, and how it is run."""

from __future__ import annotations

from typing import Any

from loadahead.executor.links import CONFIGURED
from loadahead.sim.costs import Costs
from loadahead.validation.link_use import LINKS

# What several copies share, by the names of loadahead.sim.costs.SharedLinks.
_LIMITS = ("uplink_d2h", "uplink_h2d", "duplex", "host_memory_bandwidth")


def slowed(costs: Costs, copies: int) -> Costs:
    """Costs under which a transfer takes as long as one that copies its boundary that often, to the host and back.

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
    """Of a copy by itself, by link: as configured, or as fitted to copies of many sizes; else a transfer's."""
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
