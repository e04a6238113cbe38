"""Says which points of a sweep were measured: those that what was run has all axes' values of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadahead.reports.run_data import REQUIRED_AXES, RunData
from loadahead.reports.sweep_comparison.matching import same

_NOT_KNOWN = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPoints:
    """Says how many points were measured; ``unknown`` are the axes of which nothing says what was run."""

    count: int
    unknown: tuple[str, ...]


def measured_points(data: RunData) -> MeasuredPoints:
    """Return how many of a sweep's points are among the measured horizons.

    Horizons and microbatches are each measurement's own; the other axes are those of the plan that was run.
    """
    run = {(point.microbatches or data.microbatches, point.horizon) for point in data.horizons if point.measured}
    others = [axis for axis in (data.sweep[0].axes if data.sweep else ()) if axis not in REQUIRED_AXES]
    own = {axis: _of_plan(data, axis) for axis in others}
    unknown = tuple(axis for axis, value in own.items() if value is _NOT_KNOWN)
    known = {axis: value for axis, value in own.items() if value is not _NOT_KNOWN}
    count = sum(
        (row.microbatches, row.horizon) in run and all(same(row.axes[axis], value) for axis, value in known.items())
        for row in data.sweep
    )
    return MeasuredPoints(count=count, unknown=unknown)


def _of_plan(data: RunData, axis: str) -> Any:
    """Return what the plan that was run has where a sweep has an axis: a choice of the planner, or a scenario's key."""
    if data.plan is None:
        return _NOT_KNOWN
    policy = data.plan.policy
    if "." not in axis:
        return policy.get(axis, _NOT_KNOWN)
    value: Any = policy.get("scenario")
    for part in axis.split("."):
        value = value.get(part, _NOT_KNOWN) if isinstance(value, Mapping) else _NOT_KNOWN
    return value
