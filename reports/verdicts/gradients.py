"""Gradients of planned runs equal plain training's."""

from __future__ import annotations

from loadahead.reports.verdicts.base import ISSUE, Claim, Found, number, worst_of
from loadahead.reports.verdicts.records import MEASURED, Record


def _find(evidence: Record) -> list[Found]:
    cases = {one["name"]: float(one["max_grad_error"]) for one in evidence["gradients"] if one["status"] == MEASURED}
    return [worst_of(cases)]


GRADIENTS = Claim(
    name="gradients",
    text="largest difference of a gradient from plain training's",
    bound="at most",
    limit=0,
    find=_find,
    show=number,
    reason=f"{ISSUE}: equal bit for bit, as offloading moves bytes and computes nothing",
)
