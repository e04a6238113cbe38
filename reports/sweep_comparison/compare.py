"""Compares two sweeps, point by point and at the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from loadahead.reports.pareto import all_on_front
from loadahead.reports.sweep_comparison.differences import differences, other_models
from loadahead.reports.sweep_comparison.matching import Matching, matching, partners, plain, same
from loadahead.reports.sweep_comparison.result import (
    BestChange,
    FrontChange,
    PointChange,
    SweepComparison,
    SweepSide,
)
from loadahead.reports.sweep_comparison.words import comparison_sentences
from loadahead.sim.choice import MODEL, Choice, choices, models_of
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import SweepRow


def compare_sweeps(a: SweepSide, b: SweepSide) -> SweepComparison:
    """Compare two sweeps; InputError where one has no points."""
    for side in (a, b):
        if not side.rows:
            raise InputError(f"{side.name}: the sweep has no points; sweep it again")
    by = matching(a, b)
    pairs, only_a, only_b = partners(a.rows, b.rows, by)
    models = _models(a, b, by)
    found = SweepComparison(
        a=a,
        b=b,
        matched_by=by.by,
        fixed=by.fixed,
        ignored=tuple(by.ignored),
        apart=by.apart,
        points=tuple(
            PointChange(axes={axis: row.axes[axis] for axis in by.by}, a=row, b=other) for row, other in pairs
        ),
        only_a=tuple(only_a),
        only_b=tuple(only_b),
        best=tuple(
            BestChange(model=model, a=before[0], b=now[0], rows_a=tuple(before[1]), rows_b=tuple(now[1]))
            for model, before, now in models
        ),
        fronts=tuple(_front(model, before[1], now[1], by) for model, before, now in models),
        differences=differences(a.facts, b.facts),
        other_models=other_models(a.facts, b.facts),
    )
    return replace(found, sentences=tuple(comparison_sentences(found)))


_OfModel = tuple[Choice, list[SweepRow]]


def _models(a: SweepSide, b: SweepSide, by: Matching) -> list[tuple[Mapping[str, Any], _OfModel, _OfModel]]:
    """Return the models that both sweeps have, with each one's choice and rows in either.

    A model's axis that one sweep alone has counts at the other's own value.
    """
    sides = [_by_model(side, by) for side in (a, b)]
    axes = {axis for side in sides for choice, _ in side for axis in choice.model}
    if len(sides[0]) == len(sides[1]) == 1 and not axes:
        return [({}, sides[0][0], sides[1][0])]
    shared = [axis for axis in by.by if axis in axes]
    others = {_key(one, shared): one for one in sides[1]}
    found: list[tuple[Mapping[str, Any], _OfModel, _OfModel]] = []
    for one in sides[0]:
        other = others.get(_key(one, shared))
        if other is not None:
            found.append(({axis: one[1][0].axes[axis] for axis in shared}, one, other))
    return found


def _key(one: _OfModel, axes: Sequence[str]) -> tuple[Any, ...]:
    return tuple(plain(one[1][0].axes[axis]) for axis in axes)


def _by_model(side: SweepSide, by: Matching) -> list[_OfModel]:
    def is_of_model(axis: str) -> bool:
        return axis.startswith(MODEL) or axis in side.model_axes

    fixed = {axis: value for axis, value in by.fixed.items() if axis in side.rows[0].axes and is_of_model(axis)}
    rows = [row for row in side.rows if all(same(row.axes[axis], value) for axis, value in fixed.items())]
    groups = models_of(rows, side.model_axes).values()
    chosen = choices(rows, model_axes=side.model_axes)
    return [(choice, [rows[i] for i in places]) for choice, places in zip(chosen, groups, strict=True)]


def _front(model: Mapping[str, Any], a: Sequence[SweepRow], b: Sequence[SweepRow], by: Matching) -> FrontChange:
    before, now = ([rows[i] for i in all_on_front(rows)] for rows in (a, b))
    keys_a, keys_b = ({by.key(row) for row in rows} - {None} for rows in (before, now))
    return FrontChange(
        model=model,
        stayed=len(keys_a & keys_b),
        joined=tuple(row for row in now if by.key(row) not in keys_a),
        left=tuple(row for row in before if by.key(row) not in keys_b),
    )
