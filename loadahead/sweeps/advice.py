"""What a sweep advises: on the marked point all horizons are searched, on all others the swept ones are looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from loadahead.prediction import advice_on_policy
from loadahead.progress import ProgressCallback, silent
from loadahead.sim.advice import Advice, SweptAdvice, advice_on_rows
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.sweep import evaluate_points

if TYPE_CHECKING:
    from loadahead.sim.choice import Choice
    from loadahead.sweeps.grid import Grid

HORIZON = "horizon"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepAdvice:
    """Holds what a sweep advises.

    Attributes:
        marked: advice on the first model's best row, or on the nearest where nothing fits, over all its horizons; None
            where no horizon decides.
        row: that row.
        each: for each combination of the axes beside the horizon, what the swept horizons say; empty where just one of
            each was swept, which says nothing of others.
    """

    marked: Advice | None
    row: SweepRow
    each: tuple[SweptAdvice, ...]

    def marked_dict(self) -> dict[str, Any] | None:
        """Return the advice on the marked row as plain data, with the row's axes."""
        return None if self.marked is None else {"axes": dict(self.row.axes)} | self.marked.to_dict()

    @property
    def sentences(self) -> tuple[str, ...]:
        """Return the advice in words: on the marked row, then on each combination, where there are several."""
        marked = () if self.marked is None else (self.marked.sentence,)
        return (*marked, *each_in_words(self.each))


def each_in_words(each: Sequence[SweptAdvice]) -> list[str]:
    """Return a sentence for each of several combinations, which begins with the axes that differ."""
    if len(each) < 2:
        return []
    varying = [key for key in each[0].axes if len({str(one.axes[key]) for one in each}) > 1]
    return [f"{_named(one.axes, varying)}: {one.sentence}" for one in each]


def _named(axes: Mapping[str, Any], keys: Iterable[str]) -> str:
    return ", ".join(f"{key} {axes[key]}" for key in keys)


def advice_on_sweep(
    grid: Grid, rows: Sequence[SweepRow], chosen: Sequence[Choice], progress: ProgressCallback = silent
) -> SweepAdvice:
    """Return the advice on a sweep's rows, which are in the grid's order."""
    choice = chosen[0]
    point = grid.point(choice.index)
    name = grid.sweep.file.source
    marked = advice_on_policy(point.workload, point.costs, point.policy, name, progress)
    if marked is not None:
        marked = replace(marked, whose="marked point" if choice.fits else "nearest point")
    return SweepAdvice(marked=marked, row=choice.row, each=tuple(_each(grid, rows)))


def _each(grid: Grid, rows: Sequence[SweepRow]) -> list[SweptAdvice]:
    together: dict[tuple[Any, ...], list[SweepRow]] = {}
    for row in rows:
        together.setdefault(_others(row.axes), []).append(row)
    if len(together) == len(rows):
        return []
    groups = Groups()
    keep_all: dict[tuple[Any, ...], SweepRow] = {}
    for points in grid.without_offloading():
        # Without activation checkpointing there is nothing to advise.
        checkpointed = [point for point in points if point.policy.checkpoint]
        keep_all |= {_others(row.axes): row for row in evaluate_points(checkpointed, groups=groups)}
    return [
        advice_on_rows({key: value for key, value in own[0].axes.items() if key != HORIZON}, own, keep_all[others])
        for others, own in together.items()
        if others in keep_all
    ]


def _others(axes: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values of all axes but the horizon."""
    return tuple(axes[key] for key in sorted(axes) if key != HORIZON)
