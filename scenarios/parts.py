"""A model's units are made into what the planner and the engines take; what is equal becomes one object.

Most units of a model are alike, and those of the same layers are one object. Where workloads that are equal are one
object too, and all units' costs, whoever makes tables of them has to make only as many as there are different ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from loadahead.scenarios.kept import Kept
from loadahead.scenarios.kinds import Cuts, Model, Setting
from loadahead.scenarios.layers import Units, unit_cost, unit_shape
from loadahead.sim.costs import UnitCost
from loadahead.sim.errors import InputError
from loadahead.sim.units import LARGEST_AMOUNT
from loadahead.sim.work import NOT_COUNTED, Work
from loadahead.sim.workload import Workload

# Units of all models that are kept; one takes some 16 bytes beside what it shares with others.
MOST_UNITS = 2_000_000
# A model takes about this many times as much as a unit, its units apart.
_MODEL = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParts:
    """Holds what follows from a model and its setting alone.

    Attributes:
        costs: the model's own part of its costs, by their names; None for a module, whose times are not known.
        static_bytes: each stage's weights, gradients and optimizer state; what stages of one rank share is the first's.
        units: the layers and their cut, which the rest is made of.
        work: what a microbatch is.
        warnings: sentences about the model's layers and how they are cut.
    """

    workload: Workload
    costs: Mapping[str, Any] | None
    units: Units
    static_bytes: tuple[int, ...] = ()
    work: Work = NOT_COUNTED
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Return how much it takes to keep this, in units."""
        return _MODEL + sum(map(len, self.workload.stages))


class PartsOfModels:
    """Makes the parts of models, once for each model and setting, as long as they are kept."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._parts: Kept[ModelParts] = Kept(MOST_UNITS, lambda parts: parts.size)
        self._cuts: Cuts = Kept(MOST_UNITS, lambda cut: cut.size)
        self._workloads: Kept[Workload] = Kept(MOST_UNITS, lambda workload: sum(map(len, workload.stages)))
        self._unit_costs: Kept[tuple[tuple[UnitCost, ...], ...]] = Kept(MOST_UNITS, lambda units: sum(map(len, units)))

    def of(self, model: Model, setting: Setting) -> ModelParts:
        """Return the parts of a model; raise InputError where model and setting do not go together."""
        try:
            return self._parts.get((id(model), setting), lambda: self._made(model, setting), alive=model)
        except ValidationError as error:
            raise _too_much() from error

    def _made(self, model: Model, setting: Setting) -> ModelParts:
        made = model.units(setting, self._cuts)
        layers, cut = made.layers, made.cut
        units = [[layers[number] for number in unit] for unit in cut.units]
        shapes = [unit_shape(unit) for unit in units]
        beside = (made.frozen_units, made.passed)
        workload = self._workloads.get(
            (id(cut), *beside, *shapes),
            lambda: Workload(stages=cut.each(shapes), frozen_units=made.frozen_units, passed=made.passed),
            alive=cut,
        )
        static = cut.sums([sum([layer.static_bytes for layer in unit]) for unit in units])
        if made.shared_bytes:
            static = tuple(map(sum, zip(static, made.shared_bytes, strict=True)))
        if max(static) > LARGEST_AMOUNT:
            raise _too_much()
        known: dict[str, Any] = {"work": model.work(setting), "warnings": made.warnings}
        costs = [cost for unit in units if (cost := unit_cost(unit, setting.checkpoint)) is not None]
        if len(costs) != len(units):
            return ModelParts(workload=workload, costs=None, units=made, static_bytes=static, **known)
        optimizer = cut.sums([sum([layer.optimizer_ns for layer in unit]) for unit in units])
        if made.closing_ns:
            optimizer = tuple(map(sum, zip(optimizer, made.closing_ns, strict=True)))
        own: dict[str, Any] = {
            "units": self._unit_costs.get((id(cut), *costs), lambda: cut.each(costs), alive=cut),
            "static_bytes": static,
            "optimizer_ns": optimizer,
        }
        if max(own["optimizer_ns"]) > LARGEST_AMOUNT:
            raise _too_much()
        return ModelParts(workload=workload, costs=own, units=made, static_bytes=static, **known)


def _too_much() -> InputError:
    return InputError(
        f"model: the layers of a unit or a stage add up to more than {LARGEST_AMOUNT} bytes or ns; use more stages, a "
        "smaller model or a quicker GPU"
    )
