"""Reads one step's metrics from the ``summary`` that a timeline's header or a result file carries, and its headline.

Peaks and stalls are those of the rank that has most of each, as in a sweep's table; overlap is that of all ranks'
copies together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import IF_MISSING, STEP_TIME, PeakParts, RankMetrics, StepMetrics
from loadahead.sim.timeline import Timeline

# These metrics of a rank are whole numbers; its overlap is a share, and what its peak is made of has parts.
_COUNTS = tuple(field.name for field in fields(RankMetrics) if field.name not in ("overlap", "peak_parts"))
_PARTS = tuple(field.name for field in fields(PeakParts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """Holds the numbers of one step; None where they are not known.

    Times in ns, sizes in bytes, overlap as a fraction. ``peak_device_bytes`` has one entry per rank. ``overlap`` is
    None as well where nothing was copied.
    """

    step_time_ns: int
    peak_device_bytes: tuple[int, ...]
    peak_host_bytes: int | None = None
    overlap: float | None = None
    stalls_ns: Mapping[str, int] | None = None

    @property
    def largest_device_bytes(self) -> int | None:
        """Return the peak of the rank that has most; None where no rank's is known."""
        return max(self.peak_device_bytes, default=None)


def _count(row: Mapping[str, Any], key: str, where: str) -> int:
    value = row.get(key)
    if type(value) is not int or value < 0:
        raise InputError(f"{where}.{key} is {value!r:.60}; it must be an integer of at least 0")
    return value


def read_step_metrics(summary: object, where: str) -> StepMetrics:
    """Return the metrics of a summary from a file; InputError when it has not what the command line's JSON has."""
    if not isinstance(summary, dict):
        raise InputError(f"{where} is {summary!r:.60}; it must be an object with {STEP_TIME} and ranks")
    _count(summary, STEP_TIME, where)
    ranks = summary.get("ranks")
    if not isinstance(ranks, list) or not ranks or not all(isinstance(rank, dict) for rank in ranks):
        raise InputError(f"{where}.ranks is {ranks!r:.60}; it must be a list of objects, one per rank")
    for index, rank in enumerate(ranks):
        for key in _COUNTS:
            if key in rank or key not in IF_MISSING:
                _count(rank, key, f"{where}.ranks[{index}]")
        overlap = rank.get("overlap")
        if type(overlap) not in (int, float) or not math.isfinite(overlap) or not 0 <= overlap <= 1:
            raise InputError(f"{where}.ranks[{index}].overlap is {overlap!r:.60}; it must be a number from 0 to 1")
        _require_parts(rank.get("peak_parts"), f"{where}.ranks[{index}].peak_parts")
    for key in ("offloaded", "kept", *(key for key in ("host_bytes",) if key in summary)):
        _count(summary, key, where)
    return StepMetrics.from_dict(summary)


def _require_parts(parts: object, where: str) -> None:
    """Raise InputError unless this is nothing, or what a peak is made of."""
    if parts is None:
        return
    if not isinstance(parts, dict) or set(parts) != set(_PARTS):
        raise InputError(f"{where} is {parts!r:.60}; it must be an object with {', '.join(_PARTS)}")
    for name in _PARTS:
        _count(parts, name, where)


def headline_of(metrics: StepMetrics) -> Headline:
    """Return a step's numbers in short."""
    return Headline(
        step_time_ns=metrics.step_time_ns,
        peak_device_bytes=tuple(rank.peak_device_bytes for rank in sorted(metrics.ranks, key=lambda rank: rank.rank)),
        peak_host_bytes=metrics.peak_host_bytes,
        overlap=metrics.overlap if metrics.copy_ns else None,
        stalls_ns=metrics.stalls_ns,
    )


def _peaks_of_samples(timeline: Timeline) -> tuple[int, ...]:
    memory = timeline.memory
    return tuple(int(memory.device_bytes[memory.rank == rank].max()) for rank in np.unique(memory.rank).tolist())


def headline(timeline: Timeline, where: str = "timeline") -> Headline:
    """Return a timeline's numbers in short: from its summary, or without one what its rows and samples tell.

    The step time of a measured timeline is the median of its timed steps, where the header has them.
    """
    steps = step_times(timeline, where)
    if "summary" in timeline.header:
        short = headline_of(read_step_metrics(timeline.header["summary"], f"{where} summary"))
    else:
        host = timeline.memory.host_bytes
        short = Headline(
            step_time_ns=timeline.step_time_ns,
            peak_device_bytes=_peaks_of_samples(timeline),
            peak_host_bytes=int(host.max()) if len(host) else None,
        )
    return replace(short, step_time_ns=round(float(np.median(steps)))) if steps else short


def step_times(timeline: Timeline, where: str = "timeline") -> list[int]:
    """Return all timed steps in ns, as the header has them; empty for a prediction. InputError when malformed.

    Where timing every operation costs something, these are the steps without.
    """
    key = "bare_step_times_ns" if "bare_step_times_ns" in timeline.header else "step_times_ns"
    steps = timeline.header.get(key, [])
    if not isinstance(steps, list) or not all(type(step) is int and step > 0 for step in steps):
        raise InputError(f"{where}: {key} is {steps!r:.60}; it must be a list of integers above 0")
    return steps
