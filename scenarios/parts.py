"""A model's units are made into what the planner and the engines take; equal descriptions become one object.

Most units of a model are alike. Where all workloads that are equal are one object, and all units' costs, whoever
makes tables of them has to make only as many as there are different ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from loadahead.scenarios.kept import Kept, Same
from loadahead.scenarios.kinds import Model, Setting, Units
from loadahead.scenarios.layers import Layer, unit_cost, unit_shape
from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.workload import UnitShape, Workload

# Units of all models that are kept; one takes some 16 bytes beside what it shares with others.
MOST_UNITS = 2_000_000
# A model takes about this many times as much as a unit, its units apart.
_MODEL = 100
# Different units that are kept.
MOST_DIFFERENT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParts:
    """Holds what follows from a model and its setting alone.

    Attributes:
        costs: costs in which the links are still to be put; None for a module, whose times are not known.
    """

    workload: Workload
    costs: Costs | None

    @property
    def size(self) -> int:
        """Return how much it takes to keep this, in units."""
        return _MODEL + sum(map(len, self.workload.stages))


class PartsOfModels:
    """Makes the parts of models, once for each model and setting, as long as they are kept."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._parts: Kept[ModelParts] = Kept(MOST_UNITS, lambda parts: parts.size)
        self._shapes: Kept[UnitShape] = Kept(MOST_DIFFERENT)
        self._costs: Kept[UnitCost] = Kept(MOST_DIFFERENT)
        self._workloads: Kept[Workload] = Kept(MOST_UNITS, lambda workload: sum(map(len, workload.stages)))
        self._unit_costs: Kept[tuple[tuple[UnitCost | None, ...], ...]] = Kept(
            MOST_UNITS, lambda stages: sum(map(len, stages))
        )

    def of(self, model: Model, setting: Setting) -> ModelParts:
        """Return the parts of a model; raise InputError where model and setting do not go together."""
        return self._parts.get((Same(model), setting), lambda: self._made(model.units(setting), setting.checkpoint))

    def _made(self, units: Units, checkpoint: bool) -> ModelParts:
        # Few units of a model differ. They are looked up by identity, in one call for all units.
        flat = [unit for stage in units for unit in stage]
        stages = [slice(end - len(stage), end) for stage, end in zip(units, accumulate(map(len, units)), strict=True)]
        places = list(map(id, flat))
        different = dict(zip(places, flat, strict=True))
        workload = self._workload({place: self._same_shape(unit) for place, unit in different.items()}, places, stages)
        cost_of = {place: self._same_cost(unit, checkpoint) for place, unit in different.items()}
        if None in cost_of.values():
            return ModelParts(workload=workload, costs=None)
        static = {place: sum([layer.static_bytes for layer in unit]) for place, unit in different.items()}
        optimizer = {place: sum([layer.optimizer_ns for layer in unit]) for place, unit in different.items()}
        costs = Costs(
            units=(),
            static_bytes=_sums(static, places, stages),
            optimizer_ns=_sums(optimizer, places, stages),
            d2h_bandwidth=1,
            h2d_bandwidth=1,
            memory_bytes=1,
        )
        of_units = self._unit_costs_of(cost_of, places, stages)
        return ModelParts(workload=workload, costs=costs.model_copy(update={"units": of_units}))

    def _workload(self, shape_of: Mapping[int, UnitShape], places: list[int], stages: list[slice]) -> Workload:
        shapes = list(map(shape_of.__getitem__, places))
        # Shapes that are equal are one object, and what is kept keeps it alive: its identity stands for it in the key.
        key = (tuple(map(id, shapes)), tuple([stage.stop for stage in stages]))
        return self._workloads.get(key, lambda: Workload(stages=tuple([tuple(shapes[stage]) for stage in stages])))

    def _unit_costs_of(
        self, cost_of: Mapping[int, UnitCost | None], places: list[int], stages: list[slice]
    ) -> tuple[tuple[UnitCost | None, ...], ...]:
        costs = list(map(cost_of.__getitem__, places))
        key = (tuple(map(id, costs)), tuple([stage.stop for stage in stages]))
        return self._unit_costs.get(key, lambda: tuple([tuple(costs[stage]) for stage in stages]))

    def _same_shape(self, layers: tuple[Layer, ...]) -> UnitShape:
        shape = unit_shape(layers)
        return self._shapes.get(shape, lambda: shape)

    def _same_cost(self, layers: tuple[Layer, ...], checkpoint: bool) -> UnitCost | None:
        cost = unit_cost(layers, checkpoint)
        return None if cost is None else self._costs.get(cost, lambda: cost)


def _sums(amount_of: Mapping[int, int], places: list[int], stages: list[slice]) -> tuple[int, ...]:
    amounts = list(map(amount_of.__getitem__, places))
    return tuple([sum(amounts[stage]) for stage in stages])
