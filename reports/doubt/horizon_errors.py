"""Says how well each horizon's step was predicted, which ones are far off, and what their own numbers say of why."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from loadahead.reports.axis_names import capital
from loadahead.reports.run_data import HorizonPoint
from loadahead.reports.statistics import middle_half
from loadahead.reports.tables import format_share
from loadahead.sim.units import counted, format_change, format_duration

# A horizon is named whose error is this far from the others' median, or less far and several times as large:
# predictions of step times are claimed to hold within 10 %.
NAMED, LEAST_NAMED, TIMES_OTHERS = 0.10, 0.05, 3
# A kind of operation accounts for a difference where it makes more than half of that of all kinds.
_MOST = 0.5


def name_of(point: HorizonPoint, points: Sequence[HorizonPoint]) -> str:
    """Return e.g. ``horizon 2``, with its number of microbatches where the points have several numbers of them."""
    if len({other.microbatches for other in points}) < 2 or point.microbatches is None:
        return f"horizon {point.horizon}"
    return f"horizon {point.horizon} of {point.microbatches} microbatch{'' if point.microbatches == 1 else 'es'}"


def what_of(points: Sequence[HorizonPoint]) -> str:
    """Return what the points are: horizons, or points of several numbers of microbatches."""
    return "horizons" if len({point.microbatches for point in points}) < 2 else "points"


def far_off(points: Sequence[HorizonPoint]) -> list[tuple[HorizonPoint, float]]:
    """Return the horizons whose predictions are off by much more than the others', the farthest first, with the errors.

    What all are off by is no horizon's own: it is told of all of them.
    """
    errors = _errors(points)
    out = []
    for point, error in errors:
        others = [other for another, other in errors if another is not point]
        usual, size = (median(others), median(map(abs, others))) if others else (0.0, 0.0)
        apart = abs(error - usual)
        stands_out = apart > NAMED or (apart > LEAST_NAMED and abs(error) > TIMES_OTHERS * size)
        if stands_out and abs(error) > max(LEAST_NAMED, abs(usual)):
            out.append((point, error))
    return sorted(out, key=lambda pair: -abs(pair[1]))


def _errors(points: Sequence[HorizonPoint]) -> list[tuple[HorizonPoint, float]]:
    known = [(point, point.error) for point in points]
    return [(point, error) for point, error in known if error is not None]


def horizons_in_short(points: Sequence[HorizonPoint]) -> list[str]:
    """Return in one sentence how well the measured horizons were predicted; nothing of fewer than two."""
    errors = [error for _, error in _errors(points)]
    if len(errors) < 2:
        return []
    off = far_off(points)
    named = "; far off: " + ", ".join(f"{name_of(point, points)} ({format_change(error)})" for point, error in off)
    sizes = [abs(error) for error in errors]
    common = min(sizes) > LEAST_NAMED and (min(errors) > 0) == (max(errors) > 0)
    word = "all too high" if common and errors[0] > 0 else "all too low" if common else "off"
    return [
        f"Of {len(errors)} {what_of(points)} that were measured, the predicted step times are {word} by "
        f"{format_share(median(sizes))} in the median, {format_share(max(sizes))} at most{named if off else ''}."
    ]


def horizon_sentences(points: Sequence[HorizonPoint]) -> list[str]:
    """Return how well the horizons were predicted, then those that are far off with the likely reason.

    Those whose own numbers say nothing of why are told in one sentence.
    """
    errors = _errors(points)
    if not errors:
        return []
    counts = [len(point.steps_ns) for point, _ in errors]
    few = (
        [f"Each was timed over {counted(min(counts), 'step')}{' or more' * (len(set(counts)) > 1)}."]
        if all(counts)
        else []
    )
    off = [(point, error, _reason(point, error)) for point, error in far_off(points)]
    told = [f"{capital(name_of(point, points))}: {_measured(point, error)}; {why}." for point, error, why in off if why]
    unknown = [f"{name_of(point, points)} ({_measured(point, error)})" for point, error, why in off if not why]
    if unknown:
        told.append(f"Why is not to be seen in the numbers of {', '.join(unknown)}.")
    return [*horizons_in_short(points), *few, *told]


def _measured(point: HorizonPoint, error: float) -> str:
    assert point.predicted is not None and point.measured is not None, "an error has both"
    predicted, measured = point.predicted.step_time_ns, point.measured.step_time_ns
    return f"{format_duration(measured)} measured, {format_duration(predicted)} predicted, {format_change(error)}"


def _reason(point: HorizonPoint, error: float) -> str:
    """Return what the horizon's own numbers say of why it is off; empty where they say nothing."""
    assert point.predicted is not None and point.measured is not None, "an error has both"
    reasons = []
    if len(point.steps_ns) > 1:
        low, high = middle_half(point.steps_ns)
        spread = (high - low) / median(point.steps_ns)
        if spread >= abs(error) / 2:
            reasons.append(
                f"the middle half of its {len(point.steps_ns)} steps spreads over {format_share(spread)} of their "
                "median, so that the machine may have had other work"
            )
    off = {name: measured - predicted for name, (predicted, measured) in point.kinds.items()}
    difference = point.measured.step_time_ns - point.predicted.step_time_ns
    same_way = {name: ns for name, ns in off.items() if ns * difference > 0}
    if same_way:
        name = max(same_way, key=lambda name: abs(same_way[name]))
        if abs(same_way[name]) > _MOST * sum(map(abs, same_way.values())):
            predicted, measured = point.kinds[name]
            longer = "longer" if measured > predicted else "less long"
            reasons.append(
                f"{name} took {longer} than predicted, {format_duration(measured)} in all and not "
                f"{format_duration(predicted)}, more than all other kinds that differ so"
            )
    return " and ".join(reasons)
