"""What a sweep advises: on the marked point all horizons are searched, on all others the swept ones are looked at."""

from __future__ import annotations

import itertools
import time
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from loadahead.prediction import advice_on_policy
from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.sim.advice import Advice, SweptAdvice, advice_on_rows
from loadahead.sim.choice import Choice, axes_text
from loadahead.sim.errors import InputError
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.sweep import evaluate_points

if TYPE_CHECKING:
    from loadahead.sweeps.grid import Grid

HORIZON = "horizon"
# Of more combinations than these nothing is said: a step that keeps all has to be simulated for each.
MOST_COMBINATIONS = 1000
# So many of them have a sentence in a sweep's file and on its page.
MOST_SENTENCES = 12
_TOLD_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepAdvice:
    """Holds what a sweep advises.

    Attributes:
        marked: advice on the first model's best row, or on the nearest where nothing fits, over all its horizons; None
            where no horizon decides.
        row: that row.
        where: the values of its axes beside the horizon that vary, in words; empty where none does.
        each: for each of the first combinations of the axes beside the horizon, what the swept horizons say; empty
            where just one of each was swept, which says nothing of others.
        left_out: how many combinations are none of these.
    """

    marked: Advice | None
    row: SweepRow
    where: str
    each: tuple[SweptAdvice, ...]
    left_out: int = 0

    def marked_dict(self) -> dict[str, Any] | None:
        """Return the advice on the marked row as plain data, with the row's axes."""
        return None if self.marked is None else {"axes": dict(self.row.axes)} | self.marked.to_dict()

    @property
    def sentences(self) -> tuple[str, ...]:
        """Return the advice in words: on the marked row, then on the first few combinations."""
        marked = () if self.marked is None else (self.marked_sentence,)
        return (*marked, *self.each_in_words()[:MOST_SENTENCES])

    @property
    def marked_sentence(self) -> str:
        """Return the advice on the marked row in words; it begins with the row's axes where some vary."""
        sentence = "" if self.marked is None else self.marked.sentence
        return f"For {self.where}: {sentence}" if self.where else sentence

    def each_in_words(self) -> list[str]:
        """Return a sentence for each combination, which begins with the axes that differ.

        There is none for a single combination where the marked row has advice, which is of the same and says more.
        """
        if not self.each or (len(self.each) == 1 and self.marked is not None):
            return []
        varying = [key for key in self.each[0].axes if len({str(one.axes[key]) for one in self.each}) > 1]
        named = [axes_text(one.best or one.keep_all, varying or one.axes) for one in self.each]
        return [f"{name}: {one.sentence}" for name, one in zip(named, self.each, strict=True)]


def advice_on_sweep(
    grid: Grid, rows: Sequence[SweepRow], chosen: Sequence[Choice], progress: ProgressCallback = silent
) -> SweepAdvice:
    """Return the advice on a sweep's rows, which are in the grid's order."""
    choice = chosen[0]
    point = grid.point(choice.index)
    name = grid.sweep.file.source
    # Where tuning decided there is no horizon to advise on.
    marked = None
    if not point.policy.is_tuned:
        marked = advice_on_policy(point.workload, point.costs, point.policy, name, progress)
    if marked is not None:
        marked = replace(marked, whose="The marked point" if choice.fits else "The nearest point")
    varying = [axis for axis in choice.row.axes if axis != HORIZON and len({str(row.axes[axis]) for row in rows}) > 1]
    where = axes_text(choice.row, varying)
    each, left_out = _each(grid, rows, progress)
    return SweepAdvice(marked=marked, row=choice.row, where=where, each=tuple(each), left_out=left_out)


def _each(grid: Grid, rows: Sequence[SweepRow], progress: ProgressCallback) -> tuple[list[SweptAdvice], int]:
    """Return the advice on the first combinations, and how many were left out."""
    together: dict[tuple[Any, ...], list[SweepRow]] = {}
    by_horizon = [row for row in rows if not row.is_tuned]
    for row in by_horizon:
        together.setdefault(_others(row.axes), []).append(row)
    if len(together) == len(by_horizon):
        return [], 0
    chosen = dict(itertools.islice(together.items(), MOST_COMBINATIONS))
    keep_all = _keep_all(grid, chosen, progress)
    said = [
        advice_on_rows({key: value for key, value in own[0].axes.items() if key != HORIZON}, own, keep_all[others])
        for others, own in chosen.items()
        if others in keep_all
    ]
    return said, len(together) - len(chosen)


def _keep_all(
    grid: Grid, wanted: Container[tuple[Any, ...]], progress: ProgressCallback
) -> dict[tuple[Any, ...], SweepRow]:
    """Return the steps that keep all on the device, of the wanted combinations and as far as they can be simulated."""
    out: dict[tuple[Any, ...], SweepRow] = {}
    groups, began, told = Groups(), time.monotonic(), False
    for points in grid.without_offloading(wanted=lambda axes: _others(axes) in wanted):
        with suppress(InputError):  # figures that leave what 64 bits hold
            out |= {_others(row.axes): row for row in evaluate_points(points, groups=groups, prove=False)}
        if not told and time.monotonic() - began > _TOLD_SECONDS:
            told = True
            progress(Progress(f"{grid.sweep.file.source}: comparing with keeping all on the GPU"))
    return out


def _others(axes: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values of all axes but the horizon."""
    return tuple(axes[key] for key in sorted(axes) if key != HORIZON)
