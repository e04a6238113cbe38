"""``kind = "uniform"`` gives the costs of a unit, the same for all (DESIGN, section 3)."""

from __future__ import annotations

from typing import Literal

from loadahead.scenarios.fields import Bytes, Count, Duration
from loadahead.scenarios.kinds.base import Cuts, Model, Setting
from loadahead.scenarios.layers import Cut, Layer, Units
from loadahead.sim.costs import UnitCost
from loadahead.sim.errors import InputError


class Uniform(Model):
    """Holds the costs of a unit for one microbatch; ``static`` is a rank's, divided evenly over its stages.

    RECOMPUTE has BACKWARD's workspace: the activations that it makes are those that BACKWARD uses.
    """

    kind: Literal["uniform"]
    units_per_stage: Count = 1
    forward: Duration
    recompute: Duration = 0
    backward: Duration
    backward_input: Duration | None = None
    backward_weight: Duration | None = None
    boundary: Bytes
    workspace_forward: Bytes = 0
    workspace_backward: Bytes = 0
    static: Bytes = 0

    def units_known(self, stages: int) -> int:
        """Return how many units so many stages have."""
        return self.units_per_stage * stages

    def units(self, setting: Setting, cuts: Cuts) -> Units:
        """Return equal units for every stage; raise InputError where ``static`` cannot be divided over the stages."""
        cost = UnitCost(
            forward_ns=self.forward,
            recompute_ns=self.recompute,
            backward_ns=self.backward,
            backward_input_ns=self.backward_input,
            backward_weight_ns=self.backward_weight,
            workspace_forward=self.workspace_forward,
            workspace_recompute=self.workspace_backward,
            workspace_backward=self.workspace_backward,
        )
        unit = Layer(boundary_bytes=self.boundary, gradient_bytes=self.boundary, cost=cost)
        layers = [unit, *map(unit.with_static, self._static(setting))]
        key = ("uniform", self.units_per_stage, setting.ranks, setting.stages)
        return Units(layers, cuts.get(key, lambda: self._cut(setting)))

    def _cut(self, setting: Setting) -> Cut:
        """Return the cut of units that are a layer each; a stage's first one is of the two that hold static bytes."""
        others = (0,) * (self.units_per_stage - 1)
        first = min(setting.ranks, setting.stages)
        order = (0,) * first + (1,) * (setting.stages - first)
        return Cut(units=((0,), (1,), (2,)), stages=((1, *others), (2, *others))[: 1 + max(order)], order=order)

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

    def advice(self, setting: Setting) -> list[str]:
        """Return a warning for a checkpoint strategy or tensor parallelism, which a uniform model ignores."""
        out = []
        if setting.strategy != "each":
            out.append(
                f'checkpoint.strategy = "{setting.strategy}" has no effect on a uniform model, whose units '
                "are given as such: set model.units_per_stage"
            )
        if setting.tensor_parallel_degree > 1:
            out.append(
                "parallel.tensor_parallel_degree has no effect on a uniform model: its figures are taken as one GPU's"
            )
        return out
