"""From what stands on the command line to a plan with its costs: the one place where the packages meet.

A SCENARIO is loaded, traced where it names a module, prepared, planned and proven. A PLAN is read and proven; the
scenario it was made from stands in its policy, so that costs can be derived again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadahead.cli.output import note
from loadahead.plan_files import is_plan_file, read_plan
from loadahead.sim.errors import InputError

if TYPE_CHECKING:
    from loadahead.executor.spec import ModelSpec
    from loadahead.scenarios.kinds.module import Module
    from loadahead.scenarios.prepare import Prepared
    from loadahead.scenarios.schema import Scenario
    from loadahead.sim.costs import Costs
    from loadahead.sim.ir.plan import Plan
    from loadahead.sim.workload import ModuleShapes

# Timed runs of each operation in a calibration that a command makes by itself.
REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A proven plan and what is known about where it came from.

    Attributes:
        name: of the scenario, or of the plan where no scenario is known.
        prepared: None for a plan file that does not say its scenario.
        costs: None when there are none yet (a module that was not calibrated).
    """

    name: str
    plan: Plan
    prepared: Prepared | None
    costs: Costs | None
    warnings: tuple[str, ...] = ()

    def known(self) -> Prepared:
        """The scenario; InputError for a plan that has none."""
        if self.prepared is None:
            raise InputError(
                f"plan {self.name!r} does not say which scenario it was made from; only plans made by "
                "`loadahead plan SCENARIO -o` can be run or calibrated"
            )
        return self.prepared


def job_of(argument: str, overrides: Sequence[str], costs_file: Path | None = None, device: str = "cpu") -> Job:
    """The job that a SCENARIO|PLAN argument names, for a device."""
    if is_plan_file(argument):
        return _job_of_plan(argument, overrides, costs_file, device)
    prepared = prepared_of(argument, overrides, costs_file, device)
    with named(argument):
        return job_of_prepared(prepared)


def job_of_prepared(prepared: Prepared) -> Job:
    """Plan a prepared scenario, and prove the plan."""
    plan = plan_prepared(prepared)
    return Job(
        name=prepared.scenario.name, plan=plan, prepared=prepared, costs=prepared.costs, warnings=prepared.warnings
    )


def plan_prepared(prepared: Prepared) -> Plan:
    """The prepared scenario's plan, proven; its policy holds the whole scenario."""
    from loadahead.scenarios.loader import scenario_to_dict
    from loadahead.sim.planner import build_plan
    from loadahead.sim.verify import check

    echo = {"scenario": scenario_to_dict(prepared.scenario)}
    plan = build_plan(prepared.workload, prepared.policy, name=prepared.scenario.name, echo=echo)
    check(plan)
    return plan


@contextmanager
def named(source: str) -> Iterator[None]:
    """An InputError inside says which scenario it is about."""
    try:
        yield
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(source) else f"{source}: {message}") from error


def prepared_of(
    argument: str, overrides: Sequence[str], costs_file: Path | None = None, device: str = "cpu"
) -> Prepared:
    """A scenario by name or path, with its overrides, ready to be planned."""
    from loadahead.scenarios.loader import load_scenario
    from loadahead.sim.costs import load_costs

    costs = load_costs(costs_file) if costs_file is not None else None
    with named(argument):
        return prepare_scenario(load_scenario(argument, overrides), costs, device)


def uncalibrated(argument: str, overrides: Sequence[str], device: str) -> Prepared:
    """A scenario to be calibrated: the costs file that it names need not be there yet."""
    from loadahead.scenarios.loader import load_scenario

    with named(argument):
        scenario = load_scenario(argument, overrides)
        return prepare_scenario(scenario.model_copy(update={"costs": None}), None, device)


def prepare_scenario(scenario: Scenario, costs: Costs | None = None, device: str = "cpu") -> Prepared:
    """Trace the module on the device, where there is one; make workload, policy and, where they are known, costs."""
    from loadahead.scenarios.prepare import prepare

    known = costs or named_costs(scenario)
    prepared = prepare(scenario, shapes=trace(scenario, device), costs=known)
    return replace(prepared, warnings=(*prepared.warnings, *_other_model(scenario, known)))


def named_costs(scenario: Scenario) -> Costs | None:
    """The costs of the file that the scenario names; None where it names none."""
    from loadahead.sim.costs import load_costs

    return None if scenario.costs is None else load_costs(scenario.costs)


def trace(scenario: Scenario, device: str) -> ModuleShapes | None:
    """The shapes of the scenario's module; None where it has none."""
    from loadahead.scenarios.prepare import needs_shapes

    if not needs_shapes(scenario):
        return None
    from loadahead.executor.trace import trace_module

    return trace_module(model_spec(scenario), microbatches=scenario.parallel.microbatches, device=device)


def module_of(scenario: Scenario) -> Module:
    """The scenario's module; InputError when its model is of another kind."""
    from loadahead.scenarios.kinds.module import Module

    if not isinstance(scenario.model, Module):
        raise InputError(
            f'scenario {scenario.name!r} has a model of kind "{scenario.model.kind}", which has no tensors to run; '
            'use one of kind "module", e.g. `loadahead execute demo`'
        )
    return scenario.model


def model_spec(scenario: Scenario) -> ModelSpec:
    """What the executor has to know about the scenario's model; InputError when it names no module."""
    from dataclasses import fields

    from loadahead.executor.spec import ModelSpec

    module = module_of(scenario)
    given: dict[str, Any] = {field.name: getattr(module, field.name) for field in fields(ModelSpec)}
    shape = given["input_shape"]
    return ModelSpec(**given | {"input_shape": None if shape is None else tuple(shape)})


def with_costs(job: Job, repeats: int = REPEATS, device: str = "cpu", deterministic: bool = True) -> tuple[Job, Costs]:
    """The job with costs: its own, or else calibrated now on the device, which is said on stderr."""
    if job.costs is not None:
        return job, job.costs
    prepared = job.known()
    note(f"{job.name} gives no costs: calibrating on this {device} (keep them with `loadahead calibrate -o`, --costs)")
    costs = calibrate_prepared(prepared, repeats, device, deterministic)
    return replace(job, prepared=replace(prepared, costs=costs), costs=costs), costs


def calibrate_prepared(
    prepared: Prepared, repeats: int = REPEATS, device: str = "cpu", deterministic: bool = True
) -> Costs:
    """Measure the prepared scenario's units on this machine.

    Links are the scenario's where the device emulates them, shared ones included. ``deterministic``: with the kernels
    of runs whose gradients are checked.
    """
    from loadahead.executor.calibration import calibrate
    from loadahead.executor.links import Hardware

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
    facts = {"model": _measured_model(prepared.scenario)}
    shared = measured.shared or prepared.scenario.hardware.shared()
    return measured.model_copy(update={"shared": shared, "evidence": facts | measured.evidence})


def _measured_model(scenario: Scenario) -> dict[str, Any]:
    """What a calibrated model's times depend on, and its shapes do not tell."""
    module = module_of(scenario)
    return {key: getattr(module, key) for key in ("python", "dtype", "autocast", "optimizer")}


def _other_model(scenario: Scenario, costs: Costs | None) -> list[str]:
    """Said where costs were calibrated for a model of another kind of numbers."""
    found = {} if costs is None or not scenario.model.needs_shapes else costs.evidence.get("model", {})
    ours = _measured_model(scenario) if found else {}
    return [
        f"model.{key} is {value!r} and the costs given were calibrated with {found[key]!r}: their times are not this "
        "model's; calibrate again"
        for key, value in ours.items()
        if key in found and found[key] != value
    ]


def plan_of(argument: str, overrides: Sequence[str]) -> tuple[Plan, tuple[str, ...]]:
    """Just the plan, and the warnings: a plan file is read but not proven."""
    if is_plan_file(argument):
        _no_overrides(argument, overrides)
        return read_plan(argument), ()
    prepared = prepared_of(argument, overrides)
    with named(argument):
        return plan_prepared(prepared), prepared.warnings


def _job_of_plan(path: str, overrides: Sequence[str], costs_file: Path | None, device: str) -> Job:
    from loadahead.scenarios.loader import scenario_from_dict
    from loadahead.sim.costs import load_costs
    from loadahead.sim.verify import check

    _no_overrides(path, overrides)
    plan = read_plan(path)
    check(plan)
    costs = load_costs(costs_file) if costs_file is not None else None
    echo = plan.policy.get("scenario")
    if not isinstance(echo, dict):
        if costs is None:
            raise InputError(f"{path}: does not say its scenario, so its costs are not known; give --costs costs.json")
        return Job(name=plan.name, plan=plan, prepared=None, costs=costs)
    with named(path):
        prepared = prepare_scenario(scenario_from_dict(echo, f"{path}: policy.scenario"), costs, device)
    return Job(
        name=prepared.scenario.name, plan=plan, prepared=prepared, costs=prepared.costs, warnings=prepared.warnings
    )


def _no_overrides(path: str, overrides: Sequence[str]) -> None:
    if overrides:
        raise InputError(
            f"--set {overrides[0]}: {path} is a plan, whose choices are made; use --set with the scenario and plan anew"
        )


def require_device(device: str) -> None:
    """InputError, before any work is done, when there is no backend or no device of that name."""
    from loadahead.executor.backends import torch_device

    try:
        torch_device(device)
    except InputError as error:
        raise InputError(f"--{error}") from error
