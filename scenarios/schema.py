"""The schema says what a scenario file may hold: its name and its tables."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, PrivateAttr, SerializeAsAny

from loadahead.scenarios.estimates import require_gpu
from loadahead.scenarios.fields import Name, Table, not_allowed
from loadahead.scenarios.kinds import KINDS, Model, Setting
from loadahead.scenarios.notes import Notes
from loadahead.scenarios.parallelism import collectives_of, sharing_of
from loadahead.scenarios.tables import Checkpoint, Hardware, Jitter, Offload, Parallel
from loadahead.sim.costs import ESTIMATE
from loadahead.sim.errors import InputError
from loadahead.sim.schema_errors import shown_value
from loadahead.sim.workload import ModuleShapes


def _model(value: Any) -> Any:
    """Return the model's table, validated by its kind, so that its errors keep their own paths."""
    if isinstance(value, Model):
        return value
    if not isinstance(value, dict):
        raise not_allowed("it must be a table")
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        problem = "kind is missing" if "kind" not in value else f"kind is {shown_value(kind)}"
        raise not_allowed(f"{problem}; it must be one of {', '.join(KINDS)}")
    return KINDS[kind].model_validate(value)


class Scenario(Table):
    """Holds one scenario.

    ``costs`` names a file of calibrated costs, relative to the scenario's own folder, or is the word "estimate".
    """

    name: Name
    costs: Name | None = None
    model: Annotated[SerializeAsAny[Model], BeforeValidator(_model)]
    hardware: Hardware
    parallel: Parallel = Parallel()
    checkpoint: Checkpoint = Checkpoint()
    offload: Offload = Offload()
    jitter: Jitter = Jitter()

    # What it was made from, and no part of what it says.
    _notes: Notes = PrivateAttr(default_factory=Notes)

    @property
    def notes(self) -> Notes:
        """Return what is to be said of a scenario that was made of something else, such as SageMaker's options."""
        return self._notes

    def with_notes(self, notes: Notes) -> Scenario:
        """Return the same scenario with these notes."""
        scenario = self.model_copy()
        scenario._notes = notes
        return scenario

    @property
    def is_estimated(self) -> bool:
        """Return whether the word in place of a costs file asks for an estimate."""
        return self.costs == ESTIMATE

    @property
    def has_estimated_times(self) -> bool:
        """Return whether an estimate is asked for and the model has no times of its own that stand instead."""
        return self.is_estimated and (self.model.needs_shapes or self.model.times is None)

    def with_costs(self, costs: str | None) -> Scenario:
        """Return the same scenario with another costs file, with ``ESTIMATE``, or with none."""
        return self.model_copy(update={"costs": costs})

    def setting(
        self,
        shapes: ModuleShapes | None = None,
        stages: int | None = None,
        placement: tuple[int, ...] | None = None,
    ) -> Setting:
        """Return what a model's units depend on beside its table.

        ``stages`` and ``placement``, the rank of each, are None for one stage on each rank. Raise InputError where a
        module's times are to be estimated and the GPU is not known.
        """
        if self.checkpoint.is_selective and not self.model.recomputes_selectively:
            raise InputError(
                f'checkpoint.recompute_granularity is "selective" and model.kind is "{self.model.kind}", of which it '
                'is not known what of a unit would be recomputed; use "full"'
            )
        estimated = self.is_estimated and self.model.needs_shapes
        if estimated:
            require_gpu(self.hardware)
        ranks = self.parallel.pipeline_parallel_degree
        return Setting(
            ranks=ranks,
            stages=ranks if stages is None else stages,
            sharing=sharing_of(self.parallel),
            collectives=collectives_of(self.parallel, self.hardware),
            granularity="selective" if self.checkpoint.is_selective else "full",
            checkpoint=self.checkpoint.of_units,
            strategy=self.checkpoint.strategy,
            partition=self.checkpoint.partition,
            placement=placement,
            compute=self.hardware.compute(),
            shapes=shapes,
            estimated=estimated,
        )
