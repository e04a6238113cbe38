"""What a predicted timeline keeps of SageMaker's options: what became of each key, and where each process stands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadahead.sim.errors import InputError
from loadahead.sim.placement import Placement, RankMap
from loadahead.sim.schema_errors import Path as KeyPath
from loadahead.sim.schema_errors import schema_error_line

# The key of a timeline's header.
SMP = "sagemaker"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SmpKey(_Frozen):
    """Says what became of one key.

    Attributes:
        value: as it is written.
        where: the scenario's key that it became, or why it changes no prediction.
    """

    key: str
    value: str
    where: str


class SmpOptions(_Frozen):
    """Says what SageMaker's options became.

    Attributes:
        scenario: the name of the scenario that they became.
        version: the version of SageMaker's model parallel library, and why it is that one.
        source: the file that they are from.
        placement: on what hosts all processes stand, and in what order.
        pipeline: ranks of the pipeline.
        gpus_per_switch: GPUs of a host behind one PCIe switch; None: all of them.
    """

    scenario: str
    version: str
    source: str
    keys: tuple[SmpKey, ...]
    placement: Placement
    pipeline: int = Field(ge=1)
    gpus_per_switch: int | None = Field(default=None, ge=1)

    def rank_map(self) -> RankMap:
        """Return where each process stands; InputError where there are too many."""
        return self.placement.table(self.pipeline, self.gpus_per_switch)


def read_smp(header: Mapping[str, Any], where: str) -> SmpOptions | None:
    """Return what a timeline's header says of the options it is from; None for nothing, InputError if malformed."""
    found = header.get(SMP)
    if found is None:
        return None
    try:
        # JSON has lists where the schema has tuples.
        options = SmpOptions.model_validate_json(json.dumps(found))
    except ValidationError as error:
        line = schema_error_line(error, "what became of SageMaker's options", _keys)
        raise InputError(f"{where}: {line}") from error
    options.rank_map()
    return options


def _keys(path: KeyPath) -> Sequence[str]:
    """Return the keys that the object at a path of them may have."""
    tables: dict[str, type[BaseModel]] = {"keys": SmpKey, "placement": Placement}
    return list((tables.get(str(path[0]), SmpOptions) if path else SmpOptions).model_fields)
