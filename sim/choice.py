"""The best of a sweep's rows is chosen here, by one rule, which is written in words here too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loadahead.sim.errors import InputError
from loadahead.sim.schema_errors import shown_value
from loadahead.sim.step_metrics import CAPACITY, HOST_CAPACITY, OF_HORIZONS, SweepRow
from loadahead.sim.units import DURATIONS, counted, format_bytes, format_number

# Speeds closer than so many percent count as equal; of equal ones the one that needs less memory is better.
AS_FAST = 1
# The share in words.
WITHIN = f"{AS_FAST} %"
# What a speed is, in words and as a table's header has it.
SPEED, SPEED_HEADER = "microbatches per second and GPU", "mb/s/GPU"
RULE = (
    f"Of the plans that fit the device and the host the one with the most {SPEED} counts; of those within {WITHIN} of "
    "it, the one is taken that has the fewest replicas, then needs the least device memory, then the least host "
    "memory, then the fewest copies."
)
# This is said below a table in which the best row is marked.
MARKED = (
    f"Marked: of what fits, the most {SPEED}, and of those within {WITHIN} of it the one with the fewest replicas, "
    "then the one that needs least device memory, then least host memory."
)
# This comes behind it where the rows are of several models.
EACH_MODEL = "Models are not compared: each has its own mark."
# An axis that begins so makes the model another one.
MODEL = "model."
# How many replicas there are, where it is an axis: speeds are a GPU's, so that more of them only have to be paid for.
REPLICAS = "parallel.data_parallel_degree"
# These axes tell a row from others, whether they vary or not.
ALWAYS_NAMED = ("microbatches", "horizon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Says which row of a model is the best; where none fits, which is the nearest to fit and what it lacks.

    Attributes:
        model: the axes' values that tell the model from the sweep's others; empty where there is one model.
        row: the best row, or else the one that lacks the fewest bytes of device and host memory together.
        index: its place among the rows.
        fits: whether it is the best; else nothing fits.
        missing_device_bytes, missing_host_bytes: what it lacks; 0 where it fits.
        sentence: all that in words.
    """

    model: Mapping[str, Any]
    row: SweepRow
    index: int
    fits: bool
    missing_device_bytes: int
    missing_host_bytes: int
    sentence: str

    @property
    def best(self) -> SweepRow | None:
        """Return the best row; None where nothing fits."""
        return self.row if self.fits else None

    def missing(self) -> dict[str, Any] | None:
        """Return what the nearest row lacks, as the command line's JSON has it; None where something fits."""
        if self.fits:
            return None
        return {
            "model": dict(self.model),
            "device_bytes": self.missing_device_bytes,
            "host_memory_bytes": self.missing_host_bytes,
            "nearest": self.row.to_dict(),
            "sentence": self.sentence,
        }


def gpu_ns_per_microbatch(row: SweepRow) -> float:
    """Return the step time in ns times the GPUs, divided by the microbatches.

    A microbatch is the same work in every step of a model, and a GPU that waits is paid for: steps of different numbers
    of either compare by it. Both are of one replica, as all have as many. Where the GPUs are not known, as in tables of
    earlier versions, they count as one.
    """
    return _gpu_ns(row) / row.microbatches


def speed(row: SweepRow) -> float | None:
    """Return the row's microbatches per second and GPU; None for a step that takes no time."""
    return DURATIONS["s"] / gpu_ns_per_microbatch(row) if row.step_time_ns else None


def format_speed(row: SweepRow) -> str:
    """Return the row's microbatches per second and GPU as text, with four significant digits."""
    number = speed(row)
    return "unlimited" if number is None else format_number(number)


def choices(
    rows: Sequence[SweepRow],
    capacity_bytes: int | None = None,
    host_capacity_bytes: int | None = None,
    model_axes: Sequence[str] = (),
) -> tuple[Choice, ...]:
    """Return the choice by :data:`RULE` for each model among the rows, in the rows' order.

    Rows whose axes under ``model.``, or any of ``model_axes``, differ are of different models. The capacities, where
    they are given, stand for the rows' own. Of rows that are as good in all that the rule says, the fastest is chosen,
    then the one with the shortest horizon, then the first.
    """
    given = {CAPACITY: capacity_bytes, HOST_CAPACITY: host_capacity_bytes}
    own: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    judged = [replace(row, **own) for row in rows] if own else rows
    several = [axis for axis in varying_axes(rows) if _is_of_model(axis, model_axes)]
    return tuple(_choice(rows, judged, places, several) for places in models_of(rows, model_axes).values())


def _is_of_model(axis: str, model_axes: Sequence[str]) -> bool:
    return axis.startswith(MODEL) or axis in model_axes


def best_of(chosen: Sequence[Choice]) -> dict[str, Any] | list[dict[str, Any] | None] | None:
    """Return the best row as plain data, or None where nothing fits; of several models a list of these."""
    return _one_or_each([None if choice.best is None else choice.best.to_dict() for choice in chosen])


def missing_of(chosen: Sequence[Choice]) -> dict[str, Any] | list[dict[str, Any] | None] | None:
    """Return what :meth:`Choice.missing` returns; of several models a list of these."""
    return _one_or_each([choice.missing() for choice in chosen])


def _one_or_each(found: list[dict[str, Any] | None]) -> dict[str, Any] | list[dict[str, Any] | None] | None:
    return found[0] if len(found) == 1 else found


def models_of(rows: Sequence[SweepRow], model_axes: Sequence[str] = ()) -> dict[tuple[Any, ...], list[int]]:
    """Return the places of each model's rows by what tells the model from others, in the rows' order."""
    out: dict[tuple[Any, ...], list[int]] = {}
    for index, row in enumerate(rows):
        model = tuple(value for axis, value in row.axes.items() if _is_of_model(axis, model_axes))
        out.setdefault(model, []).append(index)
    return out


def _choice(rows: Sequence[SweepRow], judged: Sequence[SweepRow], places: list[int], several: list[str]) -> Choice:
    """Return the choice among the rows of one model, which lie at these places; ``several`` tells it from others."""
    mine = [judged[i] for i in places]
    best = _best(mine)
    nearest = _nearest(mine) if best is None else best
    row = mine[nearest]
    axes = [axis for axis in varying_axes(mine) if axis not in several]
    body = _nothing_fits(mine, row, axes) if best is None else _found(row, axes)
    model = {axis: row.axes[axis] for axis in several}
    return Choice(
        model=model,
        row=rows[places[nearest]],
        index=places[nearest],
        fits=best is not None,
        missing_device_bytes=row.missing_device_bytes,
        missing_host_bytes=row.missing_host_bytes,
        sentence=f"{axes_text(row, model)}: {body}" if model else body,
    )


def _best(rows: Sequence[SweepRow]) -> int | None:
    fit = [i for i, row in enumerate(rows) if row.fits]
    if not fit:
        return None
    fastest = rows[min(fit, key=lambda i: gpu_ns_per_microbatch(rows[i]))]
    return min((i for i in fit if _as_fast(rows[i], fastest)), key=lambda i: (*_needs(rows[i]), i))


def _nearest(rows: Sequence[SweepRow]) -> int:
    """Return the place of the row that lacks the fewest bytes, of device and host memory together."""

    def key(i: int) -> tuple[Any, ...]:
        row = rows[i]
        return row.missing_device_bytes + row.missing_host_bytes, gpu_ns_per_microbatch(row), *_needs(row), i

    return min(range(len(rows)), key=key)


def _as_fast(row: SweepRow, fastest: SweepRow) -> bool:
    """Return whether a row's speed is within :data:`AS_FAST` of the fastest's; in integers, which do not round."""
    return (100 - AS_FAST) * fastest.microbatches * _gpu_ns(row) <= 100 * row.microbatches * _gpu_ns(fastest)


def _gpu_ns(row: SweepRow) -> int:
    return row.step_time_ns * (row.gpus or 1)


def _needs(row: SweepRow) -> tuple[Any, ...]:
    """Return what decides between rows that are as fast, the less the better."""
    replicas = row.replicas or row.axes.get(REPLICAS, 1)
    return replicas, row.peak_device_bytes, row.host_bytes, row.offloaded, gpu_ns_per_microbatch(row), row.horizon


def rows_where(rows: Sequence[SweepRow], values: Mapping[str, Any]) -> list[SweepRow]:
    """Return the rows whose axes have these values; raise InputError for an axis or a value that no row has."""
    if not isinstance(values, Mapping):
        raise InputError(
            f'where is of type {type(values).__name__}; give a dictionary, e.g. {{"horizon": 4}}', parameters=("where",)
        )
    out = list(rows)
    for axis, value in values.items():
        if rows and axis not in rows[0].axes:
            raise InputError(
                f"where has the axis {shown_value(axis)}; it must be one of {', '.join(rows[0].axes)}",
                parameters=("where",),
            )
        left = [row for row in out if row.axes[axis] == value or row.axes[axis] == str(value)]
        if out and not left:
            known = ", ".join(str(found) for found in dict.fromkeys(row.axes[axis] for row in out))
            raise InputError(
                f"where has {axis} = {shown_value(value)}, which no point has; it must be one of {known:.200}",
                parameters=("where",),
            )
        out = left
    return out


def varying_axes(rows: Sequence[SweepRow]) -> list[str]:
    """Return the axes that have more than one value in the rows, and those by which a row is always named."""
    axes = list(rows[0].axes) if rows else []
    return [axis for axis in axes if axis in ALWAYS_NAMED or len({row.axes[axis] for row in rows}) > 1]


def axes_text(row: SweepRow, axes: Iterable[str]) -> str:
    """Return the values of a row's axes in words, e.g. ``microbatches 8, horizon 1``.

    Those of a horizon are left out where tuning decided.
    """
    if row.is_tuned:
        axes = [axis for axis in axes if axis not in OF_HORIZONS]
    return ", ".join(f"{axis} {row.axes[axis]}" for axis in axes)


def _found(row: SweepRow, axes: list[str]) -> str:
    return (
        f"The best that fits: {axes_text(row, axes)}. It makes {format_speed(row)} {SPEED}, with "
        f"{format_bytes(row.peak_device_bytes)} of device memory and {_on_host(row)}."
    )


def _on_host(row: SweepRow) -> str:
    together = " for all GPUs of a host together" if row.host_bytes != row.peak_host_bytes else ""
    return f"{format_bytes(row.host_bytes)} of host memory{together}"


def _nothing_fits(rows: Sequence[SweepRow], nearest: SweepRow, axes: list[str]) -> str:
    """Say what the nearest row needs and lacks; that it is the least of all is said only where that is so."""
    lacks = []
    if nearest.missing_device_bytes:
        needs = f"{format_bytes(nearest.peak_device_bytes)} of device memory"
        more = f"{format_bytes(nearest.missing_device_bytes)} more than the device has"
        lacks.append((needs, more, nearest.peak_device_bytes == min(row.peak_device_bytes for row in rows)))
    if nearest.missing_host_bytes:
        more = f"{format_bytes(nearest.missing_host_bytes)} more than the host has"
        lacks.append((_on_host(nearest), more, nearest.host_bytes == min(row.host_bytes for row in rows)))
    where = axes_text(nearest, axes)
    needs, more, is_least = lacks[0]
    if len(lacks) == 1 and (is_least or len(rows) == 1):
        who = f"the least that any of the {len(rows)} plans needs is" if len(rows) > 1 else "the one plan needs"
        return f"Nothing fits: {who} {needs} ({where}), {more}."
    both = ", and ".join(f"{needs}, {more}" for needs, more, _ in lacks)
    return f"Nothing fits: of {counted(len(rows), 'plan')} the nearest ({where}) needs {both}."
