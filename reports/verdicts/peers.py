"""Claims that one plan of ours, chosen by its prediction, is faster and leaner than each peer."""

from __future__ import annotations

from collections.abc import Callable

from loadahead.reports.recorded_steps import MeasuredStep, PeerStep, measured_step, peer_step
from loadahead.reports.verdicts.base import Claim, ClaimValue, number, percent, worst_of
from loadahead.reports.verdicts.records import MEASURED, NONE, Record, case_name, case_of, chosen_beside

# The function returns a number of our measured plan over the peer's; None where the peer's is not known.
Ratio = Callable[[MeasuredStep, PeerStep], float | None]


def _time(ours: MeasuredStep, peer: PeerStep) -> float | None:
    return ours.step_time_ns / peer.step_time_ns


def _more_time(ours: MeasuredStep, peer: PeerStep) -> float | None:
    return ours.step_time_ns / peer.step_time_ns - 1


def _peak(ours: MeasuredStep, peer: PeerStep) -> float | None:
    return None if peer.peak_device_bytes is None else ours.peak_device_bytes / peer.peak_device_bytes


def _beside(evidence: Record, name: str, ratio: Ratio) -> ClaimValue:
    """Return the worst of a peer's cases."""
    cases, why_not = {}, ""
    for peer in evidence["peers"]:
        if peer["peer"] != name:
            continue
        record = chosen_beside(evidence, case_of(peer))
        if peer["status"] != MEASURED:
            why_not = why_not or peer["reason"]
        elif record is None or record["status"] != MEASURED:
            why_not = why_not or "our plan was not measured beside it"
        elif (value := ratio(measured_step(record), peer_step(peer))) is None:
            why_not = why_not or "its peak memory cannot be told on this device"
        else:
            cases[f"{case_name(case_of(peer))}, our horizon {record['horizon']}"] = value
    return worst_of(cases, why_not=why_not, peer=name)


def _names(evidence: Record) -> list[str]:
    return list(dict.fromkeys(peer["peer"] for peer in evidence["peers"]))


def _faster(evidence: Record) -> list[ClaimValue]:
    return [_beside(evidence, name, _time) for name in _names(evidence) if name != NONE]


def _as_fast(evidence: Record) -> list[ClaimValue]:
    return [_beside(evidence, name, _more_time) for name in _names(evidence) if name == NONE]


def _leaner(evidence: Record) -> list[ClaimValue]:
    return [_beside(evidence, name, _peak) for name in _names(evidence)]


FASTER = Claim(
    name="faster",
    text="step time of our plan over peer {peer}'s",
    bound="below",
    limit=1,
    evaluate=_faster,
    format_value=number,
    reason="loading ahead is worth it only where it is faster than each peer that offloads",
)
AS_FAST = Claim(
    name="as_fast",
    text="overhead of our plan over peer {peer}, which does not offload",
    bound="at most",
    limit=0.02,
    evaluate=_as_fast,
    format_value=percent,
    reason="none can be faster than without offload, and ours should be nearly as fast",
)
LEANER = Claim(
    name="leaner",
    text="peak memory of our plan over peer {peer}'s",
    bound="below",
    limit=1,
    evaluate=_leaner,
    format_value=number,
    reason="memory must be saved by the plan that is the faster one too",
)
