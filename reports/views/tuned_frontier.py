"""Shows what each budget of memory costs in time: tuned plans, their bound, and horizons beside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loadahead.reports import run_directory
from loadahead.reports.run_data import RunData
from loadahead.reports.tables import NOTHING, Grid
from loadahead.reports.tuning_facts import FrontierFacts, Taken, TuningFacts
from loadahead.reports.views.base import Missing
from loadahead.sim.units import counted, format_bytes, format_change, format_duration

TITLE = "What each budget costs in time"
# Horizons this many times beyond all else are not drawn where they would flatten it.
_BEYOND, _FLATTENS = 1.3, 2
# A budget that is less than the least of all plans by more than this is not drawn either.
_LEFT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPlace:
    """Holds one plan: what it takes of what budgets limit, in bytes, how long its step is, in ns, and its name."""

    nbytes: int
    step_ns: int
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierStep:
    """Holds the shortest step found under one budget, the bound under it, and the best horizon that keeps it, in ns.

    ``bound_ns`` is 0 where nothing is known, ``horizon_ns`` None where no horizon keeps the budget.
    """

    budget_bytes: int
    step_ns: int
    bound_ns: int
    horizon_ns: int | None

    @property
    def gain(self) -> float:
        """Return by which share the best horizon's step is longer than the tuned one; 0.0 where there is none."""
        return 0.0 if self.horizon_ns is None or not self.step_ns else self.horizon_ns / self.step_ns - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedFrontier:
    """Holds the budgets, the least first, every horizon that is drawn, and the plans that are marked.

    Attributes:
        of_boundaries: whether budgets limit the boundaries alone.
        steps: what was found for each budget.
        front: the plans found of which no other takes less of one and no more of the other, the leanest first.
        budget_bytes: the budget that the chosen plan was tuned for; None where there is none, or it is not drawn, as
            it lies far from all else.
        far_bytes: the budget that is not drawn.
        not_drawn: how many horizons take far more of either.
    """

    of_boundaries: bool
    steps: tuple[FrontierStep, ...]
    front: tuple[FrontierPlace, ...]
    horizons: tuple[FrontierPlace, ...]
    keep_all: FrontierPlace
    chosen: FrontierPlace
    budget_bytes: int | None
    far_bytes: int | None
    not_drawn: int
    fits: bool

    @property
    def title(self) -> str:
        """Return the figure's title."""
        return f"Step time against the budget of {self.what}"

    @property
    def what(self) -> str:
        """Return what budgets limit."""
        return "boundaries" if self.of_boundaries else "device memory"

    @property
    def sentences(self) -> list[str]:
        """Return what the figure shows, in words."""
        chosen = f"{format_bytes(self.chosen.nbytes)}, {format_duration(self.chosen.step_ns)}"
        ring = "chosen plan" if self.fits else "plan that is nearest to the budget"
        parts = [*self._line(), *self._bound(), *self._beside(), f"The ring is the {ring}: {chosen}."]
        kept = f"{format_bytes(self.keep_all.nbytes)}, {format_duration(self.keep_all.step_ns)}"
        parts.append(f"At the square every boundary stays: {kept}.")
        if self.budget_bytes is not None:
            parts.append("The dotted line is the budget.")
        if self.far_bytes is not None:
            side = "left" if self.far_bytes < self.chosen.nbytes else "right"
            parts.append(f"The budget, {format_bytes(self.far_bytes)}, is to the {side} of what is drawn.")
        return parts

    def _line(self) -> list[str]:
        if not self.steps:
            return ["No plan was found for any other budget."]
        first, last = self.steps[0], self.steps[-1]
        budgets = "1 budget" if len(self.steps) == 1 else f"{len(self.steps)} budgets"
        span = format_bytes(first.budget_bytes)
        if len(self.steps) > 1:
            span += f" to {format_bytes(last.budget_bytes)}"
        # Budgets that were asked for, and those of the chosen plan and of horizons that are faster than what is below.
        return [f"The line is the shortest step found in so much memory, at {budgets} of {self.what}, {span}."]

    def _bound(self) -> list[str]:
        known = [step for step in self.steps if step.bound_ns]
        if not known:
            return []
        reached = sum(step.step_ns == step.bound_ns for step in known)
        widest = max(step.step_ns / step.bound_ns - 1 for step in known)
        said = "Below the dashed line there is no plan of this order in so much memory"
        if reached == len(known):
            return [f"{said}: every plan found reaches it."]
        most = f"plans found are at most {format_change(widest)} above it"
        return [f"{said}; {most}{f', and {reached} of {len(known)} reach it' if reached else ''}."]

    def _beside(self) -> list[str]:
        """Return how tuned plans stand beside the best horizon that keeps the same budget."""
        if not self.horizons:
            return []
        dots = f"Dots are {counted(len(self.horizons), 'horizon')}, each at what it needs"
        far = "1 that takes far more is" if self.not_drawn == 1 else f"{self.not_drawn} that take far more are"
        dots += f"; {far} not drawn." if self.not_drawn else "."
        compared = [step for step in self.steps if step.horizon_ns is not None]
        faster = [step for step in compared if step.gain > 0]
        if not compared:
            return [dots]
        slower = sum(step.gain < 0 for step in compared)
        if slower:
            return [dots, f"In {slower} of these budgets a horizon that keeps it takes less time than the tuned plan."]
        if not faster:
            return [dots, "The best horizon that keeps a budget is as fast as the tuned plan."]
        most = max(faster, key=lambda step: step.gain)
        where = "each" if len(faster) == len(self.steps) else f"{len(faster)}"
        return [
            dots,
            f"In {where} of these budgets the best horizon that keeps it takes longer than the tuned plan, by up to "
            f"{format_change(most.gain).removeprefix('+')} (at {format_bytes(most.budget_bytes)}).",
        ]

    @property
    def numbers(self) -> Grid:
        """Return the budgets as a table."""
        rows = [
            (
                format_bytes(step.budget_bytes),
                format_duration(step.step_ns),
                format_duration(step.bound_ns) if step.bound_ns else NOTHING,
                format_change(step.step_ns / step.bound_ns - 1) if step.bound_ns else NOTHING,
                NOTHING if step.horizon_ns is None else format_duration(step.horizon_ns),
                NOTHING if step.horizon_ns is None else format_change(step.gain),
            )
            for step in self.steps
        ]
        headers = (f"budget of {self.what}", "tuned step", "bound", "gap", "best horizon", "longer")
        return Grid(headers=headers, rows=tuple(rows), text_columns=frozenset())


def tuned_frontier(data: RunData) -> TunedFrontier | Missing:
    """Return the frontier of a tuned run; Missing where it was not made."""
    tuning = data.tuning
    if tuning is None:
        return Missing(title=TITLE, reason=f"there is no {run_directory.TUNING}", absent=True)
    if tuning.frontier is None:
        return Missing(title=TITLE, reason="no other budgets were tuned")
    return _of(tuning, tuning.frontier)


def _of(tuning: TuningFacts, found: FrontierFacts) -> TunedFrontier:
    of_boundaries = found.of_boundaries

    def place(one: Taken, name: str = "") -> FrontierPlace:
        return FrontierPlace(nbytes=one.peak_bytes(of_boundaries), step_ns=one.step_time_ns, name=name)

    horizons = [place(one, one.horizon_text) for one in found.horizons]
    keep_all, chosen = place(found.keep_all), place(tuning.chosen)
    # A plan that was tuned for one budget does for every other that it keeps.
    tuned = [chosen, *map(place, found.points)]
    steps = tuple(
        FrontierStep(
            budget_bytes=point.budget_bytes,
            step_ns=min([point.step_time_ns, *(one.step_ns for one in tuned if one.nbytes <= point.budget_bytes)]),
            bound_ns=point.bound_ns,
            horizon_ns=min((one.step_ns for one in horizons if one.nbytes <= point.budget_bytes), default=None),
        )
        for point in found.points
    )
    front = _front(tuned)
    others = [keep_all, *tuned]
    drawn = _near(horizons, others)
    limit = tuning.limits.boundary_bytes if of_boundaries else tuning.limits.device_bytes
    sizes = [one.nbytes for one in (*others, *drawn)]
    near = limit is not None and min(sizes) / _LEFT <= limit <= max(sizes)
    return TunedFrontier(
        of_boundaries=of_boundaries,
        steps=steps,
        front=front,
        horizons=drawn,
        keep_all=keep_all,
        chosen=chosen,
        budget_bytes=limit if near else None,
        far_bytes=None if near else limit,
        not_drawn=len(horizons) - len(drawn),
        fits=tuning.fits,
    )


def _front(plans: Iterable[FrontierPlace]) -> tuple[FrontierPlace, ...]:
    """Return the plans that are on the front of memory and time, the leanest first."""
    out: list[FrontierPlace] = []
    for one in sorted(plans, key=lambda one: (one.nbytes, one.step_ns)):
        if not out or one.step_ns < out[-1].step_ns:
            out.append(one)
    return tuple(out)


def _near(horizons: Iterable[FrontierPlace], others: Iterable[FrontierPlace]) -> tuple[FrontierPlace, ...]:
    """Return the horizons to draw: those that take far longer than all else would flatten it."""
    every = tuple(horizons)
    most = _BEYOND * max(one.step_ns for one in others)
    if max((one.step_ns for one in every), default=0) < _FLATTENS * most:
        return every
    return tuple(one for one in every if one.step_ns <= most)
