"""Checks that a validation's records hold what tables, claims and figures are made of.

Records may hold other keys as well.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from loadahead.reports.recorded_steps import Above0, Count, Finite, MeasuredStep, Open, PeerStep, PredictedStep
from loadahead.sim.errors import InputError
from loadahead.sim.schema_errors import schema_error_line

# The names of what is measured of a peer.
_PEER_TIME, _PEER_PEAK = PeerStep.model_fields


class _Case(Open):
    model: str
    microbatches: Above0
    pipeline: str


class _Planned(_Case):
    name: str
    horizon: Above0
    horizon_unit: Literal["tasks", "layers"]
    release_window: Above0
    copies: Above0
    offload: bool


class _Part(Open):
    """Describes something that was measured, or else the reason why not."""

    status: Literal["measured", "failed", "skipped", "not run"]
    reason: str | None = None
    seconds: Finite = 0.0
    session: Above0 | None = None

    @model_validator(mode="after")
    def _complete(self) -> _Part:
        needed = self.needed() if self.status == "measured" else ("reason",)
        for name in needed:
            if name not in self.model_fields_set or (getattr(self, name) is None and name != _PEER_PEAK):
                raise ValueError(f"{name} is missing; it is required of what is {self.status}")
        return self

    def needed(self) -> tuple[str, ...]:
        """Return the keys that are required of what was measured."""
        raise NotImplementedError


class _Prediction(_Planned):
    predicted: PredictedStep


class _Configuration(_Part, _Planned):
    predicted: PredictedStep | None = None
    measured: MeasuredStep | None = None

    def needed(self) -> tuple[str, ...]:
        return "predicted", "measured"


class _Gradients(_Part, _Planned):
    max_grad_error: Finite | None = None

    def needed(self) -> tuple[str, ...]:
        return ("max_grad_error",)


class _Peer(_Part, _Case):
    peer: str
    step_time_ns: Above0 | None = None
    peak_device_bytes: Above0 | None = None  # None where it cannot be told

    def needed(self) -> tuple[str, ...]:
        return _PEER_TIME, _PEER_PEAK


class _Model(_Part):
    model: str
    options: dict[str, Any] | None = None
    autocast: str | None = None
    units: Above0 | None = None
    static_bytes: Count | None = None
    d2h_bandwidth: Above0 | None = None
    h2d_bandwidth: Above0 | None = None
    issue_ns: Count | None = None
    device_ns: Count | None = None

    def needed(self) -> tuple[str, ...]:
        return "options", "autocast", "units", "static_bytes", "d2h_bandwidth", "h2d_bandwidth"


class _PlannedPeer(_Case):
    peer: str


class _Plans(Open):
    configurations: list[_Planned]
    gradients: list[_Planned]
    peers: list[_PlannedPeer]


class _Machine(Open):
    loadahead: str
    device: str
    grid: str
    claims: dict[str, Annotated[float, Field(allow_inf_nan=False)]]
    planned: _Plans
    machine: dict[str, Any]
    packages: dict[str, str | None]


class _Session(Open):
    machine: dict[str, Any]


class _End(Open):
    stopped: str | None


class _Evidence(_Machine):
    sessions: list[dict[str, Any]] = Field(default_factory=list)
    seconds: Finite
    stopped: str | None
    models: list[_Model]
    configurations: list[_Configuration]
    gradients: list[_Gradients]
    peers: list[_Peer]


RECORDS: dict[str, type[Open]] = {
    "machine": _Machine,
    "session": _Session,
    "model": _Model,
    "prediction": _Prediction,
    "configuration": _Configuration,
    "gradients": _Gradients,
    "peer": _Peer,
    "end": _End,
}


def check_record(record: dict[str, Any], where: str) -> None:
    """Raise InputError in one line that begins with ``where``, unless it is a journal's record."""
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in RECORDS:
        raise InputError(f"{where}: kind is {kind!r:.40}; it must be one of {', '.join(RECORDS)}")
    _check(RECORDS[kind], record, where)


def check_evidence(evidence: dict[str, Any], where: str) -> None:
    """Raise InputError in one line that begins with ``where``, unless it is a validation's evidence."""
    _check(_Evidence, evidence, where)


def _check(schema: type[Open], content: dict[str, Any], where: str) -> None:
    try:
        schema.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{where}: {schema_error_line(error, 'a validation')}") from error
