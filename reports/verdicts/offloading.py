"""What offloading costs: nothing where no stall is predicted, and what the link takes where it is the limit."""

from __future__ import annotations

from loadahead.reports.verdicts.base import ISSUE, Claim, Found, percent, worst_of
from loadahead.reports.verdicts.records import STALL_OF, Record, case_of, is_stall_free, measured, plain_beside

# A link is the limit where it is predicted to be busy all the time from its first copy to its last, and waited for.
BUSY, WAITED_FOR = 0.99, 0.01


def _overhead(evidence: Record) -> list[Found]:
    """Against our own plan without offload."""
    cases = {}
    for one in measured(evidence):
        plain = plain_beside(evidence, case_of(one))
        if plain and is_stall_free(one):
            cases[one["name"]] = one["measured"]["step_time_ns"] / plain[0]["measured"]["step_time_ns"] - 1
    return [worst_of(cases)]


def _bandwidth(evidence: Record) -> list[Found]:
    """From a link's first copy to its last, as a share of what was calibrated."""
    cases = {}
    for one in measured(evidence):
        for link, stall in STALL_OF.items():
            ours, theirs = one["predicted"]["links"][link], one["measured"]["links"][link]
            waited = one["predicted"][stall] > WAITED_FOR * one["predicted"]["step_time_ns"]
            if waited and ours["span_ns"] and ours["busy_ns"] >= BUSY * ours["span_ns"] and theirs["span_ns"]:
                cases[f"{one['name']}, {link}"] = theirs["expected_ns"] / theirs["span_ns"]
    return [worst_of(cases, min)]


OVERHEAD = Claim(
    name="overhead",
    text="overhead where no stall is predicted",
    bound="at most",
    limit=0.02,
    find=_overhead,
    show=percent,
    reason=f"{ISSUE}: at most 2 % longer than our plan without offload",
)
BANDWIDTH = Claim(
    name="bandwidth",
    text="share of the copy bandwidth used where the link is the limit",
    bound="at least",
    limit=0.95,
    find=_bandwidth,
    show=percent,
    reason=f"{ISSUE}: at least 95 % of the measured copy bandwidth",
)
