"""How right predicted peaks of device memory are."""

from __future__ import annotations

from loadahead.reports.verdicts.base import ISSUE, Claim, Found, percent, worst_of
from loadahead.reports.verdicts.records import Record, measured, peak_error


def _find(evidence: Record) -> list[Found]:
    return [worst_of({one["name"]: abs(peak_error(one)) for one in measured(evidence)})]


PEAK_MEMORY = Claim(
    name="peak_memory",
    text="largest error of the predicted peak memory",
    bound="at most",
    limit=0.005,
    find=_find,
    show=percent,
    reason=f"{ISSUE}: peak within 0.5 %",
)
