"""What a run directory keeps of SageMaker's options: what became of each key, and where each process stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadahead.sim.errors import InputError
from loadahead.sim.placement import Placement, RankMap
from loadahead.sim.schema_errors import Path as KeyPath
from loadahead.sim.schema_errors import Version1, schema_error_line


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
        library: the version of SageMaker's model parallel library, and why it is that one.
        source: the file that they are from.
        placement: on what hosts all processes stand, and in what order.
        pipeline: ranks of the pipeline.
        gpus_per_switch: GPUs of a host behind one PCIe switch; None: all of them.
    """

    format: Literal["loadahead-smp"] = "loadahead-smp"
    version: Version1 = 1
    scenario: str
    library: str
    source: str
    keys: tuple[SmpKey, ...]
    placement: Placement
    pipeline: int = Field(ge=1)
    gpus_per_switch: int | None = Field(default=None, ge=1)

    def rank_map(self) -> RankMap:
        """Return where each process stands; InputError where there are too many."""
        return self.placement.table(self.pipeline, self.gpus_per_switch)


def read_smp(path: Path) -> SmpOptions:
    """Read the file of what options became; raise InputError in one line where it is malformed."""
    try:
        found = SmpOptions.model_validate_json(path.read_text(encoding="utf-8-sig"))
        found.rank_map()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error.__class__.__name__}); import the options again") from error
    except ValidationError as error:
        line = schema_error_line(error, "what became of SageMaker's options", _keys)
        raise InputError(f"{path}: {line}") from error
    return found


def _keys(path: KeyPath) -> Sequence[str]:
    """Return the keys that the object at a path of the file may have."""
    tables: dict[str, type[BaseModel]] = {"keys": SmpKey, "placement": Placement}
    return list((tables.get(str(path[0]), SmpOptions) if path else SmpOptions).model_fields)
