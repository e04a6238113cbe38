"""A kind of model is a table of the scenario file that can turn itself into each stage's units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from loadahead.scenarios.fields import Table
from loadahead.scenarios.layers import Layer, Run, deal_out, group
from loadahead.scenarios.tables import Compute
from loadahead.sim.errors import InputError
from loadahead.sim.workload import ModuleShapes

Units = list[list[Run]]  # of each stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Holds all that a model's units depend on beside its own table; settings that are equal give equal units.

    Attributes:
        ranks: number of GPUs in the pipeline.
        stages: number of stages that the model is cut into; above ``ranks`` a rank holds several.
        tensor_parallel_degree: number of GPUs that share a stage's work.
        checkpoint: whether activation checkpointing is on.
        strategy: how checkpointing groups layers into units.
        compute: how fast a GPU computes; links are no part of it.
        shapes: the traced module's layers, where the kind needs them.
    """

    ranks: int
    stages: int
    tensor_parallel_degree: int
    checkpoint: bool
    strategy: str
    compute: Compute
    shapes: ModuleShapes | None = None

    def cut(self, layers: list[Layer]) -> Units:
        """Return the layers dealt out over stages and grouped into units, one layer each without checkpointing."""
        if len(layers) < self.stages != self.ranks:
            raise InputError(
                f"the model is cut into {self.stages} stages and has {len(layers)} layers; each stage needs at least "
                "one: use fewer stages"
            )
        strategy = self.strategy if self.checkpoint else "each"
        return [group(stage, strategy) for stage in deal_out(layers, self.stages)]


class Model(Table):
    """Is the base of the scenario's ``[model]``. A kind adds its keys, :meth:`units` and :meth:`advice`."""

    # True for a kind that has to be built and traced before it can be planned.
    needs_shapes: ClassVar[bool] = False

    kind: str

    def units_known(self, stages: int) -> int:
        """Return how many units so many stages have, where the table says it; 0 where it follows from the layers."""
        return 0

    def units(self, setting: Setting) -> Units:
        """Return every stage's units; raise InputError where the tables do not go together."""
        raise NotImplementedError

    def advice(self, setting: Setting) -> list[str]:
        """Return warnings about settings that are without effect for this kind."""
        raise NotImplementedError
