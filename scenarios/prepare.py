"""A scenario is turned into what the planner and the engines take: workload, policy, costs, and warnings."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from loadahead.scenarios.cautions import cautions_beside_model, cautions_of_sizes
from loadahead.scenarios.estimates import counted_source, estimate_source
from loadahead.scenarios.kept import Kept
from loadahead.scenarios.kinds import Setting
from loadahead.scenarios.layers import Units
from loadahead.scenarios.links import with_stated_links
from loadahead.scenarios.parts import PartsOfModels
from loadahead.scenarios.placement import placement_of
from loadahead.scenarios.schema import Scenario
from loadahead.scenarios.tables import policy_of
from loadahead.sim.costs import Costs
from loadahead.sim.planner import Policy, require_few_tasks
from loadahead.sim.work import NOT_COUNTED, Work
from loadahead.sim.workload import ModuleShapes, Workload

# As many costs are kept as an axis of a sweep may have values, each a kilobyte or two beside its units.
MOST_COSTS = 10_000
# What a model's own costs and its links are put into; without units they are no costs yet.
_NO_COSTS = Costs.model_construct(units=(), static_bytes=(), d2h_bandwidth=1, h2d_bandwidth=1, memory_bytes=1)
# A traced module takes some kilobytes.
MOST_TRACED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Holds a scenario that is ready to be planned.

    Attributes:
        costs: None for a module that was not calibrated.
        units: the model's layers, and how they make its units and stages; the workload and the costs are made of them.
        static_bytes: each stage's weights, gradients and optimizer state, as the model's layers have them.
        work: what a microbatch is.
        warnings: sentences about settings that do not do what they seem to.
    """

    scenario: Scenario
    workload: Workload
    policy: Policy
    costs: Costs | None
    units: Units = field(compare=False, repr=False)
    static_bytes: tuple[int, ...] = ()
    work: Work = NOT_COUNTED
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
    placement: tuple[int, ...] | None = None,
    physical: bool = False,
) -> Prepared:
    """Cut the model into units and stages, and derive costs unless some are given.

    Args:
        shapes: layers of the traced module, where :func:`needs_shapes` is true.
        costs: costs that stand for the scenario's own, but for the links that it states (scenarios/links.py).
        stages: how many stages the model is cut into; None: one for each rank.
        placement: the rank of each of these stages; None: each is on a rank of its own.
        physical: links are those of the device that the costs were measured on, whatever the scenario states.

    Raise InputError where the tables do not go together, and for more tasks than can be planned.
    """
    return Preparation().prepare(scenario, shapes, costs, stages=stages, placement=placement, physical=physical)


class Preparation:
    """Prepares many scenarios as :func:`prepare` does one; what they agree on is made once and is one object in all.

    Scenarios that share their table ``model`` and differ in links have the same workload and the same ``costs.units``.
    """

    def __init__(self) -> None:
        """Start with nothing kept, and no key that changes from scenario to scenario."""
        # Keys by their full paths: that a link stands in place of the costs' is said of each once.
        self.swept: Container[str] = ()
        self._models = PartsOfModels()
        self._common: Kept[_Common] = Kept(MOST_COSTS)
        self._costs: Kept[Costs] = Kept(MOST_COSTS)
        self._shapes: Kept[ModuleShapes] = Kept(MOST_TRACED)
        self._stated: Kept[tuple[Costs, tuple[str, ...]]] = Kept(MOST_COSTS)

    def shapes(self, scenario: Scenario, trace: Callable[[], ModuleShapes | None]) -> ModuleShapes | None:
        """Return the shapes of the scenario's module, traced once for each model and number of microbatches."""
        if not needs_shapes(scenario):
            return None

        def traced() -> ModuleShapes:
            found = trace()
            assert found is not None, "a module has shapes"
            return found

        model = scenario.model
        return self._shapes.get((id(model), scenario.parallel.microbatches), traced, alive=model)

    def prepare(
        self,
        scenario: Scenario,
        shapes: ModuleShapes | None = None,
        costs: Costs | None = None,
        *,
        stages: int | None = None,
        placement: tuple[int, ...] | None = None,
        physical: bool = False,
    ) -> Prepared:
        """Return the scenario, ready to be planned; the arguments are those of :func:`prepare`."""
        # The check comes before the units are made, as there may be billions, and before their GPUs are placed.
        cut_into = scenario.parallel.pipeline_parallel_degree if stages is None else stages
        require_few_tasks(scenario.parallel.microbatches, scenario.model.units_known(cut_into))
        tables = (scenario.hardware, scenario.parallel, scenario.checkpoint, scenario.offload, shapes)
        estimate = scenario.costs if scenario.is_estimated else None
        key = (scenario.model.kind, *map(id, tables), stages, placement, estimate)
        common = self._common.get(key, lambda: _Common.of(scenario, shapes, stages, placement), alive=tables)
        model, setting, hardware = scenario.model, common.setting, scenario.hardware
        parts = self._models.of(model, setting)
        warnings = (*common.warnings, *model.cautions(setting), *parts.warnings)
        warnings += tuple(cautions_of_sizes(common.policy, parts.workload))
        if costs is not None:
            costs, sentences = self.stated_links(costs, scenario, physical)
            warnings += sentences
        elif parts.costs is not None:
            of_model = parts.costs
            costs = self._costs.get(
                (id(of_model), id(hardware), common.links["placement"], common.links.get("source")),
                lambda: _NO_COSTS.model_copy(update={**of_model, **common.links}),
                alive=(of_model, hardware),
            )
        return Prepared(
            scenario=scenario,
            workload=parts.workload,
            policy=common.policy,
            costs=costs,
            units=parts.units,
            static_bytes=parts.static_bytes,
            work=parts.work,
            warnings=warnings,
        )

    def stated_links(self, costs: Costs, scenario: Scenario, physical: bool = False) -> tuple[Costs, tuple[str, ...]]:
        """Return the costs with the links that the scenario states, and what is to be said of it."""
        hardware, placement = scenario.hardware, placement_of(scenario.parallel, scenario.hardware)
        return self._stated.get(
            (id(costs), id(hardware), placement, physical),
            lambda: with_stated_links(costs, hardware, placement, physical=physical, swept=self.swept),
            alive=(costs, hardware),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    """Holds what scenarios share whose kind of model is the same, and whose tables but ``model`` are.

    Attributes:
        links: the hardware's part of the costs, by their names, and their source where times follow from FLOPs; the
            keys of the hardware allow no value that these do not.
    """

    setting: Setting
    policy: Policy
    warnings: tuple[str, ...]
    links: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        scenario: Scenario,
        shapes: ModuleShapes | None,
        stages: int | None,
        placement: tuple[int, ...] | None,
    ) -> _Common:
        hardware = scenario.hardware
        setting = scenario.setting(shapes, stages, placement)
        links = {
            "launch_ns": hardware.launch,
            "launch_by_kind": hardware.launch_by_kind,
            "shared": hardware.shared(),
            **hardware.links(),
            **hardware.routes(),
            "placement": placement_of(scenario.parallel, hardware),
        }
        if scenario.has_estimated_times:
            links["source"] = estimate_source(hardware)
        elif scenario.model.times is None:
            links["source"] = counted_source(hardware)
        return cls(
            setting=setting,
            policy=policy_of(scenario.parallel, scenario.checkpoint, scenario.offload),
            warnings=tuple(cautions_beside_model(scenario)),
            links=links,
        )
