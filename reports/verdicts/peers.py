"""One plan of ours, chosen by its prediction, beside each peer: faster, and leaner."""

from __future__ import annotations

from collections.abc import Callable

from loadahead.reports.verdicts.base import ISSUE, Claim, Found, number, percent, worst_of
from loadahead.reports.verdicts.records import MEASURED, NONE, Record, case_name, case_of, chosen_beside

# A figure of our measured plan over the peer's; None where the peer's is not known.
Ratio = Callable[[Record, Record], float | None]


def _time(ours: Record, peer: Record) -> float | None:
    return float(ours["step_time_ns"] / peer["step_time_ns"])


def _more_time(ours: Record, peer: Record) -> float | None:
    return float(ours["step_time_ns"] / peer["step_time_ns"] - 1)


def _peak(ours: Record, peer: Record) -> float | None:
    return None if peer["peak_device_bytes"] is None else float(ours["peak_device_bytes"] / peer["peak_device_bytes"])


def _beside(evidence: Record, name: str, ratio: Ratio) -> Found:
    """The worst of a peer's cases."""
    cases, why_not = {}, ""
    for peer in evidence["peers"]:
        if peer["peer"] != name:
            continue
        one = chosen_beside(evidence, case_of(peer))
        if peer["status"] != MEASURED:
            why_not = why_not or peer["reason"]
        elif one is None or one["status"] != MEASURED:
            why_not = why_not or "our plan was not measured beside it"
        elif (value := ratio(one["measured"], peer)) is None:
            why_not = why_not or "its peak memory cannot be told on this device"
        else:
            cases[f"{case_name(case_of(peer))}, our horizon {one['horizon']}"] = value
    return worst_of(cases, why_not=why_not, peer=name)


def _names(evidence: Record) -> list[str]:
    return list(dict.fromkeys(peer["peer"] for peer in evidence["peers"]))


def _faster(evidence: Record) -> list[Found]:
    return [_beside(evidence, name, _time) for name in _names(evidence) if name != NONE]


def _as_fast(evidence: Record) -> list[Found]:
    return [_beside(evidence, name, _more_time) for name in _names(evidence) if name == NONE]


def _leaner(evidence: Record) -> list[Found]:
    return [_beside(evidence, name, _peak) for name in _names(evidence)]


FASTER = Claim(
    name="faster",
    text="step time of our plan over peer {peer}'s",
    bound="below",
    limit=1,
    find=_faster,
    show=number,
    reason=f"{ISSUE}: faster than each peer that offloads",
)
AS_FAST = Claim(
    name="as_fast",
    text="overhead of our plan over peer {peer}, which does not offload",
    bound="at most",
    limit=0.02,
    find=_as_fast,
    show=percent,
    reason=f"{ISSUE}: at most 2 % overhead; none can be faster than without offload",
)
LEANER = Claim(
    name="leaner",
    text="peak memory of our plan over peer {peer}'s",
    bound="below",
    limit=1,
    find=_leaner,
    show=number,
    reason=f"{ISSUE}: leaner than each peer, by the plan that is the faster one too",
)
