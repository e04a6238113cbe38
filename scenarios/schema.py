"""A scenario: its name and its tables. What the file may hold, and nothing of what comes of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from loadahead.scenarios.fields import Name, Table, not_allowed
from loadahead.scenarios.kinds import KINDS, Model, Setting
from loadahead.scenarios.tables import Checkpoint, Hardware, Jitter, Offload, Parallel
from loadahead.sim.schema_errors import shown_value
from loadahead.sim.workload import ModuleShapes


def _model(value: Any) -> Any:
    """The table by its kind. A complaint about it stays at its own path."""
    if isinstance(value, Model):
        return value
    if not isinstance(value, dict):
        raise not_allowed("it must be a table")
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        said = "kind is missing" if "kind" not in value else f"kind is {shown_value(kind)}"
        raise not_allowed(f"{said}; it must be one of {', '.join(KINDS)}")
    return KINDS[kind].model_validate(value)


class Scenario(Table):
    """One scenario file. ``costs`` names a file of calibrated costs, relative to the scenario's own folder."""

    name: Name
    costs: Name | None = None
    model: Annotated[SerializeAsAny[Model], BeforeValidator(_model)]
    hardware: Hardware
    parallel: Parallel = Parallel()
    checkpoint: Checkpoint = Checkpoint()
    offload: Offload = Offload()
    jitter: Jitter = Jitter()

    def setting(self, shapes: ModuleShapes | None = None) -> Setting:
        """The tables that a model's kind may look at."""
        return Setting(hardware=self.hardware, parallel=self.parallel, checkpoint=self.checkpoint, shapes=shapes)
