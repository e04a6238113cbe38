"""A kind of model is a table of the scenario file that can turn itself into each stage's units."""

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
    """Holds the scenario's other tables, and the traced module's shapes where the kind needs them."""

    hardware: Hardware
    parallel: Parallel
    checkpoint: Checkpoint
    shapes: ModuleShapes | None = None

    def cut(self, layers: list[Layer]) -> Units:
        """Return the layers dealt out over stages and grouped into units, one layer each without checkpointing."""
        strategy = self.checkpoint.strategy if self.checkpoint.enabled else "each"
        return [group(stage, strategy) for stage in deal_out(layers, self.parallel.pipeline_parallel_degree)]


class Model(Table):
    """Is the base of the scenario's ``[model]``. A kind adds its keys, :meth:`units` and :meth:`advice`."""

    # True for a kind that has to be built and traced before it can be planned.
    needs_shapes: ClassVar[bool] = False

    kind: str

    def units(self, setting: Setting) -> Units:
        """Return every stage's units; raise InputError where the tables do not go together."""
        raise NotImplementedError

    def advice(self, setting: Setting) -> list[str]:
        """Return warnings about settings that are without effect for this kind."""
        raise NotImplementedError
