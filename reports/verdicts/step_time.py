"""How right predicted step times are: the median error, and the largest."""

from __future__ import annotations

import statistics

from loadahead.reports.verdicts.base import ISSUE, Claim, Found, percent, worst_of
from loadahead.reports.verdicts.records import Record, measured, time_error
from loadahead.sim.units import counted


def _errors(evidence: Record) -> dict[str, float]:
    return {one["name"]: abs(time_error(one)) for one in measured(evidence)}


def _median(evidence: Record) -> list[Found]:
    errors = _errors(evidence)
    if not errors:
        return [worst_of(errors)]
    return [Found(value=statistics.median(errors.values()), detail=counted(len(errors), "configuration"))]


def _largest(evidence: Record) -> list[Found]:
    return [worst_of(_errors(evidence))]


MEDIAN_TIME = Claim(
    name="median_time",
    text="median error of the predicted step time",
    bound="at most",
    limit=0.03,
    find=_median,
    show=percent,
    reason=f"{ISSUE}: median error at most 3 %",
)
LARGEST_TIME = Claim(
    name="largest_time",
    text="largest error of the predicted step time",
    bound="at most",
    limit=0.06,
    find=_largest,
    show=percent,
    reason=f"{ISSUE}: none over 6 %",
)
