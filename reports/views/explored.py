"""Says what a page lets its reader explore: a sweep's points along its axes, and the steps whose details are known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from loadahead.reports.devices import of_one_device
from loadahead.reports.launches import launches_of
from loadahead.reports.pareto import all_on_front, front_of
from loadahead.reports.points import StepExcerpt, identity
from loadahead.reports.run_data import RunData
from loadahead.reports.run_directory import MEASURED
from loadahead.reports.summary import headline
from loadahead.reports.views.base import Missing
from loadahead.reports.views.excerpt import excerpt, same_excerpt
from loadahead.reports.views.timed import Timed, time_of
from loadahead.sim.choice import MODEL, axes_text, choices, gpu_ns_per_microbatch, models_of
from loadahead.sim.ir.plan import Ints
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.timeline import Timeline

TITLE = "Explore"
# A page has the numbers of so many points; those of a longer sweep are thinned.
MOST_ROWS = 10_000
# A number, with a unit or without.
_AMOUNT = re.compile(r"^-?[\d.]+(e[-+]?\d+)? ?[A-Za-z/%]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploredAxis:
    """Holds an axis of the sweep that has several values, those in order.

    ``has_order`` says that they are amounts, so that there is something between the first and the last.
    """

    name: str
    values: tuple[Any, ...]
    has_order: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploredModel:
    """Holds the marks of one model of the sweep, as places among the explored rows.

    Attributes:
        name: the values of the axes that tell the model from the others; empty where there is one.
        chosen: the best point, or the nearest to fit where none does.
        fits: whether one fits.
        leanest, fastest: of those that fit, or of all where none does.
        front: the Pareto front, the fastest first; of equal points the first.
        on_front: all points on it, with those that are equal.
    """

    name: str
    chosen: int
    fits: bool
    leanest: int
    fastest: int
    front: tuple[int, ...]
    on_front: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploredStep:
    """Holds a step whose memory and operations are known, predicted and, where it was run, measured.

    ``capacity_bytes`` is the device's memory, where it is known.
    """

    predicted: StepExcerpt
    measured: StepExcerpt | None = None
    capacity_bytes: int | None = None
    waits_known: bool = True
    source: str = "predicted"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPoint:
    """Holds what was measured of a row's step."""

    step_time_ns: int
    peak_device_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """Holds all that can be explored.

    Attributes:
        axes: those with more than one value.
        rows: the sweep's points; empty where there is no sweep.
        of_rows: how many points the sweep has.
        model_of: for each row the place of its model among ``models``.
        models: the sweep's models with their marks.
        steps: the known steps by their row.
        run: the step of a run that is none of the rows'.
        time: by which time the rows compare.
        measured: what was measured of some rows, by row.
    """

    axes: tuple[ExploredAxis, ...] = ()
    rows: tuple[SweepRow, ...] = ()
    of_rows: int = 0
    model_of: tuple[int, ...] = ()
    models: tuple[ExploredModel, ...] = ()
    steps: Mapping[int, ExploredStep] = field(default_factory=dict)
    run: ExploredStep | None = None
    time: Timed = field(default_factory=lambda: time_of(()))
    measured: Mapping[int, MeasuredPoint] = field(default_factory=dict)


def explored(data: RunData) -> Explored | Missing:
    """Return what there is to explore of a run or a sweep."""
    run = _step_of_run(data)
    if not data.sweep and run is None:
        return Missing(title=TITLE, reason="there is neither a sweep nor a timeline with operations")
    kept = _kept(data)
    rows = tuple(data.sweep[i] for i in kept)
    steps = _steps_of_points(data, rows)
    own = _row_of_run(data, rows)
    if own is not None and run is not None:
        steps[own] = run
    models = models_of(rows, data.model_axes)
    model_of = [0] * len(rows)
    for number, places in enumerate(models.values()):
        for place in places:
            model_of[place] = number
    return Explored(
        axes=_axes(rows, data.model_axes),
        rows=rows,
        of_rows=len(data.sweep),
        model_of=tuple(model_of),
        models=_models(rows, list(models.values()), data.model_axes),
        steps=steps,
        run=None if own is not None else run,
        time=time_of(data.sweep),
        measured=_measured(data, rows, own),
    )


def _axes(rows: Sequence[SweepRow], model_axes: Sequence[str]) -> tuple[ExploredAxis, ...]:
    out = []
    for name in rows[0].axes if rows else ():
        values = list(dict.fromkeys(row.axes[name] for row in rows))
        numbers = all(isinstance(value, int | float) for value in values)
        if numbers:
            values.sort()
        if len(values) > 1:
            of_model = name.startswith(MODEL) or name in model_axes
            has_order = numbers or (not of_model and all(_AMOUNT.match(str(value)) for value in values))
            out.append(ExploredAxis(name=name, values=tuple(values), has_order=has_order))
    return tuple(out)


def _kept(data: RunData) -> list[int]:
    """Return the places of the rows to show: all, or of very many the marked ones and every so many others."""
    count = len(data.sweep)
    if count <= MOST_ROWS:
        return list(range(count))
    marked = {choice.index for choice in choices(data.sweep, model_axes=data.model_axes)}
    for places in models_of(data.sweep, data.model_axes).values():
        able = [i for i in places if data.sweep[i].fits] or places
        marked |= {*front_of(data.sweep, places), _leanest(data.sweep, able), _fastest(data.sweep, able)}
    marked |= {point.row for point in (data.points.points if data.points else ()) if point.row < count}
    every = -(-count // max(1, MOST_ROWS - len(marked)))
    return sorted({*range(0, count, every), *marked})[:MOST_ROWS]


def _models(
    rows: Sequence[SweepRow], places_of: Sequence[Sequence[int]], model_axes: Sequence[str]
) -> tuple[ExploredModel, ...]:
    out = []
    for choice, places in zip(choices(rows, model_axes=model_axes), places_of, strict=True):
        able = [i for i in places if rows[i].fits] or list(places)
        out.append(
            ExploredModel(
                name=axes_text(choice.row, choice.model),
                chosen=choice.index,
                fits=choice.fits,
                leanest=_leanest(rows, able),
                fastest=_fastest(rows, able),
                front=front_of(rows, places),
                on_front=all_on_front(rows, places),
            )
        )
    return tuple(out)


def _leanest(rows: Sequence[SweepRow], places: Iterable[int]) -> int:
    return min(places, key=lambda i: (rows[i].peak_device_bytes, gpu_ns_per_microbatch(rows[i]), i))


def _fastest(rows: Sequence[SweepRow], places: Iterable[int]) -> int:
    return min(places, key=lambda i: (gpu_ns_per_microbatch(rows[i]), rows[i].peak_device_bytes, i))


def _steps_of_points(data: RunData, rows: Sequence[SweepRow]) -> dict[int, ExploredStep]:
    """Return the kept points' steps by their row; a point of another table, which no row has, is left out."""
    if data.points is None:
        return {}
    place = {identity(row.axes, row.step_time_ns): i for i, row in enumerate(rows)}
    found = {place.get(identity(point.axes, point.step.step_time_ns)): point.step for point in data.points.points}
    return {
        i: ExploredStep(predicted=step, capacity_bytes=rows[i].capacity_bytes)
        for i, step in found.items()
        if i is not None
    }


def _row_of_run(data: RunData, rows: Sequence[SweepRow]) -> int | None:
    """Return the place of the row that the run is of: the same horizon and microbatches, and the same prediction."""
    if data.plan is None or data.predicted is None:
        return None
    metrics = data.predicted.metrics if "summary" in data.predicted.header else None
    if metrics is None:
        return None
    # Rows of other settings may take as long, and need other memory.
    own = data.plan.policy.get("horizon"), data.plan.microbatches, metrics.step_time_ns, metrics.peak_device_bytes
    alike = [
        i
        for i, row in enumerate(rows)
        if (row.horizon, row.microbatches, row.step_time_ns, row.peak_device_bytes) == own
    ]
    return alike[0] if alike else None


def _step_of_run(data: RunData) -> ExploredStep | None:
    predicted, measured = (_with_plan(timeline, data) for timeline in (data.predicted, data.measured))
    shown = predicted or measured
    if shown is None:
        return None
    known = shown.plan is not None
    capacity = data.capacity_bytes
    if predicted is None:
        step = excerpt(shown, _launches(shown, data))
        return ExploredStep(predicted=step, capacity_bytes=capacity, waits_known=known, source="measured")
    step = excerpt(predicted, _launches(predicted, data))
    also = None if measured is None else same_excerpt(measured, step, _launches(measured, data))
    return ExploredStep(predicted=step, measured=also, capacity_bytes=capacity, waits_known=known)


def _measured(data: RunData, rows: Sequence[SweepRow], own: int | None) -> dict[int, MeasuredPoint]:
    """Return what was measured of the rows: horizons that were run one by one, and the run itself.

    A measurement beside an estimate for another device is none of the row's.
    """
    measured_on = "cpu" if data.measured is None else data.measured.source
    if not all(of_one_device(source, measured_on) for source in data.estimates):
        return {}
    out = {}
    for point in data.horizons:
        if point.predicted is None or point.measured is None:
            continue
        wanted = point.horizon, point.microbatches, point.predicted.step_time_ns
        alike = [i for i, row in enumerate(rows) if (row.horizon, row.microbatches, row.step_time_ns) == wanted]
        if len(alike) == 1:
            step = point.measured
            out[alike[0]] = MeasuredPoint(step_time_ns=step.step_time_ns, peak_device_bytes=step.peak_device_bytes)
    if own is not None and data.measured is not None:
        found = headline(data.measured, MEASURED)
        out[own] = MeasuredPoint(step_time_ns=found.step_time_ns, peak_device_bytes=max(found.peak_device_bytes))
    return out


def _with_plan(timeline: Timeline | None, data: RunData) -> Timeline | None:
    """Return a timeline with operations, with the plan of its directory; None for one without."""
    if timeline is None or not len(timeline) or timeline.step_time_ns < 1:
        return None
    return timeline if data.plan is None else replace(timeline, plan=data.plan)


def _launches(timeline: Timeline, data: RunData) -> Ints | None:
    return None if timeline.plan is None else launches_of(timeline, timeline.plan, data.costs)
