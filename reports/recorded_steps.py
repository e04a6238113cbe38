"""What a validation's records hold of a step: typed where it is written and where it is read, and checked both times.

Records may hold other keys as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from loadahead.sim.step_metrics import RankMetrics, StepMetrics, stall_field

_OF_A_RANK = frozenset(field.name for field in fields(RankMetrics))
# No time and no size is larger than this, and numbers up to it can be drawn.
_MOST = 2**62
Count = Annotated[int, Field(ge=0, le=_MOST)]
Above0 = Annotated[int, Field(ge=1, le=_MOST)]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=0, le=_MOST)]


class Open(BaseModel):
    """A part of a record, which may hold other keys as well."""

    model_config = ConfigDict(strict=True, extra="allow")


class LinkUsage(Open):
    """How a step used one link; times are in ns. Records of before do not tell transfers and their bytes."""

    transfers: Count = 0
    bytes: Count = 0
    busy_ns: Count
    span_ns: Count
    expected_ns: Count


class Links(Open):
    """How a step used the link to the host, and the one from it."""

    d2h: LinkUsage
    h2d: LinkUsage

    def of(self, link: str) -> LinkUsage:
        """Return the usage of ``d2h`` or of ``h2d``."""
        return {"d2h": self.d2h, "h2d": self.h2d}[link]


class RecordedStep(Open):
    """One step of a plan of one rank: its own metrics, and those of the rank that say something of a single one."""

    step_time_ns: Above0
    offloaded: Count
    kept: Count
    peak_device_bytes: Above0
    peak_boundary_bytes: Count
    peak_host_bytes: Count
    compute_ns: Count
    copy_ns: Count
    stall_release_ns: Count
    stall_prefetch_ns: Count
    overlap: Finite | None

    @classmethod
    def of(cls, metrics: StepMetrics) -> Self:
        """Return what is recorded of a step of one rank."""
        (rank,) = metrics.ranks
        return cls(**{name: getattr(rank if name in _OF_A_RANK else metrics, name) for name in cls.model_fields})

    def stall_ns(self, stall: str) -> int:
        """Return a stall in ns, by its name in :data:`loadahead.sim.step_metrics.STALLS`."""
        return int(getattr(self, stall_field(stall)))


class _OnLinks(RecordedStep):
    links: Links


class MeasuredStep(_OnLinks):
    """A step that was run."""


class PredictedStep(_OnLinks):
    """A step that was predicted; ``copy_to_compute`` is the busier link's time over that of all compute."""

    copy_to_compute: Finite


class PeerStep(Open):
    """A step of a peer; its peak is None where it cannot be told."""

    step_time_ns: Above0
    peak_device_bytes: Above0 | None


def predicted_step(record: Mapping[str, Any]) -> PredictedStep:
    """Return the step that was predicted of a configuration."""
    return PredictedStep.model_validate(record["predicted"])


def measured_step(record: Mapping[str, Any]) -> MeasuredStep:
    """Return the step that was measured of a configuration."""
    return MeasuredStep.model_validate(record["measured"])


def peer_step(record: Mapping[str, Any]) -> PeerStep:
    """Return the step that was measured of a peer."""
    return PeerStep.model_validate(record)
