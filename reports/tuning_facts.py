"""Reads what ``tuning.json`` says of a tuned plan, as far as pages and figures show it.

The attributes are those of :mod:`loadahead.sim.tuning.answer`. Times are in ns, sizes in bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadahead.sim.errors import InputError
from loadahead.sim.schema_errors import schema_error_line


class _Read(BaseModel):
    # JSON has lists where these have tuples, which it turns into.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Taken(_Read):
    """Holds what one plan takes, and its horizon where one made it."""

    step_time_ns: int = Field(ge=0)
    peak_device_bytes: int = Field(ge=0)
    peak_boundary_bytes: int = Field(ge=0)
    host_bytes: int = Field(ge=0)
    offloaded: int = Field(ge=0)
    kept: int = Field(ge=0)
    horizon: int | None = None
    horizon_unit: str | None = None
    release_window: int | None = None

    def peak_bytes(self, of_boundaries: bool) -> int:
        """Return the peak of what a budget limits: of the boundaries, or of all that a device holds."""
        return self.peak_boundary_bytes if of_boundaries else self.peak_device_bytes

    @property
    def horizon_text(self) -> str:
        """Return the horizon with its unit and its release window, as far as they are known."""
        settings = [] if self.horizon_unit is None else [self.horizon_unit]
        settings += [] if self.release_window is None else [f"release window {self.release_window}"]
        beside = f" ({', '.join(settings)})" if settings else ""
        return f"horizon {self.horizon}{beside}"


class Budgeted(Taken):
    """Holds the best plan found under a budget, and what no plan under it is faster than."""

    budget_bytes: int = Field(ge=0)
    bound_ns: int = Field(ge=0)


class FrontierFacts(_Read):
    """Holds what each budget costs, the least first, and the horizons beside it."""

    of_boundaries: bool
    points: tuple[Budgeted, ...]
    horizons: tuple[Taken, ...]
    keep_all: Taken


class BoundFacts(_Read):
    """Says what no plan is faster than, and what sets that, in words."""

    step_time_ns: int = Field(ge=0)
    set_by: str


class LimitFacts(_Read):
    """Says how much memory was allowed; None: as much as it takes."""

    device_bytes: int | None
    boundary_bytes: int | None
    host_bytes: int | None


class RankFacts(_Read):
    """Says what leaves one rank's device and why, see :class:`loadahead.sim.tuning.reasons.RankReasons`."""

    rank: int
    boundaries: int
    leave: int
    leave_bytes: int
    keep_all_device_bytes: int
    keep_all_boundary_bytes: int
    peak_device_bytes: int
    peak_boundary_bytes: int
    away_ns: tuple[int, int] | None
    d2h_ns: int
    h2d_ns: int
    waits_ns: int
    horizon_waits_ns: int | None


class ReasonFacts(_Read):
    """Holds what is to be said of each rank, and which boundaries leave, in words."""

    ranks: tuple[RankFacts, ...]
    which_leave: str


class TuningFacts(_Read):
    """Says which plan tuning chose, and what stands beside it.

    ``sentences`` are the explanation, the one that decides first; ``frontier`` and ``reasons`` are None where they were
    not made.
    """

    fits: bool
    limits: LimitFacts
    limit_ns: int | None = None
    chosen: Taken
    keep_all: Taken
    horizon: Taken | None
    horizons: int
    bound: BoundFacts
    gap: float = Field(allow_inf_nan=False)
    frontier: FrontierFacts | None = None
    reasons: ReasonFacts | None = None
    sentences: tuple[str, ...] = Field(min_length=1)

    @property
    def of_boundaries(self) -> bool:
        """Return whether the boundaries alone were limited."""
        return self.limits.boundary_bytes is not None


def tuning_facts(plain: Mapping[str, Any]) -> TuningFacts:
    """Return the facts of what :func:`loadahead.sim.tuning.tuning_to_dict` made, for figures of what is in memory."""
    return TuningFacts.model_validate_json(json.dumps(plain))


def read_tuning(path: Path) -> TuningFacts:
    """Read the file of what tuning found; raise InputError in one line where it is malformed."""
    try:
        return TuningFacts.model_validate_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error.__class__.__name__}); tune again") from error
    except ValidationError as error:
        raise InputError(f"{path}: {schema_error_line(error, 'what tuning found')}; tune again") from error
