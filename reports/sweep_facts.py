"""What a sweep's table says of itself: the scenario, the axes, the costs and the version that it was made with.

It stands in a file beside the table, and in the metadata of the Parquet file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from loadahead.reports.about import About
from loadahead.sim.errors import InputError
from loadahead.sim.schema_errors import Path as KeyPath
from loadahead.sim.schema_errors import Version1, schema_error_line

_METADATA_KEY = "loadahead"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CostsFacts(_Frozen):
    """Says where costs of a sweep come from.

    Attributes:
        microbatches: the number that they were calibrated with for this sweep; None for others.
        source: as the costs have it, e.g. ``"calibrated on cpu"``.
        digest: SHA-256 of the costs; None for those that follow from the scenario's own figures, point by point.
    """

    microbatches: int | None
    source: str
    digest: str | None


class SweepFacts(_Frozen):
    """Says what a sweep's rows follow from.

    Attributes:
        loadahead: the version that wrote the table.
        scenario: the scenario's name.
        tables: the scenario as plain data, its overrides included, without the keys that are axes.
        axes: each axis' values as they stand in the table, by the scenario's key; the first changes slowest.
        engine: the simulator's.
        costs: those given or named, or each that was calibrated for this sweep, or the scenario's own; an estimate for
            each GPU that an axis names.
        warnings: sentences about settings that do not do what they seem to.
        points: how many rows there are.
        model_axes: columns of axes beside those under ``model.`` that make the model another one.
        advice: which horizon to set, in words, that on the marked row first; empty where none decides.
        findings: the advice on the marked row with its numbers; None where no horizon decides.
        about: what was swept: model, machine, link; None in tables of earlier versions.
    """

    format: Literal["loadahead-sweep"] = "loadahead-sweep"
    version: Version1 = 1
    loadahead: str
    scenario: str
    tables: dict[str, Any]
    axes: dict[str, tuple[Any, ...]]
    engine: str
    costs: tuple[CostsFacts, ...]
    warnings: tuple[str, ...] = ()
    points: int
    model_axes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    findings: dict[str, Any] | None = None
    about: About | None = None

    def metadata(self) -> dict[str, str]:
        """Return the facts as a Parquet file's metadata."""
        return {_METADATA_KEY: self.model_dump_json()}


def read_facts(path: Path) -> SweepFacts:
    """Read the file of a sweep's facts; raise InputError in one line where it is malformed."""
    try:
        return SweepFacts.model_validate_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error.__class__.__name__}); sweep it again") from error
    except ValidationError as error:
        line = schema_error_line(error, "what a sweep says of itself", _keys)
        raise InputError(f"{path}: {line}") from error


def _keys(path: KeyPath) -> list[str]:
    """Return the keys that the object at a path of the file may have."""
    return list((CostsFacts if path else SweepFacts).model_fields)
