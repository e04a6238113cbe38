"""Horizons come out in the order in which they were predicted."""

from __future__ import annotations

from loadahead.reports.statistics import rank_agreement
from loadahead.reports.verdicts.base import ISSUE, Claim, Found, percent
from loadahead.reports.verdicts.records import Record, horizon_series, step_times
from loadahead.sim.units import counted

# Closer predictions claim no order: steps of one plan differ as much.
SAME_TIME = 0.01


def _find(evidence: Record) -> list[Found]:
    agreed = pairs = 0
    for series in horizon_series(evidence):
        one, of = rank_agreement(*step_times(series), margin=SAME_TIME)
        agreed, pairs = agreed + one, pairs + of
    if not pairs:
        return [Found(value=None, detail=f"no two horizons are predicted more than {percent(SAME_TIME)} apart")]
    detail = f"{counted(pairs, 'pair')} of horizons of one series, predicted more than {percent(SAME_TIME)} apart"
    return [Found(value=agreed / pairs, detail=detail)]


RANKING = Claim(
    name="ranking",
    text="horizons ranked as measured, Kendall's tau",
    bound="at least",
    limit=0.9,
    find=_find,
    show=lambda tau: f"{tau:.3g}",
    reason=f"{ISSUE}: Kendall's tau at least 0.9",
)
