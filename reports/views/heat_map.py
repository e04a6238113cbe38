"""Shows a sweep as a table of two of its axes: horizon and microbatches, else the two that have most values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadahead.reports.axis_names import axis_name, capital, in_order, not_drawn, some, values_text, varying
from loadahead.reports.run_data import REQUIRED_AXES, RunData
from loadahead.reports.views.base import Missing
from loadahead.reports.views.timed import Timed, time_of
from loadahead.sim.choice import Choice, choices, models_of
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.units import counted, format_bytes, format_duration

TITLE = "Time and memory of each combination"
# So many models have a pair of maps each, and so many values of an axis a cell each.
MOST_SLICES, MOST_VALUES = 3, 32
# A cell's colour says how much more than the least that fits it takes, at most so much; the last one: more than all.
LEVELS = (0.01, 0.05, 0.15, 0.5, 1.5)


def level(number: float, least: float) -> int:
    """Return which of the colours a number has beside the least of its map, from 0."""
    return sum(number > least * (1 + most) for most in LEVELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatCell:
    """Holds one point: its time in ns, its peak, whether it fits, and whether it is the chosen one."""

    timed_ns: float
    peak_device_bytes: int
    fits: bool
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatSlice:
    """Holds one model's points at one value of every other axis.

    Attributes:
        title: what tells the model from others; empty where there is one.
        fixed: the other axes that vary, with the value that the chosen point has.
        others: how many other combinations of values those axes have.
        across, up: the values of both axes, in order.
        cells: by value of ``up``, then of ``across``; None where the sweep has no such point.
    """

    title: str
    fixed: Mapping[str, Any]
    others: int
    across: tuple[Any, ...]
    up: tuple[Any, ...]
    cells: tuple[tuple[HeatCell | None, ...], ...]

    @property
    def where(self) -> str:
        """Return what the map is of, and how many maps like it there would be; empty where there is no other."""
        text = ", ".join(part for part in (self.title, values_text(self.fixed)) if part)
        others = f"{counted(self.others, 'other value' if len(self.fixed) == 1 else 'other combination')} not drawn"
        return f"{text}; {others}" if self.others else text

    @property
    def known(self) -> list[HeatCell]:
        """Return the cells that hold a point."""
        return [cell for line in self.cells for cell in line if cell is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatView:
    """Holds a table for each model over the same two axes, and by which time its points compare."""

    across: str
    up: str
    slices: tuple[HeatSlice, ...]
    models: int
    time: Timed
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Return the figure's title."""
        return f"{capital(self.time.name)} and peak memory by {axis_name(self.across)} and {axis_name(self.up)}"

    @property
    def sentences(self) -> list[str]:
        """Return what the figure shows, in words."""
        parts = [sentence for one in self.slices for sentence in self._of(one)]
        cells = [cell for one in self.slices for cell in one.known]
        if any(cell.fits for cell in cells):
            parts.append("Colours say how much more than the least that fits a point takes.")
        if not all(cell.fits for cell in cells):
            parts.append("Grey hatched cells do not fit.")
        if any(cell.chosen for cell in cells):
            parts.append("The frame is the chosen point.")
        if self.time.sentence:
            parts.append(self.time.sentence)
        if len(self.slices) < self.models:
            parts.append(not_drawn(len(self.slices), self.models, "models"))
        return [*parts, *self.notes]

    def _of(self, one: HeatSlice) -> list[str]:
        cells = one.known
        fit = sum(cell.fits for cell in cells)
        where = ", ".join(text for text in (one.title, values_text(one.fixed)) if text)
        left = ""
        if one.others:
            what = "values" if len(one.fixed) == 1 else "combinations"
            left = f" The {one.others} other {what if one.others > 1 else what[:-1]} of "
            left += (
                f"{' and '.join(axis_name(axis) for axis in one.fixed)} {'are' if one.others > 1 else 'is'} not drawn."
            )
        count = f"all {fit}" if fit == len(cells) else f"{fit} of the {len(cells)}"
        said = [f"{count} points shown {'fits' if fit == 1 else 'fit'}" if fit else f"none of {len(cells)} points fits"]
        inside = [cell for cell in cells if cell.fits]
        if inside:
            fastest, leanest = min(c.timed_ns for c in inside), min(c.peak_device_bytes for c in inside)
            said.append(f"the least time of these is {format_duration(round(fastest))}")
            said.append(f"the least memory {format_bytes(leanest)}")
        text = ", ".join(said) + "."
        return [capital(f"{where}: {text}" if where else text) + left]


def of(data: RunData) -> HeatView | Missing:
    """Return the sweep over its two axes; or why there is no table to show."""
    if len(data.sweep) < 2:
        reason = "the sweep has only one point" if data.sweep else "there is no sweep"
        return Missing(title=TITLE, reason=reason, absent=not data.sweep)
    chosen = choices(data.sweep, model_axes=data.model_axes)
    models = list(models_of(data.sweep, data.model_axes).values())
    own = set(chosen[0].model)
    axes = [axis for axis in varying(data.sweep) if axis not in own]
    pair = _pair(data.sweep, axes)
    if pair is None:
        return Missing(title=TITLE, reason=f"only one axis varies ({', '.join(axes) or 'none'}); a map needs two")
    across, up = pair
    shown = some(range(len(models)), MOST_SLICES)
    notes: list[str] = []
    time = time_of(data.sweep)
    slices = tuple(_slice(data.sweep, models[place], chosen[place], pair, time, notes) for place in shown)
    return HeatView(
        across=across, up=up, slices=slices, models=len(models), time=time, notes=tuple(dict.fromkeys(notes))
    )


def _pair(rows: Sequence[SweepRow], axes: Sequence[str]) -> tuple[str, str] | None:
    """Return the axis with more values across and the other one up; None where there are no two."""
    sizes = {axis: len({row.axes[axis] for row in rows}) for axis in axes}
    usual = [axis for axis in reversed(REQUIRED_AXES) if axis in sizes]
    two = usual if len(usual) == 2 else sorted(sizes, key=lambda axis: -sizes[axis])[:2]
    if len(two) < 2:
        return None
    across, up = sorted(two, key=lambda axis: -sizes[axis])
    return across, up


def _slice(
    sweep: Sequence[SweepRow],
    places: Sequence[int],
    choice: Choice,
    pair: tuple[str, str],
    time: Timed,
    notes: list[str],
) -> HeatSlice:
    across, up = pair
    rows = [sweep[i] for i in places]
    best = sweep[choice.index]
    fixed = {axis: best.axes[axis] for axis in varying(rows) if axis not in pair}
    mine = [row for row in rows if all(row.axes[axis] == value for axis, value in fixed.items())]
    known = {(row.axes[across], row.axes[up]): row for row in mine}
    columns, lines = (_values(mine, axis, best.axes[axis], notes) for axis in pair)

    def cell(value: Any, other: Any) -> HeatCell | None:
        row = known.get((value, other))
        if row is None:
            return None
        return HeatCell(
            timed_ns=time.of(row),
            peak_device_bytes=row.peak_device_bytes,
            fits=row.fits,
            chosen=choice.fits and row is best,
        )

    return HeatSlice(
        title=values_text({axis: value for axis, value in choice.model.items() if axis not in pair}),
        fixed=fixed,
        others=len({tuple(row.axes[axis] for axis in fixed) for row in rows}) - 1,
        across=tuple(columns),
        up=tuple(lines),
        cells=tuple(tuple(cell(value, other) for value in columns) for other in lines),
    )


def _values(rows: Sequence[SweepRow], axis: str, best: Any, notes: list[str]) -> list[Any]:
    """Return an axis' values, at most :data:`MOST_VALUES`, the chosen point's among them."""
    every = in_order(row.axes[axis] for row in rows)
    if len(every) > MOST_VALUES:
        notes.append(f"Of {len(every)} values of {axis_name(axis)} {MOST_VALUES} are shown.")
    return some(every, MOST_VALUES, [best])
