"""Says in sentences how far a measurement can be trusted: sample count, spread, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from loadahead.reports.statistics import FEW_SAMPLES, UNSTABLE, spread
from loadahead.reports.tables import format_share
from loadahead.sim.costs import is_estimate
from loadahead.sim.units import format_duration

# What is said of costs that are an estimate.
ESTIMATED_TIMES = (
    "Their times are an estimate: no device was timed, and predicted steps are no better than the estimate."
)


def step_time_sentences(steps_ns: Sequence[int]) -> list[str]:
    """Return what the timed steps of a run say about its step time."""
    steps = spread(steps_ns)
    if steps is None:
        return ["The step times of this run were not kept, so nothing is known about their spread."]
    if steps.count == 1:
        return ["One step was timed, so nothing is known about the spread; run more steps to learn it."]
    sentences = [
        f"{steps.count} steps were timed: {format_duration(round(steps.lowest))} to "
        f"{format_duration(round(steps.highest))}, median {format_duration(round(steps.median))}, standard deviation "
        f"{format_share(steps.relative)} of the median."
    ]
    if steps.count < FEW_SAMPLES:
        sentences.append("These are few; the median may move with more steps.")
    if steps.unstable:
        sentences.append(
            f"The step time is unstable (its standard deviation is above {UNSTABLE:.0%} of the median): errors of this "
            "size say nothing about the prediction. Run again on an idle machine, with more steps."
        )
    else:
        sentences.append("The step time is stable.")
    return sentences


def cost_sentences(source: str, evidence: Mapping[str, Any]) -> list[str]:
    """Return where the costs come from, with the evidence's numbers and words of the first level."""
    known = [f"{key.replace('_', ' ')} {value}" for key, value in evidence.items() if _is_scalar(value)]
    costs = f"Costs: {source}{' (' + ', '.join(known) + ')' if known else ''}."
    return [costs, ESTIMATED_TIMES] if is_estimate(source) else [costs]


def _is_scalar(value: object) -> bool:
    return isinstance(value, str) or type(value) is int or (isinstance(value, float) and math.isfinite(value))
