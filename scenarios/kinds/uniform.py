"""``kind = "uniform"`` gives the costs of a unit, the same for all (DESIGN, section 3)."""

from __future__ import annotations

from typing import Literal

from loadahead.scenarios.fields import Bytes, Count, Duration
from loadahead.scenarios.kinds.base import Model, Setting, Units
from loadahead.scenarios.layers import Layer
from loadahead.sim.costs import UnitCost
from loadahead.sim.planner import require_few_tasks


class Uniform(Model):
    """Holds the costs of a unit for one microbatch; ``static`` is a rank's.

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

    def units(self, setting: Setting) -> Units:
        """Return equal units for every stage; raise InputError for more tasks than can be planned."""
        # The check comes before the units are made, as there may be billions.
        require_few_tasks(
            setting.parallel.microbatches, self.units_per_stage * setting.parallel.pipeline_parallel_degree
        )
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
        first = unit.with_static(self.static)
        stage: list[tuple[Layer, ...]] = [(first,), *[(unit,)] * (self.units_per_stage - 1)]
        return [stage] * setting.parallel.pipeline_parallel_degree

    def advice(self, setting: Setting) -> list[str]:
        """Return a warning for a checkpoint strategy or tensor parallelism, which a uniform model ignores."""
        out = []
        if setting.checkpoint.strategy != "each":
            out.append(
                f'checkpoint.strategy = "{setting.checkpoint.strategy}" has no effect on a uniform model, whose units '
                "are given as such: set model.units_per_stage"
            )
        if setting.parallel.tensor_parallel_degree > 1:
            out.append(
                "parallel.tensor_parallel_degree has no effect on a uniform model: its figures are taken as one GPU's"
            )
        return out
