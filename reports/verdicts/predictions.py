"""Claims how right predictions are: of step times, of peaks of device memory, and of the order of horizons."""

from __future__ import annotations

import statistics

from loadahead.reports.statistics import rank_agreement
from loadahead.reports.verdicts.base import Claim, ClaimValue, percent, worst_of
from loadahead.reports.verdicts.records import Record, horizon_series, measured, peak_error, step_times, time_error
from loadahead.sim.units import counted

# Predictions closer than this share claim no order, as steps of one plan differ by as much.
SAME_TIME = 0.01


def _time_errors(evidence: Record) -> dict[str, float]:
    return {record["name"]: abs(time_error(record)) for record in measured(evidence)}


def _median_time_error(evidence: Record) -> list[ClaimValue]:
    errors = _time_errors(evidence)
    if not errors:
        return [worst_of(errors)]
    return [ClaimValue(value=statistics.median(errors.values()), detail=counted(len(errors), "configuration"))]


def _largest_time_error(evidence: Record) -> list[ClaimValue]:
    return [worst_of(_time_errors(evidence))]


def _largest_peak_error(evidence: Record) -> list[ClaimValue]:
    return [worst_of({record["name"]: abs(peak_error(record)) for record in measured(evidence)})]


def _rank_agreement(evidence: Record) -> list[ClaimValue]:
    agreed = pairs = 0
    for series in horizon_series(evidence):
        series_agreed, series_pairs = rank_agreement(*step_times(series), margin=SAME_TIME)
        agreed, pairs = agreed + series_agreed, pairs + series_pairs
    if not pairs:
        return [ClaimValue(value=None, detail=f"no two horizons are predicted more than {percent(SAME_TIME)} apart")]
    detail = f"{counted(pairs, 'pair')} of horizons of one series, predicted more than {percent(SAME_TIME)} apart"
    return [ClaimValue(value=agreed / pairs, detail=detail)]


MEDIAN_TIME = Claim(
    name="median_time",
    text="median error of the predicted step time",
    bound="at most",
    limit=0.03,
    evaluate=_median_time_error,
    format_value=percent,
    reason="plans that are worth choosing between differ by a few percent",
)
LARGEST_TIME = Claim(
    name="largest_time",
    text="largest error of the predicted step time",
    bound="at most",
    limit=0.06,
    evaluate=_largest_time_error,
    format_value=percent,
    reason="no single configuration may mislead a choice",
)
PEAK_MEMORY = Claim(
    name="peak_memory",
    text="largest error of the predicted peak memory",
    bound="at most",
    limit=0.0,
    evaluate=_largest_peak_error,
    format_value=percent,
    reason="the plan fixes every buffer, and what is requested inside an operation does not change from step to step",
)
RANKING = Claim(
    name="ranking",
    text="horizons ranked as measured, Kendall's tau",
    bound="at least",
    limit=0.9,
    evaluate=_rank_agreement,
    format_value=lambda tau: f"{tau:.3g}",
    reason="a horizon is chosen by the order of predictions",
)
