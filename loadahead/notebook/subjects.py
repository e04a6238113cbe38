"""Says of each result what its figures are made of, and which of them stands for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead.reports.run_data import RunData, load_run
from loadahead.reports.tuning_facts import TuningFacts
from loadahead.sim.errors import InputError
from loadahead.sim.tuning import tuning_to_dict

if TYPE_CHECKING:
    from loadahead.api import SweepTable
    from loadahead.runs import Run
    from loadahead.sim.costs import Costs
    from loadahead.sim.ir.plan import Plan
    from loadahead.sim.timeline import Timeline
    from loadahead.training import TrainingStep
    from loadahead.tuning import Tuned


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Holds what a result's figures are made of.

    Attributes:
        what: the result in a message, e.g. ``"a plan"``.
        figures: the names of those that a notebook shows of it, the main one first.
    """

    data: RunData
    what: str
    figures: tuple[str, ...]


_OF_A_STEP = ("memory", "gantt")
_OF_A_SWEEP = ("front",)


def _plan(plan: Plan) -> Subject:
    what = "a plan, which holds no times (simulate it, and plot the timeline),"
    return Subject(data=RunData(plan=plan), what=what, figures=("order",))


def _costs(costs: Costs) -> Subject:
    return Subject(data=RunData(costs=costs), what="a set of costs", figures=("units",))


def _timeline(timeline: Timeline) -> Subject:
    predicted, measured = (None, timeline) if timeline.is_measured else (timeline, None)
    data = RunData(plan=timeline.plan, predicted=predicted, measured=measured)
    return Subject(data=data, what="a timeline", figures=_OF_A_STEP)


def _sweep(table: SweepTable) -> Subject:
    advice = None if table.advice is None else table.advice.sentence
    data = RunData(sweep=table.rows, facts=table.facts, advice=advice)
    return Subject(data=data, what="a sweep's table", figures=_OF_A_SWEEP)


def _run(run: Run) -> Subject:
    data = RunData(plan=run.job.plan, costs=run.costs, predicted=run.predicted, measured=run.measured)
    return Subject(data=data, what="a run", figures=_OF_A_STEP)


def _training(step: TrainingStep) -> Subject:
    """Return its plan and its last measured step, where there are any yet; a prediction would be made anew."""
    plan = measured = None
    with suppress(InputError):
        plan = step.plan
        measured = step.measured
    figures = _OF_A_STEP if measured is not None else ("order",)
    return Subject(data=RunData(plan=plan, measured=measured), what="a training step", figures=figures)


def _tuned(tuned: Tuned) -> Subject:
    found = tuning_to_dict(tuned.tuning, tuned.known_frontier, tuned.reasons)
    # As a run directory's file has it.
    facts = TuningFacts.model_validate_json(json.dumps(found))
    data = RunData(plan=tuned.plan, costs=tuned.job.costs, predicted=tuned.step, tuning=facts)
    first = ("tuned_frontier",) if facts.frontier is not None else ()
    return Subject(data=data, what="a tuned plan", figures=(*first, "tuned_boundaries", "memory"))


# Results by module and class. These are imported by whoever has a result, and not here: a run's needs torch.
_SUBJECTS: dict[str, Callable[[Any], Subject]] = {
    "loadahead.sim.ir.plan.Plan": _plan,
    "loadahead.sim.costs.Costs": _costs,
    "loadahead.sim.timeline.Timeline": _timeline,
    "loadahead.api.SweepTable": _sweep,
    "loadahead.runs.Run": _run,
    "loadahead.training.TrainingStep": _training,
    "loadahead.tuning.Tuned": _tuned,
}


def class_name(value: object) -> str:
    """Return the full name of a value's class."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def subject_of(result: object) -> Subject | None:
    """Return what a result's figures are made of; None where it has none."""
    make = _SUBJECTS.get(class_name(result))
    return None if make is None else make(result)


def subject_at(directory: str | Path) -> Subject:
    """Return what the figures of a run directory are made of; InputError where it is none."""
    data = load_run(directory)
    has_step = data.predicted is not None or data.measured is not None
    first, second = (_OF_A_STEP, _OF_A_SWEEP) if has_step else (_OF_A_SWEEP, _OF_A_STEP)
    return Subject(data=data, what=f"{directory}", figures=(*first, *second))
