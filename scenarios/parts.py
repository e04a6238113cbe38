"""A model's units are made into what the planner and the engines take; equal descriptions become one object.

Most units of a model are alike. Where all workloads that are equal are one object, and all units' costs, whoever
makes tables of them has to make only as many as there are different ones.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        self._unit_costs: Kept[_UnitCosts] = Kept(MOST_UNITS, lambda stages: sum(map(len, stages)))

    def of(self, model: Model, setting: Setting) -> ModelParts:
        """Return the parts of a model; raise InputError where model and setting do not go together."""
        return self._parts.get((Same(model), setting), lambda: self._made(model.units(setting), setting.checkpoint))

    def _made(self, units: Units, checkpoint: bool) -> ModelParts:
        made: dict[tuple[int, ...], _Unit] = {}
        stages = [[self._unit(layers, checkpoint, made) for layers in stage] for stage in units]
        workload = self._workload(tuple([tuple([unit.shape for unit in stage]) for stage in stages]))
        known = tuple([tuple([unit.cost for unit in stage if unit.cost is not None]) for stage in stages])
        if any(len(some) != len(stage) for some, stage in zip(known, stages, strict=True)):
            return ModelParts(workload=workload, costs=None)
        costs = Costs(
            units=known,
            static_bytes=tuple([sum([unit.static_bytes for unit in stage]) for stage in stages]),
            optimizer_ns=tuple([sum([unit.optimizer_ns for unit in stage]) for stage in stages]),
            d2h_bandwidth=1,
            h2d_bandwidth=1,
            memory_bytes=1,
        )
        same = self._unit_costs.get(_ids(costs.units), lambda: costs.units)
        return ModelParts(workload=workload, costs=costs.model_copy(update={"units": same}))

    def _unit(self, layers: tuple[Layer, ...], checkpoint: bool, made: dict[tuple[int, ...], _Unit]) -> _Unit:
        """Return the unit of these layers; ``made`` holds those of this model, by the layers' identities."""
        key = tuple([id(layer) for layer in layers])
        if key not in made:
            shape, cost = unit_shape(layers), unit_cost(layers, checkpoint)
            made[key] = _Unit(
                shape=self._shapes.get(shape, lambda: shape),
                cost=None if cost is None else self._costs.get(cost, lambda: cost),
                static_bytes=sum(layer.static_bytes for layer in layers),
                optimizer_ns=sum(layer.optimizer_ns for layer in layers),
            )
        return made[key]

    def _workload(self, stages: tuple[tuple[UnitShape, ...], ...]) -> Workload:
        # Members that are equal are the same, and what is kept keeps them alive: their identities tell it apart.
        return self._workloads.get(_ids(stages), lambda: Workload(stages=stages))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    shape: UnitShape
    cost: UnitCost | None
    static_bytes: int
    optimizer_ns: int


_UnitCosts = tuple[tuple[UnitCost, ...], ...]


def _ids(stages: tuple[tuple[UnitShape, ...], ...] | _UnitCosts) -> tuple[tuple[int, ...], ...]:
    return tuple([tuple(map(id, stage)) for stage in stages])
