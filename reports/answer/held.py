"""Says what was measured, how well the prediction held, and which part of the step accounts for the difference."""

from __future__ import annotations

from loadahead.reports.compare import Comparison, compare
from loadahead.reports.doubt.horizon_errors import horizons_in_short
from loadahead.reports.run_data import RunData
from loadahead.reports.run_directory import MEASURED
from loadahead.reports.speed import Speed
from loadahead.reports.statistics import relative_error
from loadahead.reports.summary import headline, step_times
from loadahead.reports.views.base import Missing
from loadahead.reports.views.time_parts import DONE, IN_WORDS, PARTS, time_parts
from loadahead.reports.views.timelines import MEASURED as MEASURED_STEP
from loadahead.reports.views.timelines import PREDICTED as PREDICTED_STEP
from loadahead.sim.units import counted, format_bytes, format_change, format_duration

# A difference is told where it is more than this share of the step: a percent, as for horizons.
_OFF = 0.01
# A part accounts for a difference where it makes more than half of it, and all others together less than that.
_MOST = 0.5


def held(data: RunData) -> list[str]:
    """Return whether it was measured, and how well the prediction held."""
    if data.measured is None:
        if data.predicted is None and not data.sweep:
            return []
        of_estimates = ", and their times are an estimate" if data.estimates else ""
        return [f"Nothing was measured: these are predictions{of_estimates}."]
    measured = headline(data.measured, MEASURED)
    steps = step_times(data.measured, MEASURED)
    of = f", {counted(len(steps), 'timed step')}" if steps else ""
    time = format_duration(measured.step_time_ns)
    speed = Speed.of_step(data.about, data.measured, measured.step_time_ns).sentence
    ends = f" {speed[:1].upper()}{speed[1:]}" if speed else ""
    if data.predicted is None:
        return [f"Measured on {data.measured.source}{of}: a step takes {time}.{ends}"]
    compared = compare(data.predicted, data.measured)
    if not compared.same_device:
        return [
            f"Measured on {data.measured.source}{of}: a step takes {time}; the predicted times are an estimate for "
            f"another device, so that neither says anything of the other{_peaks(compared)}.{ends}"
        ]
    predicted = format_duration(compared.predicted.step_time_ns)
    told = f"Measured on {data.measured.source}{of}: step time {time}, predicted {predicted}{_error(compared)}"
    lines = [f"{told}{_peaks(compared)}.{ends}", _difference(data, compared)]
    return [*lines, *horizons_in_short(data.horizons)]


def _error(compared: Comparison) -> str:
    error = compared.step_time_error
    return "" if error is None else f" ({'exact' if error == 0 else format_change(error)})"


def _peaks(compared: Comparison) -> str:
    """Return how the peak of the rank that needs most was predicted."""
    ours, theirs = compared.predicted.largest_device_bytes, compared.measured.largest_device_bytes
    if ours is None or theirs is None:
        return ""
    if ours == theirs:
        return f"; peak device memory {format_bytes(theirs)}, as predicted"
    error = relative_error(ours, theirs)
    off = "" if error is None else f" ({format_change(error)})"
    return f"; peak device memory {format_bytes(theirs)}, predicted {format_bytes(ours)}{off}"


def _difference(data: RunData, compared: Comparison) -> str:
    """Return which part of the step accounts for most of what it took longer or less than predicted, if one does.

    Where it took nearly as long, that is which kind of operation is off.
    """
    view = time_parts(data)
    if isinstance(view, Missing) or len(view.step_ns) < 2:
        return _most_off(compared)
    step = view.step_ns[MEASURED_STEP]
    longer = step - view.step_ns[PREDICTED_STEP]
    if abs(longer) <= _OFF * step:
        return _most_off(compared)
    parts = {(bar.source, bar.rank): bar.parts_ns for bar in view.bars}
    ranks = {rank for _, rank in parts}
    # On the rank that ends last, the parts that it is busy or waits in make the whole step.
    last = min(ranks, key=lambda rank: (parts[MEASURED_STEP, rank].get(DONE, 0), rank))
    predicted, measured = parts[PREDICTED_STEP, last], parts[MEASURED_STEP, last]
    off = {part: measured.get(part, 0) - predicted.get(part, 0) for part in PARTS}
    most = max(PARTS, key=lambda part: off[part] if longer > 0 else -off[part])
    rest = longer - off[most]
    who = "the step" if step == compared.measured.step_time_ns else "the step whose operations were kept"
    took = f"{format_duration(abs(longer))} that {who} took {'longer' if longer > 0 else 'less'} than predicted"
    if abs(rest) >= _MOST * abs(longer):
        return f"No part of the step accounts for most of the {took}."
    where = f" on rank {last}, which ends last" if len(ranks) > 1 else ""
    others = f"; all else together takes {format_duration(abs(rest))} {'more' if rest > 0 else 'less'}" if rest else ""
    return f"Of the {took}, {format_duration(abs(off[most]))} are {IN_WORDS[most]}{where}{others}."


def _most_off(compared: Comparison) -> str:
    """Return which kind of operation is off most in all, where that is more than a percent of the step."""
    off = {name: kind.measured_ns - kind.predicted_ns for name, kind in compared.per_kind.items()}
    if not off:
        return ""
    name = max(off, key=lambda name: abs(off[name]))
    if abs(off[name]) <= _OFF * compared.measured.step_time_ns:
        return "No kind of operation is off by more than 1 % of the step in all."
    kind = compared.per_kind[name]
    return (
        f"Of all kinds of operation {name} is off most: {format_duration(kind.measured_ns)} in all, predicted "
        f"{format_duration(kind.predicted_ns)}."
    )
