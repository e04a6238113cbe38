"""A scenario's module, as the executor takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadahead.sim.errors import InputError

if TYPE_CHECKING:
    from loadahead.executor.spec import ModelSpec
    from loadahead.scenarios.kinds.module import Module
    from loadahead.scenarios.schema import Scenario
    from loadahead.sim.costs import Costs
    from loadahead.sim.workload import ModuleShapes


def module_of(scenario: Scenario) -> Module:
    """Return the scenario's module; raise InputError when its model is of another kind."""
    from loadahead.scenarios.kinds.module import Module

    if not isinstance(scenario.model, Module):
        raise InputError(
            f'scenario {scenario.name!r} has a model of kind "{scenario.model.kind}", which has no tensors to run; '
            'use one of kind "module", e.g. the scenario demo'
        )
    return scenario.model


def model_spec(scenario: Scenario) -> ModelSpec:
    """Return what the executor has to know about the scenario's model; raise InputError when it names no module."""
    from dataclasses import fields

    from loadahead.executor.spec import ModelSpec

    module = module_of(scenario)
    given: dict[str, Any] = {field.name: getattr(module, field.name) for field in fields(ModelSpec)}
    in_memory = module.objects is not None and module.objects.layers is not None
    if in_memory and "dtype" not in module.model_fields_set:
        given["dtype"] = None  # the caller's model stays as it is
    shape = given["input_shape"]
    return ModelSpec(**given | {"input_shape": None if shape is None else tuple(shape)})


def trace(scenario: Scenario, device: str) -> ModuleShapes | None:
    """Return the shapes of the scenario's module; None where it has none."""
    from loadahead.scenarios.prepare import needs_shapes

    if not needs_shapes(scenario):
        return None
    from loadahead.executor.trace import trace_module

    return trace_module(model_spec(scenario), microbatches=scenario.parallel.microbatches, device=device)


def measured_model(scenario: Scenario) -> dict[str, Any]:
    """Return what a calibrated model's times depend on, and its shapes do not tell."""
    module = module_of(scenario)
    return {key: getattr(module, key) for key in ("python", "dtype", "autocast", "optimizer")}


def other_model(scenario: Scenario, costs: Costs | None) -> list[str]:
    """Return a warning for each way in which costs were calibrated for another model than the scenario's."""
    calibrated = {} if costs is None or not scenario.model.needs_shapes else costs.evidence.get("model", {})
    wanted = measured_model(scenario) if calibrated else {}
    return [
        f"model.{key} is {value!r} and the costs given were calibrated with {calibrated[key]!r}: their times are not "
        "this model's; calibrate again"
        for key, value in wanted.items()
        if key in calibrated and calibrated[key] != value
    ]
