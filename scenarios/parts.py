"""A model's units are made into what the planner and the engines take; equal descriptions become one object.

Most units of a model are alike. Where all workloads that are equal are one object, and all units' costs, whoever
makes tables of them has to make only as many as there are different ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from loadahead.scenarios.kept import Kept, Same
from loadahead.scenarios.kinds import Model, Setting, Units
from loadahead.scenarios.layers import Layer, unit_cost, unit_shape
from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.errors import InputError
from loadahead.sim.units import LARGEST_AMOUNT
from loadahead.sim.workload import UnitShape, Workload

# Units of all models that are kept; one takes some 16 bytes beside what it shares with others.
MOST_UNITS = 2_000_000
# A model takes about this many times as much as a unit, its units apart.
_MODEL = 100
# Different units that are kept.
MOST_DIFFERENT = 10_000

_Member = TypeVar("_Member")
# A unit is known by the identities of its layers while it is made.
_Name = tuple[int, ...]


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
        self._stages: Kept[tuple[Any, ...]] = Kept(MOST_UNITS, len)
        self._workloads: Kept[Workload] = Kept(MOST_UNITS, lambda workload: len(workload.stages))
        self._unit_costs: Kept[tuple[Any, ...]] = Kept(MOST_UNITS, len)

    def of(self, model: Model, setting: Setting) -> ModelParts:
        """Return the parts of a model; raise InputError where model and setting do not go together."""
        try:
            return self._parts.get((Same(model), setting), lambda: self._made(model.units(setting), setting.checkpoint))
        except ValidationError as error:
            raise InputError(
                f"model: the layers of a unit or a stage add up to more than {LARGEST_AMOUNT} bytes or ns; use more "
                "stages or a smaller model"
            ) from error

    def _made(self, units: Units, checkpoint: bool) -> ModelParts:
        # Most units are alike, as are most stages: those of the same layers are made once.
        named, layers_of = [], dict[_Name, tuple[Layer, ...]]()
        for runs in units:
            names = [(tuple(map(id, layers)), count) for layers, count in runs]
            layers_of |= {name: layers for (name, _), (layers, _) in zip(names, runs, strict=True)}
            named.append(tuple(names))
        unit_of = {name: self._unit(layers, checkpoint) for name, layers in layers_of.items()}
        stage_of = {names: self._stage(names, unit_of) for names in set(named)}
        stages = [stage_of[names] for names in named]
        shapes = tuple([stage.shapes for stage in stages])
        # Stages that are equal are one object, and what is kept keeps it alive: its identity stands for it in the key.
        workload = self._workloads.get(tuple(map(id, shapes)), lambda: Workload(stages=shapes))
        if any(unit.cost is None for unit in unit_of.values()):
            return ModelParts(workload=workload, costs=None)
        costs = Costs(
            units=(),
            static_bytes=tuple([stage.static_bytes for stage in stages]),
            optimizer_ns=tuple([stage.optimizer_ns for stage in stages]),
            d2h_bandwidth=1,
            h2d_bandwidth=1,
            memory_bytes=1,
        )
        unit_costs = tuple([stage.costs for stage in stages])
        same = self._unit_costs.get(tuple(map(id, unit_costs)), lambda: unit_costs)
        return ModelParts(workload=workload, costs=costs.model_copy(update={"units": same}))

    def _stage(self, names: tuple[tuple[_Name, int], ...], unit_of: Mapping[_Name, _Unit]) -> _Stage:
        units: list[_Unit] = []
        for name, count in names:
            units += [unit_of[name]] * count
        return _Stage(
            shapes=self._same_stage(tuple([unit.shape for unit in units])),
            costs=self._same_stage(tuple([unit.cost for unit in units])),
            static_bytes=sum([unit.static_bytes for unit in units]),
            optimizer_ns=sum([unit.optimizer_ns for unit in units]),
        )

    def _unit(self, layers: tuple[Layer, ...], checkpoint: bool) -> _Unit:
        shape, cost = unit_shape(layers), unit_cost(layers, checkpoint)
        return _Unit(
            shape=self._shapes.get(shape, lambda: shape),
            cost=None if cost is None else self._costs.get(cost, lambda: cost),
            static_bytes=sum([layer.static_bytes for layer in layers]),
            optimizer_ns=sum([layer.optimizer_ns for layer in layers]),
        )

    def _same_stage(self, members: tuple[_Member, ...]) -> tuple[_Member, ...]:
        # Members that are equal are one object too.
        return self._stages.get(tuple(map(id, members)), lambda: members)


class _Stage(NamedTuple):
    shapes: tuple[UnitShape, ...]
    costs: tuple[UnitCost | None, ...]
    static_bytes: int
    optimizer_ns: int


class _Unit(NamedTuple):
    shape: UnitShape
    cost: UnitCost | None
    static_bytes: int
    optimizer_ns: int
