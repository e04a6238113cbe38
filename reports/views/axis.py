"""Shows a sweep's points, and measured horizons, against one axis: the horizon, else the first that varies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Any, TypeAlias

from loadahead.reports.axis_names import (
    axis_name,
    capital,
    in_order,
    not_drawn,
    numbers,
    some,
    value_text,
    values_text,
    varying,
)
from loadahead.reports.run_data import HorizonPoint, RunData
from loadahead.reports.views.base import Missing
from loadahead.reports.views.timed import Timed, time_of
from loadahead.sim.choice import AS_FAST, WITHIN, choices, models_of
from loadahead.sim.step_metrics import StepMetrics, SweepRow
from loadahead.sim.units import counted, format_bytes, format_duration

TITLE = "Step time and memory against the horizon"
MOST_PANELS, MOST_LINES = 4, 5
HORIZON, MICROBATCHES = "horizon", "microbatches"
# The planner's choices beside horizon and microbatches are lines of a panel; every other axis has panels.
_LINE_AXES = frozenset({"pipeline", "horizon_unit", "active_microbatches", "release_window", "receive_ahead"})
PREDICTED = "predicted"
# Values this far apart, whose steps differ this much, read better on an axis of ratios.
_FAR_APART, _UNEVEN = 4, 3


class Scale(Enum):
    """Says where an axis' values stand: as far apart as they differ, as their ratios do, or one beside the other."""

    LINEAR = "linear"
    RATIOS = "ratios"
    CATEGORIES = "categories"


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisPoint:
    """Holds one point: its place on the axis, its numbers, whether it fits, and whether it is the chosen one.

    ``overlap`` is None where nothing was copied: an overlap of nothing is no overlap of 0 %. ``model`` is the number of
    its model among the sweep's.
    """

    value: Any
    place: float
    timed_ns: float
    peak_device_bytes: int
    overlap: float | None
    stalls_ns: Mapping[str, int]
    step_time_ns: int
    fits: bool = True
    chosen: bool = False
    model: int = 0


# What of a point is drawn; None where it has none.
Value: TypeAlias = Callable[[AxisPoint], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisLine:
    """Holds the points of one variant of the plan, in the axis' order."""

    label: str
    points: tuple[AxisPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisPanel:
    """Holds the points of one combination of the other axes' values: predictions as lines, and measured points.

    Attributes:
        title: those values; empty where no other axis varies.
        ticks: each value's text by its place on the axis.
        capacity_bytes: a device's; None where it is not known, or not the same for all points.
    """

    title: str
    lines: tuple[AxisLine, ...]
    measured: tuple[AxisPoint, ...]
    scale: Scale
    ticks: Mapping[float, str]
    capacity_bytes: int | None

    @property
    def points(self) -> tuple[AxisPoint, ...]:
        """Return all points, predicted and measured."""
        return (*(point for line in self.lines for point in line.points), *self.measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisView:
    """Holds the panels, the axis against which they are drawn, and by which time points compare.

    ``notes`` says in words what is not shown, ``run_variant`` which variant was measured, where it is known, and
    ``swept`` whether there is a sweep: else all is of the horizons that were run one by one.
    """

    axis: str
    time: Timed
    panels: tuple[AxisPanel, ...]
    notes: tuple[str, ...]
    run_variant: str
    swept: bool

    @property
    def axis_label(self) -> str:
        """Return what the axis is called."""
        return axis_name(self.axis)

    @property
    def labels(self) -> list[str]:
        """Return the variants of all panels, in order."""
        return list(dict.fromkeys(line.label for panel in self.panels for line in panel.lines))

    @property
    def measured_sentence(self) -> list[str]:
        """Return what the diamonds are, with the variant that was run where the sweep has several."""
        if not any(panel.measured for panel in self.panels):
            return []
        return [f"Diamonds were measured{f' ({self.run_variant})' if self.run_variant else ''}."]

    @property
    def marks(self) -> list[str]:
        """Return what rings and crosses are, where there are some."""
        every = [point for panel in self.panels for point in panel.points]
        ring = ["The ring is the chosen point."] if sum(point.chosen for point in every) == 1 else []
        if sum(point.chosen for point in every) > 1:
            ring = ["Rings are the chosen points, one of each model."]
        return ring + ([] if all(point.fits for point in every) else ["Grey crosses do not fit."])

    @property
    def sentences(self) -> list[str]:
        """Return what times and memory show, in words, of each panel's line with the chosen point, or its first."""
        return list(dict.fromkeys(sentence for panel in self.panels for sentence in self._of(panel)))

    def _of(self, panel: AxisPanel) -> list[str]:
        if not panel.lines:
            return []
        line = next((line for line in panel.lines if any(point.chosen for point in line.points)), panel.lines[0])
        named = [panel.title, *([line.label] if len(panel.lines) > 1 else [])]
        where = ", ".join(name for name in named if name)
        if len({point.model for point in line.points}) > 1:
            # What the axis changes is the model itself.
            return [f"Models are not compared: each {self.axis_label} is another one."]
        said = self._of_categories(line) if panel.scale is Scale.CATEGORIES else self._of_numbers(line)
        return [capital(f"{where}: {said}" if where else said)] if said else []

    def _of_numbers(self, line: AxisLine) -> str:
        """Return the smallest value that is as fast as the fastest, and what the largest takes."""
        if len(line.points) < 2:
            return ""
        able, of_those = _able(line)
        if not able:
            return of_those
        fastest = min(point.timed_ns for point in able)
        knee = next(point for point in able if (100 - AS_FAST) * point.timed_ns <= 100 * fastest)
        last = line.points[-1]
        value, time = value_text(self.axis, knee.value), format_duration(round(knee.timed_ns))
        needs = f"needs {format_bytes(knee.peak_device_bytes)}"
        if len(able) == 1:
            said = f"{value} alone fits: it takes {time} ({self.time.name}) and {needs}"
        else:
            said = f"{of_those}{value} is the first within {WITHIN} of the least {self.time.name}, {time}, and {needs}"
        if last is knee:
            return f"{said}."
        beyond = "" if last.fits else ", and does not fit"
        return f"{said}; {value_text(self.axis, last.value)} needs {format_bytes(last.peak_device_bytes)}{beyond}."

    def _of_categories(self, line: AxisLine) -> str:
        able, of_those = _able(line)
        if not able:
            return of_those
        fastest = min(able, key=lambda point: (point.timed_ns, point.peak_device_bytes))
        leanest = min(able, key=lambda point: (point.peak_device_bytes, point.timed_ns))
        both = f"{of_those}least {self.time.name} with {value_text(self.axis, fastest.value)}, "
        return (
            f"{both}{format_duration(round(fastest.timed_ns))}, least memory with "
            f"{value_text(self.axis, leanest.value)}, {format_bytes(leanest.peak_device_bytes)}."
        )


def _able(line: AxisLine) -> tuple[list[AxisPoint], str]:
    """Return a line's points that fit, and what is said first: that only these count, or that there are none."""
    able = [point for point in line.points if point.fits]
    if not able:
        return [], f"none of {counted(len(line.points), 'point')} fits."
    return able, "of those that fit, " if len(able) < len(line.points) else ""


def of(data: RunData) -> AxisView | Missing:
    """Return the panels of a run's sweep and measured horizons; or why there is no curve to draw."""
    axis = _axis(data)
    if axis is None:
        return Missing(title=TITLE, reason=_why_none(data), absent=not (data.sweep or data.horizons))
    others = [name for name in varying(data.sweep) if name != axis]
    of_lines = [name for name in others if name in _LINE_AXES]
    found = choices(data.sweep, model_axes=data.model_axes)
    # What tells models from each other comes first in titles.
    models = set(found[0].model) if found else set()
    of_panels = sorted((name for name in others if name not in of_lines), key=lambda name: name not in models)
    by_panel = _grouped(data.sweep, of_panels)
    by_count = _measured(data, axis)
    notes: list[str] = []
    panels = _with_measured(by_panel, by_count, of_panels, notes)
    chosen = [data.sweep[choice.index] for choice in found if choice.fits]
    wanted = [key for key in panels if panels[key]]
    wanted += [tuple((axis, data.sweep[choice.index].axes[axis]) for axis in of_panels) for choice in found]
    shown, around = _shown(list(panels), wanted, [axis for axis in of_panels if axis not in models])
    variants = list(dict.fromkeys(_variant(row.axes, of_lines) for row in data.sweep))
    best = [_variant(row.axes, of_lines) for row in chosen]
    kept = some(variants, MOST_LINES, best)
    if around:
        what = "the chosen point" if found[0].fits else "the point nearest to fit"
        notes.append(f"Each other panel differs from that of {what} in one axis.")
    notes += _left_out(len(shown), len(panels), of_panels or [MICROBATCHES]) + _variants_left_out(kept, variants)
    time = time_of(data.sweep)
    return AxisView(
        axis=axis,
        time=time,
        panels=tuple(
            _panel(axis, key, by_panel.get(key, []), panels[key], of_lines, kept, chosen, time, data) for key in shown
        ),
        notes=tuple(notes),
        run_variant=_run_variant(data, of_lines),
        swept=bool(data.sweep),
    )


_Key: TypeAlias = tuple[tuple[str, Any], ...]


def _shown(keys: Sequence[_Key], wanted: Sequence[_Key], axes: Sequence[str]) -> tuple[list[_Key], bool]:
    """Return the panels to draw, and whether all but one differ from that one in one axis.

    Of more panels than there is room for that differ in several axes, those are drawn around the wanted one: two
    panels that differ in two axes would not say which of these made the difference.
    """
    first = list(dict.fromkeys(key for key in wanted if key in keys))
    if len(keys) <= MOST_PANELS or len(axes) < 2 or len(first) != 1:
        return some(keys, MOST_PANELS, first), False
    base, picked = dict(first[0]), list(first)
    for axis in axes:
        beside = [key for key in keys if {name for name, value in key if base.get(name) != value} == {axis}]
        picked += some(beside, max(MOST_PANELS - len(picked), 0)) if len(picked) < MOST_PANELS else []
    return [key for key in keys if key in picked], True


def _axis(data: RunData) -> str | None:
    """Return the axis to draw against; None where no two points differ."""
    measured = {point.horizon for point in data.horizons}
    axes = varying(data.sweep)
    if HORIZON in axes or len(measured | {row.horizon for row in data.sweep}) > 1:
        return HORIZON
    # The planner's choices are told apart by lines where something else varies.
    ranked = sorted(axes, key=lambda name: name in _LINE_AXES)
    return next((name for name in ranked if numbers({row.axes[name] for row in data.sweep})), next(iter(ranked), None))


def _why_none(data: RunData) -> str:
    if not data.sweep and not data.horizons:
        return "there is no sweep and no measured horizon"
    horizons = {row.horizon for row in data.sweep} | {point.horizon for point in data.horizons}
    return f"there is only one horizon ({horizons.pop()}) and no other axis; a curve needs two"


def _grouped(rows: Sequence[SweepRow], axes: Sequence[str]) -> dict[_Key, list[SweepRow]]:
    """Return the rows by these axes' values, in the values' order."""
    out: dict[_Key, list[SweepRow]] = {}
    places = {axis: {value: i for i, value in enumerate(in_order(row.axes[axis] for row in rows))} for axis in axes}
    for row in sorted(rows, key=lambda row: [places[axis][row.axes[axis]] for axis in axes]):
        out.setdefault(tuple((axis, row.axes[axis]) for axis in axes), []).append(row)
    return out


def _measured(data: RunData, axis: str) -> dict[int | None, list[HorizonPoint]]:
    """Return measured horizons by their number of microbatches; none where the axis is another."""
    out: dict[int | None, list[HorizonPoint]] = {}
    for point in data.horizons if axis == HORIZON else ():
        out.setdefault(point.microbatches or data.microbatches, []).append(point)
    return out


def _with_measured(
    by_panel: Mapping[_Key, list[SweepRow]],
    by_count: Mapping[int | None, list[HorizonPoint]],
    axes: Sequence[str],
    notes: list[str],
) -> dict[_Key, list[HorizonPoint]]:
    """Return each panel's measured horizons: those of its number of microbatches, where that is the only such panel.

    Numbers that no panel has get panels of their own.
    """
    out: dict[_Key, list[HorizonPoint]] = {key: [] for key in by_panel}
    gpus = {row.gpus or 1 for rows in by_panel.values() for row in rows}
    for count, points in by_count.items():
        own = [key for key, rows in by_panel.items() if count is None or rows[0].microbatches == count]
        if len(own) == 1:
            out[own[0]] = points
        elif own:
            names = " and ".join(axis_name(axis) for axis in axes if axis != MICROBATCHES)
            notes.append(f"Measured horizons are not drawn: which {names or 'point'} they are of is not known.")
        elif len(gpus) > 1:
            notes.append("Measured horizons are not drawn: on how many of the sweep's GPUs they ran is not known.")
        else:
            out[((MICROBATCHES, count),)] = points
    return dict(sorted(out.items(), key=lambda item: dict(item[0]).get(MICROBATCHES) or 0)) if by_count else out


def _variant(values: Mapping[str, Any], axes: Iterable[str]) -> str:
    return values_text({name: values[name] for name in axes if values.get(name) is not None}) or PREDICTED


def _run_variant(data: RunData, axes: Sequence[str]) -> str:
    policy = data.plan.policy if data.plan is not None else {}
    return _variant(policy, axes) if axes and all(name in policy for name in axes) else ""


def _left_out(shown: int, every: int, axes: Sequence[str]) -> list[str]:
    if shown == every:
        return []
    names = " and ".join(axis_name(axis) for axis in axes)
    return [not_drawn(shown, every, f"{'values' if len(axes) == 1 else 'combinations'} of {names}")]


def _variants_left_out(kept: Sequence[str], variants: Sequence[str]) -> list[str]:
    return [not_drawn(len(kept), len(variants), "variants")] if len(kept) < len(variants) else []


def _panel(
    axis: str,
    key: _Key,
    rows: Sequence[SweepRow],
    measured: Sequence[HorizonPoint],
    line_axes: Sequence[str],
    variants: Sequence[str],
    chosen: Sequence[SweepRow],
    time: Timed,
    data: RunData,
) -> AxisPanel:
    runs = [(p.horizon, p.measured) for p in measured if p.measured is not None]
    foreseen = [(p.horizon, p.predicted) for p in measured if p.predicted is not None] if not rows else []
    values = in_order([*(row.axes[axis] for row in rows), *(horizon for horizon, _ in (*runs, *foreseen))])
    scale, places = _places(values)
    lines: dict[str, list[AxisPoint]] = {}
    models = models_of(data.sweep, data.model_axes).values()
    model_of = {id(data.sweep[i]): number for number, own in enumerate(models) for i in own}
    for row in sorted(rows, key=lambda row: places[row.axes[axis]]):
        label = _variant(row.axes, line_axes)
        if label in variants:
            point = _point(row, row.axes[axis], places[row.axes[axis]], time)
            marked = replace(point, chosen=any(row is one for one in chosen), model=model_of[id(row)])
            lines.setdefault(label, []).append(marked)
    count = rows[0].microbatches if rows else dict(key).get(MICROBATCHES) or 1
    gpus = next((row.gpus for row in (*rows, *data.sweep)), None)
    of_step = partial(_of_step, count, gpus, places, time)
    if foreseen:
        lines[PREDICTED] = [of_step(horizon, step) for horizon, step in foreseen]
    capacities = {row.capacity_bytes for row in rows} if rows else {data.capacity_bytes}
    return AxisPanel(
        title=_title(key, rows, data),
        lines=tuple(AxisLine(label=label, points=tuple(points)) for label, points in lines.items()),
        measured=tuple(of_step(horizon, step) for horizon, step in runs),
        scale=scale,
        ticks={place: str(value) for value, place in places.items()},
        capacity_bytes=capacities.pop() if len(capacities) == 1 else None,
    )


def _title(key: _Key, rows: Sequence[SweepRow], data: RunData) -> str:
    """Return what tells the panel from others; without any, how many microbatches it has, where that is known."""
    named = {axis: value for axis, value in key if value is not None}
    if named:
        return values_text(named)
    count = rows[0].microbatches if rows and len({row.microbatches for row in rows}) == 1 else None
    return value_text(MICROBATCHES, count) if count is not None else ""


def _places(values: Sequence[Any]) -> tuple[Scale, dict[Any, float]]:
    """Return the scale of an axis of these values, which are in order, and each one's place on it."""
    found = numbers(values)
    if found is None:
        return Scale.CATEGORIES, {value: float(place) for place, value in enumerate(values)}
    sizes = [found[value] for value in values]
    gaps = [high - low for low, high in zip(sizes[:-1], sizes[1:], strict=True)]
    if sizes[0] > 0 and sizes[-1] >= _FAR_APART * sizes[0] and len(gaps) > 1 and max(gaps) > _UNEVEN * min(gaps):
        return Scale.RATIOS, found
    return Scale.LINEAR, found


def _point(row: SweepRow, value: Any, place: float, time: Timed) -> AxisPoint:
    return AxisPoint(
        value=value,
        place=place,
        timed_ns=time.of(row),
        peak_device_bytes=row.peak_device_bytes,
        overlap=row.overlap if row.offloaded else None,
        stalls_ns=row.stalls_ns,
        step_time_ns=row.step_time_ns,
        fits=row.fits,
    )


def _of_step(
    count: int, gpus: int | None, places: Mapping[Any, float], time: Timed, horizon: int, step: StepMetrics
) -> AxisPoint:
    """Return the point of a measured horizon: of as many microbatches and GPUs as its panel's rows are."""
    row = replace(SweepRow.of({HORIZON: horizon, MICROBATCHES: count}, step), gpus=gpus)
    return _point(row, horizon, places[horizon], time)


def fewer(view: AxisView, most: int) -> AxisView:
    """Return the view with at most so many panels, those with measured and chosen points before others."""
    best = [panel for panel in view.panels if panel.measured]
    best += [panel for panel in view.panels if any(point.chosen for point in panel.points)]
    panels = tuple(some(view.panels, most, best))
    if len(panels) == len(view.panels):
        return view
    note = f"{not_drawn(len(panels), len(view.panels), 'panels').removesuffix('.')} at this width."
    return replace(view, panels=panels, notes=(*view.notes, note))
