"""A scenario is turned into what the planner and the engines take: workload, policy, costs, and warnings."""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.scenarios.advice import advice
from loadahead.scenarios.kinds import Units
from loadahead.scenarios.layers import unit_cost, unit_shape
from loadahead.scenarios.schema import Scenario
from loadahead.scenarios.tables import policy_of
from loadahead.sim.costs import Costs
from loadahead.sim.planner import Policy, require_few_tasks
from loadahead.sim.units import format_bytes, format_rate
from loadahead.sim.workload import ModuleShapes, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Holds a scenario that is ready to be planned; ``costs`` is None for a module that was not calibrated."""

    scenario: Scenario
    workload: Workload
    policy: Policy
    costs: Costs | None
    warnings: tuple[str, ...] = ()


def needs_shapes(scenario: Scenario) -> bool:
    """Return whether the scenario's model is a module, which has to be traced first."""
    return scenario.model.needs_shapes


def prepare(
    scenario: Scenario,
    shapes: ModuleShapes | None = None,
    costs: Costs | None = None,
    *,
    stages: int | None = None,
) -> Prepared:
    """Cut the model into units and stages, and derive costs unless some are given.

    Args:
        shapes: layers of the traced module, where :func:`needs_shapes` is true.
        costs: calibrated costs, which replace the scenario's own, links included.
        stages: how many stages the model is cut into; None: one for each rank.

    Raise InputError where the tables do not go together, and for more tasks than can be planned.
    """
    setting = scenario.setting(shapes, stages)
    # The check comes before the units are made, as there may be billions.
    require_few_tasks(scenario.parallel.microbatches, scenario.model.units_known(setting.stages))
    units = scenario.model.units(setting)
    return Prepared(
        scenario=scenario,
        workload=Workload(stages=tuple(tuple(map(unit_shape, stage)) for stage in units)),
        policy=policy_of(scenario.parallel, scenario.checkpoint, scenario.offload),
        costs=_costs(scenario, units) if costs is None else costs,
        warnings=(*advice(scenario), *([] if costs is None else _other_links(scenario, costs))),
    )


def _costs(scenario: Scenario, units: Units) -> Costs | None:
    unit_costs = [[unit_cost(layers, scenario.checkpoint.enabled) for layers in stage] for stage in units]
    known = tuple(tuple(cost for cost in stage if cost is not None) for stage in unit_costs)
    if any(len(some) != len(stage) for some, stage in zip(known, unit_costs, strict=True)):
        return None
    stages = [[layer for unit in stage for layer in unit] for stage in units]
    return Costs(
        units=known,
        static_bytes=tuple(sum(layer.static_bytes for layer in stage) for stage in stages),
        optimizer_ns=tuple(sum(layer.optimizer_ns for layer in stage) for stage in stages),
        launch_ns=scenario.hardware.launch,
        launch_by_kind=scenario.hardware.launch_by_kind,
        shared=scenario.hardware.shared(),
        **scenario.hardware.links(),
    )


def _other_links(scenario: Scenario, costs: Costs) -> list[str]:
    """Warn where the scenario's links differ from those of the costs given, which replace them."""
    links = scenario.hardware.links()
    out = []
    for name, show in (("d2h_bandwidth", format_rate), ("h2d_bandwidth", format_rate), ("memory_bytes", format_bytes)):
        of_costs = getattr(costs, name)
        if links[name] != of_costs:
            key = name.partition("_")[0]
            out.append(
                f"hardware.{key} = {show(links[name])} has no effect: the costs given are those of {show(of_costs)}; "
                "calibrate again to change it"
            )
    if (shared := scenario.hardware.shared()) is not None and shared != costs.shared:
        keys = ", ".join(f"hardware.{name}" for name in sorted(shared.model_fields_set))
        out.append(f"{keys} has no effect: the costs given share links in their own way; calibrate again to change it")
    written = scenario.hardware.model_fields_set
    if "launch" in written and scenario.hardware.launch != costs.launch_ns:
        out.append(_unused("launch", "hold what the host takes to issue an operation"))
    if "launch_by_kind" in written and scenario.hardware.launch_by_kind != costs.launch_by_kind:
        out.append(_unused("launch_by_kind", "hold what the host takes to issue an operation"))
    return out


def _unused(key: str, why: str) -> str:
    return f"hardware.{key} has no effect: the costs given {why}; calibrate again to change it"
