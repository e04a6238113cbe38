"""A scenario from its budget of memory to the plan that tuning chooses, with what stands beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead.arguments import costs_given, order_given
from loadahead.compiling import tells_of_compiling
from loadahead.jobs import Job, costs_of, missing_text, named, plan_tuned, prepared_of, tuned_or_nearest
from loadahead.plan_files import is_plan_file
from loadahead.prediction import predict, write_advice, write_prediction
from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.sim.choice import choices as best_rows
from loadahead.sim.choice import gpu_ns_per_microbatch
from loadahead.sim.errors import CheckFailed, InputError
from loadahead.sim.ir.plan import Plan
from loadahead.sim.shown import Shown
from loadahead.sim.step_metrics import METRIC_COLUMNS, ROOM_COLUMNS
from loadahead.sim.tuning import Frontier, Reasons, Tuning, frontier, reasons_of, sentences, tuning_to_dict
from loadahead.sim.units import counted, format_bytes, format_change, format_duration

if TYPE_CHECKING:
    import pandas as pd

    from loadahead.arguments import OrderSource
    from loadahead.scenarios.loader import Overrides, ScenarioSource
    from loadahead.scenarios.prepare import Prepared
    from loadahead.sim.costs import Costs
    from loadahead.sim.step_metrics import SweepRow
    from loadahead.sim.timeline import Timeline
    from loadahead.sim.tuning import Bound

# So many budgets a frontier has where nobody says how many.
BUDGETS = 50
MOST_BUDGETS = 1000
_FIGURES = tuple(name for name in METRIC_COLUMNS if name not in ROOM_COLUMNS)
# What makes a scenario one whose decisions tuning makes. Whether boundaries may leave at all stays what it says.
_TUNED: dict[str, Any] = {"offload.decisions": "auto"}
_MICROBATCHES, _PIPELINE = "parallel.microbatches", "parallel.pipeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """Holds what tuning found for one number of microbatches and one pipeline.

    Attributes:
        microbatches, pipeline: these.
        tuning: what it found.
    """

    microbatches: int
    pipeline: str
    tuning: Tuning

    def row(self) -> SweepRow:
        """Return the chosen plan's row, with its axes."""
        policy = self.tuning.chosen.policy
        axes = {"pipeline": self.pipeline, "microbatches": self.microbatches, "horizon": policy.horizon}
        return replace(self.tuning.chosen.row, axes=axes)

    def to_dict(self) -> dict[str, Any]:
        """Return what was tried as plain data; times are in ns, sizes in bytes."""
        row = self.row()
        return {
            "microbatches": self.microbatches,
            "pipeline": self.pipeline,
            "fits": self.tuning.fits,
            **figures(row),
            "gpu_ns_per_microbatch": gpu_ns_per_microbatch(row),
            "bound_ns": self.tuning.bound.step_time_ns,
            "missing_bytes": self.tuning.missing.total,
        }


# It has no slots, as the frontier is kept once it was asked for.
@dataclass(frozen=True, kw_only=True, repr=False)
class Tuned(Shown):
    """Holds the plan that tuning chose under a budget, or else the nearest to it, with what stands beside it.

    Attributes:
        job: the plan and where it came from.
        step: the plan's step on the simulator's clock.
        tuning: what tuning found.
        tried: every number of microbatches and pipeline that was tuned, in the order asked for.
        budgets: how many budgets the frontier has.
        progress: what is told of the frontier's making.
    """

    job: Job
    step: Timeline
    tuning: Tuning
    tried: tuple[Tried, ...]
    budgets: int = BUDGETS
    progress: ProgressCallback = silent

    def _in_a_line(self) -> str:
        """Return the scenario's name, the step's time and memory, and how far it is from the bound."""
        row = self.tuning.chosen.row
        step, peak = format_duration(row.step_time_ns), format_bytes(row.peak_device_bytes)
        if not self.fits:
            return f" of {self.job.name!r}: no plan fits; the nearest takes {step} in {peak}"
        return f" of {self.job.name!r}: step {step} in {peak}, {format_change(self.gap)} from the bound"

    @property
    def plan(self) -> Plan:
        """The plan, proven; where none keeps the budget it is the nearest."""
        return self.job.plan

    @property
    def bound(self) -> Bound:
        """What no plan of this order, model and budget is faster than."""
        return self.tuning.bound

    @property
    def gap(self) -> float:
        """The share by which the step is longer than the bound."""
        return self.tuning.gap

    @property
    def fits(self) -> bool:
        """Whether the plan keeps the budget, and the step time that was asked for."""
        return self.tuning.fits

    @property
    def missing_bytes(self) -> int:
        """How many bytes of the budget the nearest plan lacks; 0 for a plan that keeps it."""
        return self.tuning.missing.total

    @property
    def shortage(self) -> str:
        """What is missing and which change would meet it, in a line; empty for a plan that fits."""
        return missing_text(self.tuning)

    @property
    def explanation(self) -> str:
        """What left and what stayed, why, and how far from the bound that is, in sentences."""
        return " ".join(self.sentences)

    @property
    def sentences(self) -> list[str]:
        """The same sentence by sentence; those about other budgets where the frontier was made."""
        return sentences(self.tuning, self.known_frontier, self.reasons)

    @cached_property
    def reasons(self) -> Reasons:
        """Why boundaries leave, for how long, and what waits, rank by rank; made when it is first asked for."""
        prepared = self.job.known()
        assert prepared.costs is not None, "what was tuned has costs"
        return reasons_of(self.tuning, prepared.workload, prepared.costs)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about settings that do not do what they seem to."""
        return tuple(self.step.header["warnings"])

    @cached_property
    def frontier(self) -> Frontier:
        """What each budget costs in time; made when it is first asked for, as it takes up to two minutes."""
        prepared = self.job.known()
        assert prepared.costs is not None, "what was tuned has costs"
        name = self.job.name
        what = f"{name}: tuning {counted(self.budgets, 'budget')}"
        return frontier(
            prepared.workload,
            prepared.costs,
            prepared.policy.by_horizon(),
            self.tuning.goal,
            self.budgets,
            self.tuning.chosen if self.fits else None,
            lambda done, total: self.progress(Progress(what, done, total)),
        )

    @property
    def known_frontier(self) -> Frontier | None:
        """The frontier where it was made already; else None."""
        return self.__dict__.get("frontier")

    def require_fit(self) -> None:
        """Raise CheckFailed, which says what is missing, where no plan keeps the budget."""
        if not self.fits:
            raise CheckFailed(f"{self.job.name}: {self.shortage}")

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain data (DESIGN, section 4, tune), the frontier where it was made.

        Times are in ns, sizes in bytes.
        """
        row, found = self.tuning.chosen.row, tuning_to_dict(self.tuning, self.known_frontier, self.reasons)
        policy = self.job.known().policy
        return {
            "scenario": self.job.name,
            "fits": self.fits,
            **figures(row),
            "bound_ns": self.bound.step_time_ns,
            "gap": self.gap,
            "limited_by": self.bound.limited_by,
            "missing_bytes": self.missing_bytes,
            "missing": asdict(self.tuning.missing),
            "shortage": self.shortage,
            "microbatches": policy.microbatches,
            "pipeline": policy.pipeline if policy.order is None else policy.order.name,
            "tried": [one.to_dict() for one in self.tried],
            **{name: found[name] for name in _ANSWER if name in found},
            "costs": self.step.header["costs"],
            "warnings": list(self.warnings),
        }

    def to_pandas(self) -> pd.DataFrame:
        """Return the frontier, one row per budget; it is made where it was not yet.

        Columns: ``budget_bytes``, ``bound_ns``, ``gap``, then the metrics of
        :class:`loadahead.sim.step_metrics.SweepRow`; times in ns, sizes in bytes.
        """
        import pandas as pd

        rows = [
            {"budget_bytes": point.budget_bytes, "bound_ns": point.tuning.bound.step_time_ns, "gap": point.tuning.gap}
            | figures(point.tuning.chosen.row)
            for point in self.frontier.points
        ]
        return pd.DataFrame(rows, columns=["budget_bytes", "bound_ns", "gap", *_FIGURES])


# Parts of the answer that stand in a run directory's file and in the command line's JSON alike.
_ANSWER = (
    "goal",
    "limits",
    "limit_ns",
    "keep_all",
    "horizon",
    "horizons",
    "bound",
    "frontier",
    "reasons",
    "explanation",
)


def figures(row: SweepRow) -> dict[str, Any]:
    """Return a row's metrics by their names, without its axes and what it has to fit into."""
    return {name: getattr(row, name) for name in _FIGURES}


@tells_of_compiling
def tune(
    source: ScenarioSource,
    *,
    overrides: Overrides | None = None,
    memory: int | str | None = None,
    boundary_memory: int | str | None = None,
    host_memory: int | str | None = None,
    within: float | str | None = None,
    microbatches: int | Iterable[int] | None = None,
    pipelines: str | Iterable[str] | None = None,
    budgets: int = BUDGETS,
    costs: Costs | str | Path | None = None,
    order: OrderSource | None = None,
    progress: ProgressCallback | None = None,
    directory: str | Path | None = None,
) -> Tuned:
    """Choose which boundaries leave, and when, for the shortest step in so much memory; return it with a bound.

    Where no plan that was found keeps the budget, the nearest comes back and ``fits`` is False.

    Args:
        source: a scenario, as :func:`loadahead.plan` takes it.
        memory: the most that any rank's device may hold, a number of bytes or a text such as ``"60 GiB"``; None: what
            the scenario says, or else the device's memory less a reserve.
        boundary_memory: the most that any rank's boundaries may take of it.
        host_memory: the most that the slots of one host may take; None: what the scenario says of the host.
        within: a share such as ``0.01`` or ``"1 %"``: the least memory is looked for whose step is at most so much
            longer than with all kept; None: the shortest step is.
        microbatches, pipelines: one or several, each of which is tuned; the most microbatches per second and GPU count.
            None: the scenario's.
        budgets: how many the frontier has; 0 for none.
        costs: those of :func:`loadahead.simulate`; a module without costs is calibrated on this machine's CPU.
        order: that of :func:`loadahead.plan`.
        directory: a run directory that gets plan, costs, the predicted step and the answer with its frontier.
    """
    tell = progress or silent
    counts = _several("microbatches", microbatches, int)
    names = _several("pipelines", pipelines, str)
    if type(budgets) is not int or not 0 <= budgets <= MOST_BUDGETS:
        raise InputError(
            f"budgets is {budgets!r:.40}; it must be a whole number from 0 to {MOST_BUDGETS}", parameters=("budgets",)
        )
    _refuse_plan(source)
    stated = {"memory": memory, "boundary_memory": boundary_memory, "host_memory": host_memory, "within": within}
    goal = {f"offload.{key}": value for key, value in stated.items() if value is not None}
    own = {**(overrides or {}), **goal, **_TUNED}
    candidates = _prepared(source, own, counts, names, costs_given(costs), order, tell)
    tried = tuple(_tried(prepared, tell) for prepared in candidates)
    best = _best(tried)
    found = _tuned(candidates[best], tried, best, budgets, tell)
    if directory is not None:
        write_tuned(found, Path(directory))
    return found


def before_calibration(source: ScenarioSource, overrides: Overrides | None = None) -> list[str] | None:
    """Return what is to be warned of before a module is calibrated, which may take long because of it.

    None comes back for a scenario that is not calibrated.
    """
    from loadahead.scenarios.cautions import cautions, cautions_of_decisions
    from loadahead.scenarios.loader import load_scenario

    _refuse_plan(source)
    with named(source):
        scenario = load_scenario(source, {**(overrides or {}), **_TUNED})
    if scenario.costs is not None or not scenario.model.needs_shapes:
        return None
    asked = cautions_of_decisions(scenario)
    return [warning for warning in cautions(scenario) if warning not in asked]


def _refuse_plan(source: object) -> None:
    if isinstance(source, Plan) or (isinstance(source, str | Path) and is_plan_file(source) and Path(source).exists()):
        name = source.name if isinstance(source, Plan) else source
        raise InputError(f"{name}: is a plan already; give the scenario that one is to be tuned of")


def _several(name: str, given: Any, kind: type) -> tuple[Any, ...]:
    """Return one value or several as a tuple, each once; InputError for one of another type."""
    if given is None:
        return ()
    listed = [given] if isinstance(given, int | str) or not isinstance(given, Iterable) else list(given)
    for value in listed:
        if type(value) is not kind:
            what = "whole numbers" if kind is int else "names"
            raise InputError(f"{name} has the value {value!r:.40}; give one or several {what}", parameters=(name,))
    if not listed:
        raise InputError(f"{name} has no values; give at least one, or leave it out", parameters=(name,))
    return tuple(dict.fromkeys(listed))


def _prepared(
    source: ScenarioSource,
    overrides: Mapping[str, Any],
    counts: Sequence[int],
    names: Sequence[str],
    costs: Costs | Any,
    order: OrderSource | None,
    progress: ProgressCallback,
) -> list[Prepared]:
    """Return the scenario with its costs for every number of microbatches and every pipeline."""
    from loadahead.sweeps.grid import Sweep

    if order is not None:
        if counts or names:
            which = "microbatches" if counts else "pipelines"
            raise InputError(f"an order is given and {which} too; an order has its own, give one of the two")
        return [_with_order(source, overrides, costs, order, progress)]
    sweep = Sweep(source, overrides, costs, progress=progress)
    out = []
    for name in names or (None,):
        for count in counts or (None,):
            more = {_MICROBATCHES: count, _PIPELINE: name}
            prepared = sweep.prepared({key: value for key, value in more.items() if value is not None})
            with named(source):
                out.append(_with_costs(prepared, sweep.costs_of(prepared)))
    return out


def _with_costs(prepared: Prepared, costs: Costs) -> Prepared:
    """Return a prepared scenario with these costs, and what is to be said of ones that were calibrated for it."""
    from loadahead.scenarios.cautions import cautions_of_costs

    said = cautions_of_costs(prepared.scenario, costs) if prepared.costs is None else ()
    return replace(prepared, costs=costs, warnings=(*prepared.warnings, *said))


def _with_order(
    source: ScenarioSource, overrides: Mapping[str, Any], costs: Costs | Any, order: OrderSource, tell: ProgressCallback
) -> Prepared:
    prepared = prepared_of(source, overrides, costs, order=order_given(order))
    with named(source):
        return _with_costs(prepared, prepared.costs or costs_of(prepared, progress=tell))


def _tried(prepared: Prepared, progress: ProgressCallback) -> Tried:
    policy = prepared.policy
    with named(prepared.scenario.name):
        tuning = tuned_or_nearest(prepared, progress)
    name = policy.pipeline if policy.order is None else policy.order.name
    return Tried(microbatches=policy.microbatches, pipeline=name, tuning=tuning)


def _best(tried: Sequence[Tried]) -> int:
    """Return the place of the best that fits, by the rule of sweeps; where none does, of the one that lacks least."""
    fitting = [place for place, one in enumerate(tried) if one.tuning.fits]
    if not fitting:
        return min(
            range(len(tried)), key=lambda place: (tried[place].tuning.missing.total, _speed(tried[place]), place)
        )
    # They keep the budget, which is what they have to fit into here.
    rows = [replace(tried[place].row(), capacity_bytes=None, host_capacity_bytes=None) for place in fitting]
    return fitting[best_rows(rows)[0].index]


def _speed(one: Tried) -> float:
    return gpu_ns_per_microbatch(one.row())


def _tuned(prepared: Prepared, tried: tuple[Tried, ...], best: int, budgets: int, progress: ProgressCallback) -> Tuned:
    from loadahead.scenarios.cautions import cautions_of_decisions

    assert prepared.costs is not None, "what was tuned has costs"
    tuning = tried[best].tuning
    # That tuning decides was asked for here, whatever the scenario says of horizons.
    asked = cautions_of_decisions(prepared.scenario)
    job = Job(
        name=prepared.scenario.name,
        plan=plan_tuned(prepared, tuning),
        prepared=prepared,
        costs=prepared.costs,
        warnings=tuple(warning for warning in prepared.warnings if warning not in asked),
        by_horizon=False,
        tuning=tuning,
    )
    step = predict(job, prepared.costs)
    return Tuned(job=job, step=step, tuning=tuning, tried=tried, budgets=budgets, progress=progress)


def write_tuned(tuned: Tuned, directory: Path, command: Sequence[str] = ()) -> None:
    """Write plan, costs, the predicted step and the answer with its frontier into a run directory.

    The directory is made if it is not there yet. ``command`` is the command line that asked for it, where one did.
    """
    assert tuned.job.costs is not None, "what was tuned has costs"
    whole = tuned.frontier if tuned.budgets else None
    found = tuning_to_dict(tuned.tuning, whole, tuned.reasons)
    write_prediction(tuned.job, tuned.step, tuned.job.costs, directory, command, found)
    # A horizon's advice of an earlier run is none on this plan.
    write_advice(None, directory)
