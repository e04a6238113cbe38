"""From a scenario or a plan to a proven plan with its costs: the one place where the packages meet.

A scenario is loaded, traced where it names a module, prepared, planned and proven. A plan is read and proven; the
scenario it was made from stands in its policy, so that costs can be derived again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead.arguments import Estimate, costs_given, decisions_given, order_given, require_one_process
from loadahead.compiling import compile_first, compile_tuning_first
from loadahead.modules import measured_model, measured_units, model_spec, other_model, trace
from loadahead.plan_files import is_plan_file, read_operations, read_plan
from loadahead.progress import Progress, ProgressCallback, silent
from loadahead.sim.errors import CheckFailed, InputError
from loadahead.sim.ir.plan import Plan
from loadahead.sim.workload import IN_MEMORY

if TYPE_CHECKING:
    from loadahead.arguments import DecisionsSource, OrderSource
    from loadahead.scenarios.loader import Overrides, ScenarioSource
    from loadahead.scenarios.prepare import Preparation, Prepared
    from loadahead.scenarios.schema import Scenario
    from loadahead.sim.costs import Costs
    from loadahead.sim.ir.decisions import Decisions
    from loadahead.sim.planner import Order, Policy
    from loadahead.sim.tuning import Tuning
    from loadahead.sim.workload import ModuleShapes

# Timed runs of each operation in a calibration that is made on the way to something else.
REPEATS = 5
# Timed runs of each operation in a calibration that is asked for.
CALIBRATION_REPEATS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A proven plan and what is known about where it came from.

    Attributes:
        name: the scenario's name, or the plan's where no scenario is known.
        prepared: the scenario, ready to be planned; None for a plan that does not say its scenario.
        costs: None when there are none yet (a module that was not calibrated).
        warnings: sentences about settings that do not do what they seem to.
        by_horizon: whether a horizon decided, in the order of ``prepared.policy``; decisions may be given, too.
        undecided: whether tuning has still to decide, for which there are no times yet: the plan is none to be run
            then, and keeps all. :func:`with_costs` returns a job that is decided.
        tuning: what tuning found, where it decided for this job.
    """

    name: str
    plan: Plan
    prepared: Prepared | None
    costs: Costs | None
    warnings: tuple[str, ...] = ()
    by_horizon: bool = True
    undecided: bool = False
    tuning: Tuning | None = None

    def tuning_facts(self) -> dict[str, Any]:
        """Return the bound beside a tuned plan as plain data; nothing where tuning did not decide."""
        found = self.tuning
        if found is None:
            return {}
        return {"bound_ns": found.bound.step_time_ns, "gap": found.gap, "limited_by": found.bound.limited_by}

    def known(self) -> Prepared:
        """Return the prepared scenario; raise InputError for a plan that has none."""
        if self.prepared is None and _in_memory(self.plan.policy.get("scenario")):
            raise InputError(
                f"plan {self.name!r} was made from a model in memory, which a plan does not hold; give the scenario in "
                "its place"
            )
        if self.prepared is None:
            raise InputError(
                f"plan {self.name!r} does not say which scenario it was made from; only plans made from a scenario can "
                "be run or calibrated"
            )
        return self.prepared


def job_of(
    source: ScenarioSource | Plan,
    overrides: Overrides | None = None,
    costs: Costs | Path | str | None = None,
    device: str = "cpu",
    order: OrderSource | None = None,
    decisions: DecisionsSource | None = None,
    progress: ProgressCallback = silent,
) -> Job:
    """Return the job of a scenario, a plan file or a plan, for a device; ``costs`` stand for the scenario's own.

    They are costs, their file, or the word "estimate". A scenario whose decisions tuning makes is undecided as long as
    there are none. Raise CheckFailed where no plan that tuning found keeps the budget.

    ``order`` and ``decisions`` are those of a scenario's plan (:func:`loadahead.plan`); a plan has made its own.
    """
    if isinstance(source, Plan) or (isinstance(source, str | Path) and is_plan_file(source)):
        name = source.name if isinstance(source, Plan) else str(source)
        refuse_choices(name, None, order, decisions)
        return _job_of_plan(source if isinstance(source, Plan) else read_plan(source), name, overrides, costs, device)
    given = decisions_given(decisions)
    prepared = prepared_of(source, overrides, costs, device, order)
    with named(source):
        return job_of_prepared(prepared, given, progress)


def job_of_prepared(prepared: Prepared, decisions: Decisions | None = None, progress: ProgressCallback = silent) -> Job:
    """Plan a prepared scenario, and prove the plan; decisions stand for those of its horizon or of tuning.

    Where tuning decides, the job of a scenario without costs is undecided. Raise CheckFailed where no plan that it
    found keeps the budget.
    """
    is_tuned = decisions is None and prepared.policy.is_tuned
    if is_tuned and prepared.costs is None:
        return _undecided(prepared)
    by_horizon = decisions is None and not is_tuned
    tuning = tuned(prepared, progress) if is_tuned else None
    return Job(
        name=prepared.scenario.name,
        plan=_planned(prepared, decisions) if tuning is None else plan_tuned(prepared, tuning),
        prepared=prepared,
        costs=prepared.costs,
        warnings=_warnings(prepared, by_horizon, are_made=decisions is not None),
        by_horizon=by_horizon,
        tuning=tuning,
    )


def _undecided(prepared: Prepared) -> Job:
    """Return the job of a scenario whose decisions wait for times."""
    keeps_all = replace(prepared.policy, offload=False)
    return Job(
        name=prepared.scenario.name,
        plan=_planned(replace(prepared, policy=keeps_all), None),
        prepared=prepared,
        costs=None,
        warnings=_warnings(prepared, by_horizon=False),
        by_horizon=False,
        undecided=True,
    )


def _warnings(prepared: Prepared, by_horizon: bool, are_made: bool = False) -> tuple[str, ...]:
    """Return the prepared scenario's warnings; where no horizon decides, none about what one would.

    Of decisions that are made already, by a plan or by a user, it is no matter what would make them.
    """
    from loadahead.scenarios.cautions import cautions_of_decisions, cautions_of_sizes

    left_out = [] if by_horizon else cautions_of_sizes(prepared.policy, prepared.workload)
    left_out += cautions_of_decisions(prepared.scenario) if are_made else []
    return tuple(warning for warning in prepared.warnings if warning not in left_out)


def plan_prepared(prepared: Prepared, decisions: Decisions | None = None, progress: ProgressCallback = silent) -> Plan:
    """Return the prepared scenario's plan, proven; its policy holds the whole scenario.

    Decisions that are given stand for those of the scenario's horizon or of tuning. Where tuning decides, a module
    without costs is calibrated first; raise CheckFailed where no plan that it found keeps the budget.
    """
    job = job_of_prepared(prepared, decisions, progress)
    return with_costs(job, progress=progress)[0].plan if job.undecided else job.plan


def tuned(prepared: Prepared, progress: ProgressCallback = silent) -> Tuning:
    """Return what tuning finds for a prepared scenario whose decisions it makes.

    Raise InputError without costs, and CheckFailed where no plan that it found keeps the budget.
    """
    found = tuned_or_nearest(prepared, progress)
    if not found.fits:
        raise CheckFailed(f"{prepared.scenario.name}: {missing_text(found)}")
    return found


def missing_text(tuning: Tuning) -> str:
    """Return what the nearest plan lacks and which change would meet it, in a line; empty for a plan that fits."""
    from loadahead.sim.tuning import sentences

    # Where none fits these come first.
    return "" if tuning.fits else " ".join(sentences(tuning)[:2]).removesuffix(".")


def tuned_or_nearest(prepared: Prepared, progress: ProgressCallback = silent) -> Tuning:
    """Return the same; where no plan keeps the budget that is the nearest one. Raise InputError without costs."""
    from loadahead.sim.tuning import tune

    name, policy = prepared.scenario.name, prepared.policy
    if prepared.costs is None:
        raise times_needed(name)
    compile_tuning_first(progress)
    return tune(
        prepared.workload,
        prepared.costs,
        policy.by_horizon(),
        policy.goal,
        lambda what: progress(Progress(f"{name}: {what}")),
    )


def times_needed(name: str) -> InputError:
    """Return the error about a scenario whose decisions tuning makes, and whose times are not known."""
    return InputError(
        f'{name}: offload.decisions is "auto", and which boundaries leave follows from times, which are not known: '
        'calibrate and give the costs, or give "estimate" as costs',
        parameters=("costs",),
    )


def plan_tuned(prepared: Prepared, tuning: Tuning) -> Plan:
    """Return the plan that tuning chose for the prepared scenario, proven."""
    from loadahead.sim.tuning import sentence

    return _planned(prepared, tuning.chosen.decisions, sentence(tuning))


def _planned(prepared: Prepared, decisions: Decisions | None, sentence: str | None = None) -> Plan:
    from loadahead.scenarios.loader import scenario_to_dict
    from loadahead.sim.planner import build_plan
    from loadahead.sim.verify import check

    notes = prepared.scenario.notes
    echo = {"scenario": scenario_to_dict(prepared.scenario), **({"notes": notes.to_dict()} if notes else {})}
    # Decisions that somebody gave are not tuning's.
    theirs = decisions is not None and sentence is None
    policy = prepared.policy.by_horizon() if theirs else prepared.policy
    compile_first()
    plan = build_plan(
        prepared.workload, policy, decisions=decisions, name=prepared.scenario.name, echo=echo, sentence=sentence
    )
    check(plan)
    return plan


@contextmanager
def named(source: ScenarioSource) -> Iterator[None]:
    """Make an InputError inside say which scenario it is about."""
    try:
        yield
    except InputError as error:
        raise error.about(_name(source)) from error


def _name(source: ScenarioSource) -> str:
    """Return what errors about a scenario begin with."""
    if isinstance(source, str | Path):
        return str(source)
    name = getattr(source, "name", None) or (source.get("name") if isinstance(source, dict) else None)
    return str(name or "scenario")


def prepared_of(
    source: ScenarioSource,
    overrides: Overrides | None = None,
    costs: Costs | Path | str | None = None,
    device: str = "cpu",
    order: OrderSource | None = None,
) -> Prepared:
    """Return a scenario with its overrides, ready to be planned; an order stands for the scenario's own."""
    from loadahead.scenarios.loader import load_scenario

    if isinstance(source, str | Path) and is_plan_file(source) and os.path.exists(source):
        raise InputError(f"{source}: is a plan already; give the scenario that one is to be made of")
    given, own = costs_given(costs), order_given(order)
    if isinstance(own, str):
        overrides, own = {**(overrides or {}), "parallel.pipeline": own}, None
    with named(source):
        return prepare_scenario(load_scenario(source, overrides), given, device, order=own)


def uncalibrated(source: ScenarioSource, overrides: Overrides | None = None, device: str = "cpu") -> Prepared:
    """Return a scenario to be calibrated: the costs file that it names need not be there yet."""
    from loadahead.scenarios.loader import load_scenario

    with named(source):
        scenario = load_scenario(source, overrides)
        return prepare_scenario(scenario.with_costs(None), None, device)


def with_choice(scenario: Scenario, costs: Costs | Estimate | None) -> tuple[Scenario, Costs | None]:
    """Return the scenario beside costs that stand for its own, and these: an estimate is asked for in the scenario."""
    from loadahead.sim.costs import ESTIMATE

    if isinstance(costs, str):
        return scenario.with_costs(ESTIMATE), None
    if costs is not None and scenario.is_estimated:
        return scenario.with_costs(None), costs
    return scenario, costs


def prepare_scenario(
    scenario: Scenario,
    costs: Costs | Estimate | None = None,
    device: str = "cpu",
    stages: int | None = None,
    preparation: Preparation | None = None,
    order: Order | None = None,
    placement: tuple[int, ...] | None = None,
    shapes: ModuleShapes | None = None,
) -> Prepared:
    """Make workload, policy and, where they are known, costs; trace a module whose shapes are not given on the device.

    Costs that are given, or the word "estimate", stand for the scenario's own.

    ``stages`` is how many stages the model is cut into, ``placement`` the rank of each; None: those of the order given,
    or else one for each rank. ``preparation`` keeps what scenarios agree on that are prepared one after another.
    ``order`` stands for the scenario's own.
    """
    from loadahead.scenarios.cautions import cautions_of_costs
    from loadahead.scenarios.prepare import Preparation
    from loadahead.scenarios.tables import policy_of

    if order is not None:
        # Whether they go together is known before the model is traced and cut.
        replace(policy_of(scenario.parallel, scenario.checkpoint, scenario.offload), order=order)
        stages = order.stages if stages is None else stages
        placement = tuple(order.stage_rank.tolist()) if placement is None else placement
    preparation = preparation or Preparation()
    scenario, given = with_choice(scenario, costs)
    known = given or named_costs(scenario)
    found = shapes or preparation.shapes(scenario, lambda: _traced(scenario, device))
    prepared = preparation.prepare(
        scenario, shapes=found, costs=known, stages=stages, placement=placement, physical=has_own_links(device)
    )
    estimated = prepared.costs if scenario.has_estimated_times else None
    of_costs = (
        *other_model(scenario, prepared.workload, known),
        *cautions_of_costs(scenario, known or estimated, found),
    )
    more = (*of_costs, *_without_cap(scenario, order))
    if not more and order is None:
        return prepared
    return replace(prepared, policy=replace(prepared.policy, order=order), warnings=(*prepared.warnings, *more))


def _traced(scenario: Scenario, device: str) -> ModuleShapes | None:
    """Return the shapes of the scenario's module; where its times are estimated it is not run, if it can be told so.

    The GPU that the estimate is for may have room for a model that would be slow here. Its workspaces are known too.
    """
    return trace(scenario, device, numbers=not scenario.is_estimated)


def has_own_links(device: str) -> bool:
    """Return whether a device's links are its own, rather than emulated as a scenario states them."""
    return device != "cpu"


def _without_cap(scenario: Scenario, order: Order | None) -> list[str]:
    """Return a warning where an order is given and the scenario caps the microbatches of its own."""
    active = scenario.parallel.active_microbatches
    if order is None or active is None:
        return []
    return [f"parallel.active_microbatches = {active} has no effect: order {order.name!r} is given as such"]


def named_costs(scenario: Scenario) -> Costs | None:
    """Return the costs of the file that the scenario names; None where it names none."""
    from loadahead.sim.costs import load_costs

    return None if scenario.costs is None or scenario.is_estimated else load_costs(scenario.costs)


def with_costs(
    job: Job,
    repeats: int = REPEATS,
    device: str = "cpu",
    deterministic: bool = True,
    progress: ProgressCallback = silent,
) -> tuple[Job, Costs]:
    """Return the job with costs, and these: its own, or else calibrated now on the device, which is reported.

    A job that was undecided is decided now: its plan is tuned to the costs.
    """
    from loadahead.scenarios.cautions import cautions_of_costs
    from loadahead.scenarios.links import with_stated_links
    from loadahead.scenarios.placement import placement_of

    if job.costs is not None:
        return job, job.costs
    prepared = job.known()
    progress(Progress(f"{job.name} gives no costs: calibrating on this {device}"))
    measured = calibrate_prepared(prepared, repeats, device, deterministic)
    scenario = prepared.scenario
    placement = placement_of(scenario.parallel, scenario.hardware)
    costs, said = with_stated_links(measured, scenario.hardware, placement, physical=has_own_links(device))
    warnings = (*job.warnings, *said, *cautions_of_costs(prepared.scenario, costs))
    known = replace(prepared, costs=costs)
    if job.undecided:
        with named(job.name):
            tuning = tuned(known, progress)
            job = replace(job, plan=plan_tuned(known, tuning), undecided=False, tuning=tuning)
    return replace(job, prepared=known, costs=costs, warnings=warnings), costs


def costs_of(prepared: Prepared, device: str = "cpu", progress: ProgressCallback = silent) -> Costs:
    """Return a prepared scenario's costs: its own, or else calibrated now on the device, which is reported."""
    # Tuning needs the costs that may be measured here.
    job = job_of_prepared(replace(prepared, policy=prepared.policy.by_horizon()))
    return with_costs(job, device=device, progress=progress)[1]


def calibrate_prepared(
    prepared: Prepared, repeats: int = REPEATS, device: str = "cpu", deterministic: bool = True
) -> Costs:
    """Measure the prepared scenario's units on this machine, and return their costs.

    Links are the scenario's where the device emulates them, shared ones included. ``deterministic``: measure the
    kernels of runs whose gradients are checked.
    """
    from loadahead.executor.calibration import calibrate
    from loadahead.executor.links import Hardware

    require_one_process()
    measured = calibrate(
        prepared.workload,
        model_spec(prepared.scenario),
        hardware=Hardware(**prepared.scenario.hardware.links()),
        device=device,
        repeats=repeats,
        checkpoint=prepared.policy.checkpoint,
        deterministic=deterministic,
        microbatches=prepared.policy.microbatches,
    )
    facts = {
        "model": measured_model(prepared.scenario),
        "units": measured_units(prepared.workload),
        "microbatches": prepared.policy.microbatches,
    }
    shared = measured.shared or prepared.scenario.hardware.shared()
    return measured.model_copy(update={"shared": shared, "evidence": facts | measured.evidence})


def plan_of(
    source: ScenarioSource | Plan, overrides: Overrides | None = None, progress: ProgressCallback = silent
) -> tuple[Plan, tuple[str, ...]]:
    """Return just the plan, and the warnings: a plan file is read but not proven, whatever its decisions say."""
    if isinstance(source, Plan):
        _refuse_overrides(source.name, overrides)
        return source, ()
    if isinstance(source, str | Path) and is_plan_file(source):
        _refuse_overrides(str(source), overrides)
        plan, disagreement = read_operations(source)
        return plan, () if disagreement is None else (str(disagreement),)
    prepared = prepared_of(source, overrides)
    with named(source):
        return plan_prepared(prepared, progress=progress), prepared.warnings


def _job_of_plan(
    plan: Plan, name: str, overrides: Overrides | None, costs: Costs | Path | str | None, device: str
) -> Job:
    from loadahead.scenarios.loader import scenario_from_dict
    from loadahead.scenarios.notes import Notes
    from loadahead.sim.verify import check

    _refuse_overrides(name, overrides)
    compile_first()
    check(plan)
    given = costs_given(costs)
    echo = plan.policy.get("scenario")
    if not isinstance(echo, dict) or _in_memory(echo):
        known = None if isinstance(given, str) else given
        if known is None and _in_memory(echo):
            raise InputError(
                f"{name}: was made from a model in memory, which a plan does not hold; give a costs file to predict "
                "it, or the scenario in its place",
                parameters=("costs",),
            )
        if known is None:
            raise InputError(
                f"{name}: does not say its scenario, so its costs are not known; give a costs file",
                parameters=("costs",),
            )
        return Job(name=plan.name, plan=plan, prepared=None, costs=known)
    with named(name):
        scenario = scenario_from_dict(echo, f"{name}: policy.scenario")
        if "notes" in plan.policy:
            scenario = scenario.with_notes(Notes.from_dict(plan.policy["notes"]))
        placement = tuple(plan.stage_rank.tolist()) or None
        prepared = prepare_scenario(scenario, given, device, len(plan.stage_rank) or None, placement=placement)
        policy = _policy_of(plan, prepared.policy)
    by_horizon = policy is not None and "horizon" in plan.policy
    return Job(
        name=prepared.scenario.name,
        plan=plan,
        prepared=prepared if policy is None else replace(prepared, policy=policy),
        costs=prepared.costs,
        warnings=_warnings(prepared, by_horizon, are_made=not by_horizon),
        by_horizon=by_horizon,
    )


def _policy_of(plan: Plan, policy: Policy) -> Policy | None:
    """Return the scenario's policy with the plan's own order; None for a plan whose tasks are in no order of passes."""
    from loadahead.sim.planner import order_of

    order = order_of(plan)
    if order is None:
        return None
    same = (order.ranks, order.microbatches) == (policy.ranks, policy.microbatches)
    if same and order.same_passes(policy.make_order()):
        return policy
    return replace(policy, order=order, ranks=order.ranks, microbatches=order.microbatches)


def _in_memory(echo: Any) -> bool:
    """Return whether a plan's scenario had a model in memory, which the plan cannot hold."""
    model = echo.get("model") if isinstance(echo, dict) else None
    return isinstance(model, dict) and model.get("python") == IN_MEMORY


def refuse_choices(
    name: str, overrides: Overrides | None, order: OrderSource | None, decisions: DecisionsSource | None
) -> None:
    """Raise InputError where something is given beside a plan that it has made its own choice of."""
    if order is not None or decisions is not None:
        raise InputError(
            f"{name}: is a plan, whose order and decisions are made; plan its scenario anew with others",
            parameters=("order", "decisions"),
        )
    _refuse_overrides(name, overrides)


def _refuse_overrides(name: str, overrides: Overrides | None) -> None:
    for key in overrides or {}:
        raise InputError(
            f"{key}: {name} is a plan, whose choices are made; override the scenario's keys and plan anew",
            parameters=("overrides",),
        )
