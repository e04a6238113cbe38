"""What a validation's records say about its claims. To add a claim: write it in its file, add it here.

Pure functions of the evidence (:mod:`loadahead.reports.evidence`), whose grid says which of them it claims and within
which limits.
"""

from __future__ import annotations

from loadahead.reports.verdicts.base import Claim, Verdict
from loadahead.reports.verdicts.gradients import GRADIENTS
from loadahead.reports.verdicts.memory import PEAK_MEMORY
from loadahead.reports.verdicts.offloading import BANDWIDTH, OVERHEAD
from loadahead.reports.verdicts.peers import AS_FAST, FASTER, LEANER
from loadahead.reports.verdicts.ranking import RANKING
from loadahead.reports.verdicts.records import Record
from loadahead.reports.verdicts.runs import RUNS
from loadahead.reports.verdicts.step_time import LARGEST_TIME, MEDIAN_TIME

# In the order in which they are shown.
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
        BANDWIDTH,
        FASTER,
        AS_FAST,
        LEANER,
    )
}


def verdicts(evidence: Record) -> list[Verdict]:
    """Every claim's outcome; of a claim about peers one for each."""
    return [verdict for claim in CLAIMS.values() for verdict in claim.judge(evidence)]


__all__ = ["CLAIMS", "verdicts"]
