"""``kind = "uniform"`` gives the costs of a unit, the same for all or for those at one place (DESIGN, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

from pydantic import model_validator

from loadahead.scenarios.fields import Bytes, BytesPerUnit, Count, Duration, DurationPerUnit, not_allowed
from loadahead.scenarios.kinds.base import Cuts, Model, Setting
from loadahead.scenarios.layers import Cut, Layer, Units, shown_list
from loadahead.sim.costs import UnitCost
from loadahead.sim.errors import InputError


class _Unit(NamedTuple):
    """Holds what one unit costs, by the keys that take a list too, with a value for each unit of a stage."""

    forward: int
    recompute: int
    backward: int
    boundary: int
    saved: int | None
    workspace_forward: int
    workspace_backward: int


PER_UNIT = _Unit._fields


class Uniform(Model):
    """Holds the costs of a unit for one microbatch; ``static`` is a rank's, divided evenly over its stages.

    Where a key of :data:`PER_UNIT` holds a list, each stage's units have its values in their order.

    RECOMPUTE has BACKWARD's workspace: the activations that it makes are those that BACKWARD uses. Without
    checkpointing ``saved`` of them stay from FORWARD to BACKWARD, all where it is not given, and BACKWARD's own
    workspace is the rest.
    """

    times: ClassVar[str | None] = "its costs are given"
    undivided: ClassVar[str | None] = "its figures are taken as one GPU's"
    grows_with_stages: ClassVar[bool] = True

    kind: Literal["uniform"]
    units_per_stage: Count = 1
    forward: DurationPerUnit
    recompute: DurationPerUnit = 0
    backward: DurationPerUnit
    backward_input: Duration | None = None
    backward_weight: Duration | None = None
    boundary: BytesPerUnit
    saved: BytesPerUnit | None = None
    workspace_forward: BytesPerUnit = 0
    workspace_backward: BytesPerUnit = 0
    static: Bytes = 0

    @model_validator(mode="after")
    def _lists_of_one_length(self) -> Uniform:
        lengths = {key: len(values) for key in PER_UNIT if isinstance(values := getattr(self, key), tuple)}
        if "units_per_stage" in self.model_fields_set:
            lengths = {"units_per_stage": self.units_per_stage} | lengths
        first, *others = lengths or [""]
        for key in others:
            if lengths[key] != lengths[first]:
                known = f"is {lengths[first]}" if first == "units_per_stage" else f"has {lengths[first]}"
                raise not_allowed(
                    f"{key} has {lengths[key]} values and {first} {known}; give one value per unit of a stage, or a "
                    "single one for all"
                )
        return self

    def _units(self) -> int:
        """Return how many units a stage has: as written, or else as many as a list has values."""
        lists = [values for key in PER_UNIT if isinstance(values := getattr(self, key), tuple)]
        return len(lists[0]) if lists else self.units_per_stage

    def units_known(self, stages: int) -> int:
        """Return how many units so many stages have."""
        return self._units() * stages

    def described(self, layers: Sequence[Layer]) -> str:
        """Return that the costs are given, which say of no model."""
        return "given costs (uniform)"

    def units(self, setting: Setting, cuts: Cuts) -> Units:
        """Return every stage's units, the same; raise InputError where ``static`` cannot be divided over the stages."""
        if setting.partition is not None:
            raise InputError(
                f"checkpoint.partition = {shown_list(setting.partition)} deals out a model's layers, and a uniform "
                "model is given by the units of a stage; leave it out and set model.units_per_stage"
            )
        distinct, places = self._places()
        layers = [self._layer(unit, setting) for unit in distinct]
        layers += [layers[places[0]].with_static(nbytes) for nbytes in self._static(setting)]
        key = ("uniform", len(places) if len(distinct) == 1 else places, setting.ranks, setting.stages)
        return Units(layers, cuts.get(key, lambda: self._cut(setting, places, len(distinct))))

    def _places(self) -> tuple[list[_Unit], tuple[int, ...]]:
        """Return the different units, and which of them stands at each place of a stage."""
        values, count = [getattr(self, key) for key in PER_UNIT], self._units()
        if not any(isinstance(value, tuple) for value in values):
            return [_Unit(*values)], (0,) * count
        columns = [value if isinstance(value, tuple) else (value,) * count for value in values]
        distinct: dict[_Unit, int] = {}
        places = tuple([distinct.setdefault(_Unit(*unit), len(distinct)) for unit in zip(*columns, strict=True)])
        return list(distinct), places

    def _layer(self, unit: _Unit, setting: Setting) -> Layer:
        """Return a unit as a layer without static bytes."""
        working, saved = unit.workspace_backward, 0
        if not setting.checkpoint:
            saved = working if unit.saved is None else unit.saved
        cost = UnitCost(
            forward_ns=unit.forward,
            recompute_ns=unit.recompute,
            backward_ns=unit.backward,
            backward_input_ns=self.backward_input,
            backward_weight_ns=self.backward_weight,
            workspace_forward=unit.workspace_forward,
            workspace_recompute=working,
            workspace_backward=max(working - saved, 0),
        )
        return Layer(boundary_bytes=unit.boundary, gradient_bytes=unit.boundary, saved_bytes=saved, cost=cost)

    def _cut(self, setting: Setting, places: tuple[int, ...], distinct: int) -> Cut:
        """Return the cut of units that are a layer each; a stage's first one is of the two that hold static bytes."""
        others = places[1:]
        first = min(setting.ranks, setting.stages)
        order = (0,) * first + (1,) * (setting.stages - first)
        stages = ((distinct, *others), (distinct + 1, *others))[: 1 + max(order)]
        return Cut(units=tuple([(number,) for number in range(distinct + 2)]), stages=stages, order=order)

    def _static(self, setting: Setting) -> tuple[int, int]:
        """Return the part of a rank's static bytes that its first stage has, with what division leaves, and others'."""
        each, uneven = divmod(setting.stages, setting.ranks)
        if uneven and self.static:
            raise InputError(
                f"model.static is a rank's and {setting.stages} stages are no multiple of {setting.ranks} ranks, so "
                "that it cannot be divided; leave model.static out or use as many stages on every rank"
            )
        if not self.static:
            return 0, 0
        share, rest = divmod(self.static, each)
        return share + rest, share

    def cautions(self, setting: Setting) -> list[str]:
        """Return a warning for a checkpoint strategy or tensor parallelism, which a uniform model ignores."""
        out = []
        if setting.strategy != "each":
            out.append(
                f'checkpoint.strategy = "{setting.strategy}" has no effect on a uniform model, whose units '
                "are given as such: set model.units_per_stage"
            )
        if setting.tensor_parallel_degree > 1:
            out.append(
                "parallel.tensor_parallel_degree does not divide a uniform model's figures: they are taken as one GPU's"
            )
        return out
