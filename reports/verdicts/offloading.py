"""Claims what offloading costs: nothing where no stall is predicted, and what the link takes where it is the limit."""

from __future__ import annotations

from functools import partial

from loadahead.reports.recorded_steps import measured_step, predicted_step
from loadahead.reports.verdicts.base import Claim, ClaimValue, percent, worst_of
from loadahead.reports.verdicts.records import (
    STALL_OF,
    Record,
    case_of,
    is_stall_free,
    launch_bound_models,
    measured,
    plain_beside,
)

# A link is the limit where it is predicted to be busy for this share of the time from its first copy to its last, and
# to be waited for during this share of a step.
BUSY, WAITED_FOR = 0.99, 0.01
LARGE_BYTES = 16 * 2**20


def _overheads(evidence: Record, launch_bound: bool) -> list[ClaimValue]:
    """Return the largest share by which a step takes longer than that of our own plan without offload.

    Models for which the host is too slow are apart from the others: they pay for every operation that is issued.
    """
    waiting = launch_bound_models(evidence)
    cases = {}
    for record in measured(evidence):
        plain = plain_beside(evidence, case_of(record))
        if plain and is_stall_free(record) and (record["model"] in waiting) == launch_bound:
            cases[record["name"]] = measured_step(record).step_time_ns / measured_step(plain[0]).step_time_ns - 1
    return [worst_of(cases)]


def _bandwidths(evidence: Record, large: bool) -> list[ClaimValue]:
    """Return the least share of the calibrated bandwidth that a link reached from its first copy to its last.

    Copies of :data:`LARGE_BYTES` and more on average are apart from smaller ones, whose latencies count for more.
    """
    cases = {}
    for record in measured(evidence):
        predicted, own = predicted_step(record), measured_step(record)
        for link, stall in STALL_OF.items():
            planned, used = predicted.links.of(link), own.links.of(link)
            if (used.bytes >= LARGE_BYTES * used.transfers) != large:
                continue
            waited = predicted.stall_ns(stall) > WAITED_FOR * predicted.step_time_ns
            if waited and planned.span_ns and planned.busy_ns >= BUSY * planned.span_ns and used.span_ns:
                cases[f"{record['name']}, {link}"] = used.expected_ns / used.span_ns
    return [worst_of(cases, min)]


OVERHEAD = Claim(
    name="overhead",
    text="overhead where no stall is predicted and the host issues quickly enough",
    bound="at most",
    limit=0.02,
    evaluate=partial(_overheads, launch_bound=False),
    format_value=percent,
    reason="copies that hide behind compute take next to nothing from it",
)
LAUNCH_BOUND_OVERHEAD = Claim(
    name="launch_bound_overhead",
    text="overhead where no stall is predicted and the host issues too slowly",
    bound="at most",
    limit=None,
    evaluate=partial(_overheads, launch_bound=True),
    format_value=percent,
    reason="each operation of offloading takes the host time that compute waits for",
)
BANDWIDTH = Claim(
    name="bandwidth",
    text="share of the copy bandwidth used where the link is the limit, copies from 16 MiB on",
    bound="at least",
    limit=0.95,
    evaluate=partial(_bandwidths, large=True),
    format_value=percent,
    reason="a link that compute waits for should copy all the time",
)
SMALL_BANDWIDTH = Claim(
    name="small_bandwidth",
    text="share of the copy bandwidth used where the link is the limit, smaller copies",
    bound="at least",
    limit=None,
    evaluate=partial(_bandwidths, large=False),
    format_value=percent,
    reason="what starts a copy and waits for it counts for more the smaller it is",
)
