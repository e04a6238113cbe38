"""Says in sentences how far a measurement can be trusted: samples, spread, what lies far off, what was not measured.

Nothing is said beyond what was looked at, and every sentence has the numbers that it follows from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from loadahead.reports.doubt.horizon_errors import horizon_sentences, horizons_in_short
from loadahead.reports.doubt.measured_points import measured_points
from loadahead.reports.run_data import RunData
from loadahead.reports.run_directory import MEASURED
from loadahead.reports.statistics import (
    DRIFT,
    FEW_SAMPLES,
    LEAST_FAR,
    UNSTABLE,
    Spread,
    drift,
    far_from_median,
    middle_half,
    spread,
)
from loadahead.reports.summary import step_times
from loadahead.reports.tables import format_share, limit_text
from loadahead.sim.costs import is_estimate
from loadahead.sim.units import counted, format_beyond, format_change, format_duration

# What is said of costs that are an estimate.
ESTIMATED_TIMES = (
    "Their times are an estimate: no device was timed, and predicted steps are no better than the estimate."
)
NOTHING_MEASURED = "Nothing was measured: every figure here is a prediction."
# Of more steps that lie far off than these the farthest are named.
_MOST_NAMED = 5


def doubts(data: RunData) -> list[str]:
    """Return all that is to be said of how far a run's or a sweep's figures can be trusted."""
    sentences = []
    if data.measured is not None:
        sentences += step_time_sentences(step_times(data.measured, MEASURED), run_again(data))
        link = data.measured.header.get("link")
        sentences += [link] if isinstance(link, str) else []
    elif data.horizons:
        sentences.append("Of this plan nothing was measured.")
    elif data.predicted is not None or data.sweep:
        sentences.append(NOTHING_MEASURED)
    sentences += horizon_sentences(data.horizons)
    if data.sweep and (data.measured is not None or data.horizons):
        sentences.append(_of_sweep(data))
    if data.costs is not None:
        sentences += cost_sentences(data.costs.source, data.costs.evidence)
    elif data.facts is not None:
        for source in dict.fromkeys(costs.source for costs in data.facts.costs):
            sentences += cost_sentences(source, {})
    return sentences


def _of_sweep(data: RunData) -> str:
    """Return how many of a sweep's points were not measured."""
    every = len(data.sweep)
    if not any(point.measured for point in data.horizons):
        return f"Of the sweep's {every} points at most one was measured; the others are predictions."
    found = measured_points(data)
    if found.unknown and found.count:
        names = " and ".join(found.unknown)
        return f"Which of the sweep's {every} points were measured is not known: what was run does not say its {names}."
    was, left = "was" if found.count == 1 else "were", every - found.count
    rest = f"the other {left} {'is a prediction' if left == 1 else 'are predictions'}"
    if not found.count:
        return f"None of the sweep's {counted(every, 'point')} was measured."
    return f"Of the sweep's {counted(every, 'point')} {found.count} {was} measured{f'; {rest}' if left else ''}."


def run_again(data: RunData) -> tuple[int, ...]:
    """Return the timed steps of the same plan where it was run once more among the horizons; empty where it was not."""
    if data.plan is None:
        return ()
    horizon = data.plan.policy.get("horizon")
    for point in data.horizons:
        if point.measured is not None and (point.horizon, point.microbatches) == (horizon, data.plan.microbatches):
            return point.steps_ns or (point.measured.step_time_ns,)
    return ()


def step_time_sentences(steps_ns: Sequence[int], again_ns: Sequence[int] = ()) -> list[str]:
    """Return what the timed steps of a run say about its step time; ``again_ns`` are those of another run of it."""
    steps = spread(steps_ns)
    if steps is None:
        return ["The step times of this run were not kept, so nothing is known about their spread."]
    if steps.count == 1:
        return ["One step was timed, so nothing is known about the spread; run more steps to learn it."]
    sentences = [_range(steps)]
    if steps.count < FEW_SAMPLES:
        sentences.append(
            f"These are few: below {FEW_SAMPLES} no step is told to lie far off, and the median may move with more."
        )
    else:
        low, high = middle_half(steps_ns)
        share = (high - low) / steps.median if steps.median else 0.0
        sentences.append(
            f"The middle half of them lies between {format_duration(round(low))} and {format_duration(round(high))}, "
            f"{format_share(share)} of the median."
        )
    far, halves = far_from_median(steps_ns), drift(steps_ns)
    between = median(again_ns) / steps.median - 1 if again_ns and steps.median else None
    sentences += _far(steps_ns, steps, far) + _drift(halves) + _again(steps, again_ns, between)
    if steps.unstable:
        sentences.append(
            f"The step time is unstable (its standard deviation is above {limit_text(UNSTABLE)} of the median): errors "
            "of this size say nothing about the prediction. Run again on an idle machine, with more steps."
        )
    elif (
        steps.count >= FEW_SAMPLES
        and not far
        and halves is not None
        and abs(halves) <= DRIFT
        and abs(between or 0.0) <= DRIFT
    ):
        runs = "" if between is None else f", and the two runs' by {format_share(abs(between))}"
        sentences.append(
            f"By these {'three' if between is None else 'four'} the step time is stable: the standard deviation is "
            f"{format_share(steps.relative)} of the median (at most {limit_text(UNSTABLE)}), no step lies far off, and "
            f"the halves' medians differ by {format_share(abs(halves))}{runs} (at most {limit_text(DRIFT)})."
        )
    return sentences


def _again(steps: Spread, again_ns: Sequence[int], between: float | None) -> list[str]:
    """Return by how much another run of the same plan differs."""
    if between is None:
        return []
    again, change = format_duration(round(median(again_ns))), format_change(between)
    counts = f"the {steps.count} steps above" if steps.count > 1 else "the step above"
    told = f"The same plan was run once more among the horizons: median {again}, {change} beside {counts}"
    if abs(between) <= DRIFT:
        return [f"{told}."]
    return [f"{told}. The steps of one run do not show how far those of another lie from them."]


def _range(steps: Spread) -> str:
    most = max(steps.highest - steps.median, steps.median - steps.lowest)
    farthest = most / steps.median if steps.median else 0.0
    return (
        f"{steps.count} steps were timed: {format_duration(round(steps.lowest))} to "
        f"{format_duration(round(steps.highest))}, median {format_duration(round(steps.median))}, at most "
        f"{format_share(farthest)} from it, standard deviation {format_share(steps.relative)} of it."
    )


def _far(steps_ns: Sequence[int], steps: Spread, far: Sequence[int]) -> list[str]:
    """Return which timed steps lie far from the median, by how much, and what may be the reason."""
    if not far:
        return []
    by_distance = sorted(far, key=lambda place: abs(steps_ns[place] - steps.median), reverse=True)[:_MOST_NAMED]
    off = {place: format_beyond(steps_ns[place] / steps.median - 1, LEAST_FAR) for place in sorted(by_distance)}
    named = ", ".join(f"step {place + 1} ({change})" for place, change in off.items())
    count = f"{len(far)} of {steps.count} timed steps" if len(far) > 1 else f"1 of {steps.count} timed steps"
    which = f", the farthest {named}" if len(far) > len(by_distance) else f": {named}"
    verb = "lies" if len(far) == 1 else "lie"
    told = f"{count} {verb} far from the median, by more than {limit_text(LEAST_FAR)}{which}."
    first = all(place == at for at, place in enumerate(sorted(far))) and steps_ns[0] > steps.median
    if first:
        return [f"{told} They are the first and took longer: caches and allocators may still have been filling."]
    return [f"{told} The times alone do not say why; the machine may have had other work."]


def _drift(halves: float | None) -> list[str]:
    """Return that the steps got longer or shorter, where they did."""
    if halves is None or abs(halves) <= DRIFT:
        return []
    word = "longer" if halves > 0 else "shorter"
    return [
        f"The steps got {word}: the second half's median is {format_change(halves)} beside the first's, so that the "
        "median depends on how many steps are run."
    ]


def cost_sentences(source: str, evidence: Mapping[str, Any]) -> list[str]:
    """Return where the costs come from, with the evidence's numbers and words of the first level."""
    known = [f"{key.replace('_', ' ')} {value}" for key, value in evidence.items() if _is_scalar(value)]
    costs = f"Costs: {source}{' (' + ', '.join(known) + ')' if known else ''}."
    return [costs, ESTIMATED_TIMES] if is_estimate(source) else [costs]


def _is_scalar(value: object) -> bool:
    return isinstance(value, str) or type(value) is int or (isinstance(value, float) and math.isfinite(value))


__all__ = ["cost_sentences", "doubts", "horizons_in_short", "step_time_sentences"]
