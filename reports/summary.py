"""Reads one step's numbers in short from the ``summary`` that a timeline's header or a result file carries.

Peaks and stalls are those of the rank that has most of each, as in a sweep's table; overlap is that of all ranks'
copies together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadahead.sim.errors import InputError
from loadahead.sim.timeline import Timeline

STALLS = ("release", "prefetch", "recv")
_RANK_INTS = (
    "rank",
    "peak_device_bytes",
    "peak_boundary_bytes",
    "peak_host_bytes",
    "compute_ns",
    "idle_ns",
    "stall_release_ns",
    "stall_prefetch_ns",
    "stall_recv_ns",
    "copy_ns",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """Holds the numbers of one step; None where they are not known.

    Times in ns, sizes in bytes, overlap as a fraction. ``peak_device_bytes`` has one entry per rank. ``overlap`` is
    None as well where nothing was copied.
    """

    step_time_ns: int
    peak_device_bytes: tuple[int, ...]
    peak_host_bytes: int | None = None
    peak_boundary_bytes: int | None = None
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


def check_summary(summary: object, where: str) -> dict[str, Any]:
    """Return the summary, when it has the keys of the command line's JSON (DESIGN, section 4); else InputError."""
    if not isinstance(summary, dict):
        raise InputError(f"{where} is {summary!r:.60}; it must be an object with step_time_ns and ranks")
    _count(summary, "step_time_ns", where)
    ranks = summary.get("ranks")
    if not isinstance(ranks, list) or not ranks or not all(isinstance(rank, dict) for rank in ranks):
        raise InputError(f"{where}.ranks is {ranks!r:.60}; it must be a list of objects, one per rank")
    for index, rank in enumerate(ranks):
        for key in _RANK_INTS:
            _count(rank, key, f"{where}.ranks[{index}]")
        overlap = rank.get("overlap")
        if type(overlap) not in (int, float) or not math.isfinite(overlap) or not 0 <= overlap <= 1:
            raise InputError(f"{where}.ranks[{index}].overlap is {overlap!r:.60}; it must be a number from 0 to 1")
    return summary


def headline_of_summary(summary: object, where: str = "summary") -> Headline:
    """Return a summary's numbers in short; InputError when it is malformed."""
    checked = check_summary(summary, where)
    ranks = checked["ranks"]
    copying = sum(rank["copy_ns"] for rank in ranks)
    hidden = sum(rank["overlap"] * rank["copy_ns"] for rank in ranks)
    return Headline(
        step_time_ns=checked["step_time_ns"],
        peak_device_bytes=tuple(rank["peak_device_bytes"] for rank in sorted(ranks, key=lambda rank: rank["rank"])),
        peak_host_bytes=max(rank["peak_host_bytes"] for rank in ranks),
        peak_boundary_bytes=max(rank["peak_boundary_bytes"] for rank in ranks),
        overlap=hidden / copying if copying else None,
        stalls_ns={name: max(rank[f"stall_{name}_ns"] for rank in ranks) for name in STALLS},
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
        short = headline_of_summary(timeline.header["summary"], f"{where} summary")
    else:
        host = timeline.memory.host_bytes
        short = Headline(
            step_time_ns=timeline.step_time_ns,
            peak_device_bytes=_peaks_of_samples(timeline),
            peak_host_bytes=int(host.max()) if len(host) else None,
        )
    if not steps:
        return short
    fields = {name: getattr(short, name) for name in Headline.__dataclass_fields__}
    return Headline(**fields | {"step_time_ns": round(float(np.median(steps)))})


def step_times(timeline: Timeline, where: str = "timeline") -> list[int]:
    """Return all timed steps in ns, as the header has them; empty for a prediction. InputError when malformed.

    Where timing every operation costs something, these are the steps without.
    """
    key = "bare_step_times_ns" if "bare_step_times_ns" in timeline.header else "step_times_ns"
    steps = timeline.header.get(key, [])
    if not isinstance(steps, list) or not all(type(step) is int and step > 0 for step in steps):
        raise InputError(f"{where}: {key} is {steps!r:.60}; it must be a list of integers above 0")
    return steps
