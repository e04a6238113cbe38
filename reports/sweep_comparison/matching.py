"""Matches the points of two sweeps by their axes; one of a single sweep stands where the other's scenario has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadahead.reports.axis_names import numbers
from loadahead.reports.sweep_comparison.result import SweepSide
from loadahead.sim.step_metrics import SweepRow

Key = tuple[Any, ...]
_NOT_THERE = object()


@dataclass(slots=True, kw_only=True)
class Matching:
    """Says how points of two sweeps are matched.

    Attributes:
        by: the axes that both have.
        fixed: axes of one alone, with its value that is the other's own.
        ignored: axes of one alone that have one value there, of which the other does not say what it has.
        apart: axes of one alone, none of whose values is known to be the other's, with the other's; None where it does
            not say it: nothing matches.
    """

    by: tuple[str, ...]
    fixed: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    apart: dict[str, Any] = field(default_factory=dict)

    def key(self, row: SweepRow) -> Key | None:
        """Return what is equal for two rows of one point; None for a row that the other sweep cannot have."""
        if any(axis in row.axes for axis in self.apart):
            return None
        if any(axis in row.axes and not same(row.axes[axis], value) for axis, value in self.fixed.items()):
            return None
        return tuple(plain(row.axes[axis]) for axis in self.by)


def matching(a: SweepSide, b: SweepSide) -> Matching:
    """Return how the points of two sweeps are matched."""
    axes_a, axes_b = (list(side.rows[0].axes) for side in (a, b))
    found = Matching(by=tuple(axis for axis in axes_a if axis in axes_b))
    for side, other, axes in ((a, b, axes_a), (b, a, axes_b)):
        for axis in axes:
            if axis not in found.by:
                _place(found, axis, side, other)
    return found


def _place(found: Matching, axis: str, side: SweepSide, other: SweepSide) -> None:
    """Decide on an axis that ``side`` alone has."""
    values = list(dict.fromkeys(row.axes[axis] for row in side.rows))
    own = _of_scenario(other, axis)
    equal = [] if own is _NOT_THERE else [value for value in values if same(value, own)]
    if equal:
        found.fixed[axis] = equal[0]
    elif own is _NOT_THERE and len(values) == 1:
        found.ignored.append(axis)
    else:
        found.apart[axis] = None if own is _NOT_THERE else own


def _of_scenario(side: SweepSide, axis: str) -> Any:
    """Return what a sweep's scenario has where another sweep has an axis."""
    tables: Any = {} if side.facts is None else side.facts.tables
    # A column without a dot is one of the planner's choices, whose key ends with its name.
    keys = [axis] if "." in axis else [f"{name}.{axis}" for name in tables]
    for key in keys:
        value = tables
        for part in key.split("."):
            value = value.get(part, _NOT_THERE) if isinstance(value, Mapping) else _NOT_THERE
        if value is not _NOT_THERE:
            return value
    return _NOT_THERE


def plain(value: Any) -> Any:
    """Return what is equal for two writings of a value: a number in the least unit, or the text."""
    found = None if isinstance(value, bool) or not isinstance(value, int | float | str) else numbers([value])
    return str(value) if found is None else found[value]


def same(value: Any, other: Any) -> bool:
    """Return whether two values mean the same, e.g. ``"32 GB/s"`` and ``"32000000000 B/s"``."""
    return bool(plain(value) == plain(other))


def partners(
    a: Sequence[SweepRow], b: Sequence[SweepRow], by: Matching
) -> tuple[list[tuple[SweepRow, SweepRow]], list[SweepRow], list[SweepRow]]:
    """Return the pairs of rows of one point, in A's order, and the rows that are A's and B's alone."""
    others: dict[Key, SweepRow] = {}
    for row in b:
        key = by.key(row)
        if key is not None:
            others.setdefault(key, row)
    pairs, alone, taken = [], [], set()
    for row in a:
        key = by.key(row)
        if key is None or key in taken or key not in others:
            alone.append(row)
            continue
        taken.add(key)
        pairs.append((row, others[key]))
    matched = {id(row) for _, row in pairs}
    return pairs, alone, [row for row in b if id(row) not in matched]
