"""Judges a validation's claims by its records. To add a claim: write it in a file, and add it here.

Claims are pure functions of the evidence (:mod:`loadahead.reports.evidence`), whose grid says which of them it claims
and within which limits.
"""

from __future__ import annotations

from loadahead.reports.verdicts.base import Claim, Verdict
from loadahead.reports.verdicts.offloading import BANDWIDTH, LAUNCH_BOUND_OVERHEAD, OVERHEAD, SMALL_BANDWIDTH
from loadahead.reports.verdicts.peers import AS_FAST, FASTER, LEANER
from loadahead.reports.verdicts.predictions import LARGEST_TIME, MEDIAN_TIME, PEAK_MEMORY, RANKING
from loadahead.reports.verdicts.records import Record
from loadahead.reports.verdicts.runs import GRADIENTS, RUNS

# They are shown in this order.
CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        RUNS,
        GRADIENTS,
        MEDIAN_TIME,
        LARGEST_TIME,
        PEAK_MEMORY,
        RANKING,
        OVERHEAD,
        LAUNCH_BOUND_OVERHEAD,
        BANDWIDTH,
        SMALL_BANDWIDTH,
        FASTER,
        AS_FAST,
        LEANER,
    )
}


def verdicts(evidence: Record) -> list[Verdict]:
    """Return every claim's outcome; a claim about peers has one for each."""
    return [verdict for claim in CLAIMS.values() for verdict in claim.judge(evidence)]


__all__ = ["CLAIMS", "verdicts"]
