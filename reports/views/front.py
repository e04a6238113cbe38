"""Shows what a sweep's points take of time and memory, which are on the front, and which is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadahead.reports.axis_names import capital, not_drawn, some, values_text, varying
from loadahead.reports.pareto import all_on_front, front_of
from loadahead.reports.run_data import RunData
from loadahead.reports.views.base import Missing
from loadahead.reports.views.timed import Timed, time_of
from loadahead.sim.choice import Choice, choices, models_of
from loadahead.sim.step_metrics import OF_HORIZONS, SweepRow
from loadahead.sim.units import counted, format_bytes, format_duration

TITLE = "What each point takes of time and memory"
MOST_PANELS = 4
# Points this many times beyond the front, or beyond the capacity, are not drawn where they would flatten it.
_BEYOND, _FLATTENS = 1.3, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """Holds one point: its place in the sweep, its time in ns, its peak, and what is to be said of it.

    ``keeps_all`` says that nothing leaves the device; ``label`` are the axes that vary among its model's points.
    """

    index: int
    label: str
    timed_ns: float
    peak_device_bytes: int
    fits: bool
    keeps_all: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPanel:
    """Holds one model's points, in the sweep's order.

    Attributes:
        title: what tells the model from others; empty where there is one.
        front: places in ``points`` of those on the front, fastest first; of equal ones the first.
        on_front: places of all that are on it, with those that are equal.
        chosen: the place of the chosen point, or where nothing fits of the nearest to fit.
        capacity_bytes: that of a device; None where it is not known or not the same for all points.
    """

    title: str
    points: tuple[FrontPoint, ...]
    front: tuple[int, ...]
    on_front: tuple[int, ...]
    chosen: int
    capacity_bytes: int | None

    @property
    def shown(self) -> tuple[FrontPoint, ...]:
        """Return the points to draw: those far beyond the front would flatten it, and are counted instead."""
        on = [self.points[place] for place in (*self.front, self.chosen)]
        times = _BEYOND * max(point.timed_ns for point in on)
        sizes = _BEYOND * max(*(point.peak_device_bytes for point in on), self.capacity_bytes or 0)
        if max(point.timed_ns for point in self.points) < _FLATTENS * times:
            times = math.inf
        if max(point.peak_device_bytes for point in self.points) < _FLATTENS * sizes:
            sizes = math.inf
        return tuple(p for p in self.points if p.timed_ns <= times and p.peak_device_bytes <= sizes)

    @property
    def fitting(self) -> int:
        """Return how many points fit."""
        return sum(point.fits for point in self.points)

    @property
    def staircase(self) -> tuple[tuple[int, float], ...]:
        """Return (bytes, ns) along the front, leanest first: the least time that so much memory buys."""
        points = [self.points[place] for place in reversed(self.front)]
        return tuple((point.peak_device_bytes, point.timed_ns) for point in points)

    def sentences(self, time: Timed) -> list[str]:
        """Return what the panel shows, in words."""
        return [*self._counts(), self._choice(time), *self._along(time), *self.left_out]

    @property
    def left_out(self) -> list[str]:
        """Return how many points are not drawn, in words."""
        more = len(self.points) - len(self.shown)
        what = "1 point that takes" if more == 1 else f"{more} points that take"
        return [f"{what} far more of either {'is' if more == 1 else 'are'} not drawn."] if more else []

    def _counts(self) -> list[str]:
        every, fit = len(self.points), self.fitting
        if not fit:
            return [f"None of {counted(every, 'point')} fits; the line is the front of all."]
        most = f"All {every} points fit" if fit == every else f"{fit} of {every} points {'fits' if fit == 1 else 'fit'}"
        on = len(self.on_front)
        is_on = f"{on} of them {'is' if on == 1 else 'are'} on the front"
        return [f"{most}; {is_on}: no other that fits takes less of one and no more of the other."]

    def _choice(self, time: Timed) -> str:
        chosen = self.points[self.chosen]
        takes = f"{format_duration(round(chosen.timed_ns))} ({time.name}) and {format_bytes(chosen.peak_device_bytes)}"
        if not self.fitting:
            return f"Nearest to fit: {chosen.label}, {takes}."
        return f"Chosen: {chosen.label}, {takes}."

    def _along(self, time: Timed) -> list[str]:
        if len(self.front) < 2:
            return []
        fastest, leanest = self.points[self.front[0]], self.points[self.front[-1]]
        if not fastest.timed_ns:
            return []
        longer = leanest.timed_ns / fastest.timed_ns - 1
        return [
            f"Along the front, from {fastest.label} to {leanest.label}, memory falls from "
            f"{format_bytes(fastest.peak_device_bytes)} to {format_bytes(leanest.peak_device_bytes)} and {time.name} "
            f"rises by {longer:.1%}.".replace("%", " %")
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontView:
    """Holds a panel for each model, and by which time its points compare."""

    panels: tuple[FrontPanel, ...]
    models: int
    time: Timed

    @property
    def title(self) -> str:
        """Return the figure's title."""
        return f"{capital(self.time.name)} against peak device memory"

    @property
    def sentences(self) -> list[str]:
        """Return what the figure shows, in words."""
        parts = []
        for panel in self.panels:
            said = panel.sentences(self.time)
            # Of several models each has its choice alone: the rest can be seen.
            several = [f"{panel.title}: {said[1][0].lower()}{said[1][1:]}", *panel.left_out]
            parts += said if len(self.panels) == 1 else several
        every = [point for panel in self.panels for point in panel.shown]
        if not all(point.fits for point in every):
            parts.append("Grey crosses do not fit.")
        if any(point.keeps_all for point in every):
            parts.append("At squares nothing leaves the device.")
        if self.time.sentence:
            parts.append(self.time.sentence)
        if len(self.panels) < self.models:
            parts.append(not_drawn(len(self.panels), self.models, "models"))
        return parts


def of(data: RunData) -> FrontView | Missing:
    """Return the points of a run's sweep, a panel for each model; a sweep of one point shows nothing of the kind."""
    if len(data.sweep) < 2:
        reason = "the sweep has only one point" if data.sweep else "there is no sweep"
        return Missing(title=TITLE, reason=reason, absent=not data.sweep)
    models = list(models_of(data.sweep, data.model_axes).values())
    chosen = choices(data.sweep, model_axes=data.model_axes)
    shown = some(range(len(models)), MOST_PANELS)
    time = time_of(data.sweep)
    panels = tuple(panel_of(data.sweep, models[place], chosen[place], time) for place in shown)
    return FrontView(panels=panels, models=len(models), time=time)


def panel_of(sweep: Sequence[SweepRow], places: Sequence[int], choice: Choice, time: Timed) -> FrontPanel:
    """Return the panel of one model's rows, which lie at these places of the sweep, and of what is chosen of them."""
    rows = [sweep[i] for i in places]
    axes = varying(rows) or ["horizon"]
    capacities = {row.capacity_bytes for row in rows}
    return FrontPanel(
        title=values_text(choice.model),
        points=tuple(
            FrontPoint(
                index=index,
                label=_label(row, axes),
                timed_ns=time.of(row),
                peak_device_bytes=row.peak_device_bytes,
                fits=row.fits,
                keeps_all=row.offloaded == 0,
            )
            for index, row in zip(places, rows, strict=True)
        ),
        front=front_of(rows),
        on_front=all_on_front(rows),
        chosen=list(places).index(choice.index),
        capacity_bytes=capacities.pop() if len(capacities) == 1 else None,
    )


def _label(row: SweepRow, axes: Sequence[str]) -> str:
    """Return a point's name by these axes; a horizon is nothing to one that tuning decided."""
    if not row.is_tuned:
        return values_text({axis: row.axes[axis] for axis in axes})
    return values_text({axis: row.axes[axis] for axis in axes if axis not in OF_HORIZONS}) or "tuned"
