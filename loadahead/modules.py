"""A scenario's module, as the executor takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadahead.sim.errors import InputError

if TYPE_CHECKING:
    from loadahead.executor.model.spec import ModelSpec
    from loadahead.scenarios.kinds.module import Module
    from loadahead.scenarios.schema import Scenario
    from loadahead.sim.costs import Costs
    from loadahead.sim.workload import ModuleShapes, Workload


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

    from loadahead.executor.model.spec import ModelSpec

    module = module_of(scenario)
    given: dict[str, Any] = {field.name: getattr(module, field.name) for field in fields(ModelSpec)}
    shape = given["input_shape"]
    return ModelSpec(**given | {"input_shape": None if shape is None else tuple(shape)})


def trace(scenario: Scenario, device: str, numbers: bool = True) -> ModuleShapes | None:
    """Return the shapes of the scenario's module; None where it has none.

    Without ``numbers`` no weights are used, where that can be done.
    """
    from loadahead.scenarios.prepare import needs_shapes

    if not needs_shapes(scenario):
        return None
    from loadahead.executor.shapes import module_shapes

    return module_shapes(model_spec(scenario), scenario.parallel.microbatches, device, numbers)


def measured_model(scenario: Scenario) -> dict[str, Any]:
    """Return what a calibrated model's times depend on, and its units do not tell."""
    module = module_of(scenario)
    keys = ("python", "dtype", "autocast", "optimizer", *(("config",) if module.config is not None else ()))
    return {key: getattr(module, key) for key in keys}


def measured_units(workload: Workload) -> dict[str, Any]:
    """Return what units a calibration measured: each one's layers and the bytes of its boundary, as [stage][unit]."""
    return {
        "layers": [[list(unit.layers) for unit in stage] for stage in workload.stages],
        "boundary_bytes": [[unit.boundary_bytes for unit in stage] for stage in workload.stages],
    }


def other_model(scenario: Scenario, workload: Workload, costs: Costs | None) -> list[str]:
    """Return a warning for each way in which costs were calibrated for another model than the scenario's."""
    if costs is None or not scenario.model.needs_shapes:
        return []
    evidence = costs.evidence.get("model")
    calibrated = evidence if isinstance(evidence, dict) else {}
    wanted = measured_model(scenario) if calibrated else {}
    out = [
        f"model.{key} is {value!r} and the costs given were calibrated with {calibrated[key]!r}: their times are not "
        "this model's; calibrate again"
        for key, value in wanted.items()
        if key in calibrated and calibrated[key] != value and not _as_built(key, value, calibrated[key])
    ]
    return [*out, *_other_units(workload, costs)]


def _as_built(key: str, *values: object) -> bool:
    """Return whether one of two values leaves the type to the model: the two may be the same, which bytes tell."""
    return key == "dtype" and None in values


def _other_units(workload: Workload, costs: Costs) -> list[str]:
    """Return a warning where costs were calibrated with other layers in a unit, or with another boundary of it.

    Data may depend on the number of microbatches, and a boundary's bytes with it.
    """
    evidence, wanted = costs.evidence.get("units"), measured_units(workload)
    for key, shown in (("layers", _layers), ("boundary_bytes", _boundary)):
        calibrated = _by_unit(evidence.get(key)) if isinstance(evidence, dict) else {}
        for (stage, unit), value in _by_unit(wanted[key]).items():
            was = calibrated.get((stage, unit), value)
            if was != value:
                return [
                    f"unit {stage}.{unit} has {shown(value)} and the costs given were calibrated with {shown(was)}: "
                    "their times and workspaces are not this scenario's; calibrate again"
                ]
    return []


def _by_unit(rows: object) -> dict[tuple[int, int], Any]:
    """Return what a list by stage and unit holds; a file may hold anything."""
    stages = rows if isinstance(rows, list) else []
    return {
        (stage, unit): value
        for stage, units in enumerate(stages)
        if isinstance(units, list)
        for unit, value in enumerate(units)
    }


def _layers(ends: object) -> str:
    match ends:
        case [int(first), int(end)] if end - first == 1:
            return f"layer {first}"
        case [int(first), int(end)]:
            return f"layers {first} to {end - 1}"
    return f"layers {ends!r:.40}"


def _boundary(nbytes: object) -> str:
    return f"a boundary of {nbytes!r:.40} bytes"
