"""What a kind of model is: a table of the scenario file, and the way from it to each stage's units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from loadahead.scenarios.fields import Table
from loadahead.scenarios.layers import Layer, deal_out, group
from loadahead.scenarios.tables import Checkpoint, Hardware, Parallel
from loadahead.sim.workload import ModuleShapes

Units = list[list[tuple[Layer, ...]]]  # [stage][unit] -> its layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The scenario's other tables, and what tracing found where the kind needs it."""

    hardware: Hardware
    parallel: Parallel
    checkpoint: Checkpoint
    shapes: ModuleShapes | None = None

    def cut(self, layers: list[Layer]) -> Units:
        """Layers dealt out over the stages, and grouped into units; without checkpointing each is a unit of its own."""
        strategy = self.checkpoint.strategy if self.checkpoint.enabled else "each"
        return [group(stage, strategy) for stage in deal_out(layers, self.parallel.pipeline_parallel_degree)]


class Model(Table):
    """The scenario's ``[model]``. A kind adds its keys, :meth:`units`, and what it cannot take into account."""

    # Whether the module has to be built and traced before it can be planned.
    needs_shapes: ClassVar[bool] = False

    kind: str

    def units(self, setting: Setting) -> Units:
        """Every stage's units; InputError where the tables do not go together."""
        raise NotImplementedError

    def advice(self, setting: Setting) -> list[str]:
        """Warnings about settings that are without effect for this kind."""
        raise NotImplementedError
