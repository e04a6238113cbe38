"""Reads what ``advice.json`` found of a scenario's horizons, as far as sentences are said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from loadahead.sim.errors import InputError
from loadahead.sim.schema_errors import schema_error_line


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Taken(_Read):
    """Holds what one plan takes; a horizon of None keeps all. Earlier files do not say how long it waits for copies.

    ``slower`` is the share by which its step is longer than that of keeping all; None where that one takes no time.
    """

    horizon: int | None = None
    step_time_ns: int
    peak_device_bytes: int
    host_bytes: int = 0
    saved_bytes: int
    slower: float | None
    waits_ns: int | None = None


class Other(Taken):
    """Holds the best horizon of another unit or release window."""

    horizon_unit: str
    release_window: int


class _Searched(_Read):
    last: int
    tried: int
    complete: bool


class Found(_Read):
    """Says which horizon needs least memory in a step that is short enough, and what is beside it.

    The attributes are those of :class:`loadahead.sim.advice.findings.Findings`. ``within`` is how much longer a step
    may be than one that keeps all, as a share; ``news_leads`` whether the other setting is what decides; ``why_none``
    what is in the way where no horizon is advised.
    """

    horizon_unit: str
    release_window: int
    min_bytes: int = 0
    within: float = 0.01
    capacity_bytes: int | None = None
    host_capacity_bytes: int | None = None
    keep_all: Taken
    best: Taken | None = None
    own: Taken | None = None
    smallest: Taken | None = None
    smaller: Taken | None = None
    fitting: Taken | None = None
    searched: _Searched
    obstacles: list[str] = []
    news: Other | None = None
    news_leads: bool = False
    estimated: bool = False
    why_none: str | None = None
    sentence: str

    def fits_device(self, taken: Taken) -> bool:
        """Return whether a plan fits the device, as far as its memory is known."""
        return self.capacity_bytes is None or taken.peak_device_bytes <= self.capacity_bytes

    def fits(self, taken: Taken) -> bool:
        """Return whether a plan fits the device, and its slots the host, as far as their memory is known."""
        on_host = self.host_capacity_bytes is None or taken.host_bytes <= self.host_capacity_bytes
        return on_host and self.fits_device(taken)

    @property
    def leading(self) -> Other | None:
        """Return the other setting where it decides: it fits, and saves much more or beats the best horizon in both."""
        other, best = self.news, self.best
        if other is None or not self.fits(other):
            return None
        if self.news_leads:
            return other
        beaten = (
            best is not None
            and (other.peak_device_bytes, other.step_time_ns) != (best.peak_device_bytes, best.step_time_ns)
            and other.peak_device_bytes <= best.peak_device_bytes
            and other.step_time_ns <= best.step_time_ns
        )
        return other if beaten else None

    @property
    def decided(self) -> Taken | None:
        """Return the horizon that is to be taken with the unit and the window as they are; None where none is."""
        if self.leading is not None:
            return None
        return self.best if self.best is not None and self.fits(self.best) else self.fitting


def read_found(findings: Mapping[str, Any], where: str) -> Found | None:
    """Return what was found; None for nothing, or for what an earlier version wrote; InputError where malformed."""
    if "keep_all" not in findings or "searched" not in findings:
        return None
    try:
        return Found.model_validate(dict(findings))
    except ValidationError as error:
        line = schema_error_line(error, "what was found of horizons", lambda _: list(Found.model_fields))
        raise InputError(f"{where}: {line}") from error
