"""Says what figures of one run have in common: which steps there are, which ranks, and on how many time axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np

from loadahead.reports import run_directory
from loadahead.reports.run_data import RunData
from loadahead.sim.ir.kinds import Queue
from loadahead.sim.timeline import Timeline

PREDICTED, MEASURED = "predicted", "measured"
# Steps of which one is more than so many times the other have a time axis each: on one, an estimate for a GPU beside
# the run of a CPU would be a sliver.
FAR_APART = 3


def steps_of(data: RunData) -> dict[str, Timeline]:
    """Return the run's steps that have operations and take time: predicted, then measured."""
    found = {PREDICTED: data.predicted, MEASURED: data.measured}
    return {name: timeline for name, timeline in found.items() if timeline is not None and timeline.step_time_ns > 0}


def step_files(steps: Iterable[str]) -> tuple[str, ...]:
    """Return the files of a run directory that hold these steps."""
    files = {PREDICTED: run_directory.PREDICTED, MEASURED: run_directory.MEASURED}
    return tuple(files[step] for step in steps)


def ranks_of(steps: Mapping[str, Timeline]) -> tuple[int, ...]:
    """Return the ranks of all steps, in order."""
    return tuple(sorted({int(rank) for timeline in steps.values() for rank in np.unique(timeline.rank)}))


def far_apart(lengths_ns: Iterable[int]) -> bool:
    """Return whether times are so far apart that one axis cannot show both."""
    lengths = list(lengths_ns)
    return bool(lengths) and max(lengths) > FAR_APART * min(lengths)


def end_of(timeline: Timeline) -> int:
    """Return when the step's last operation ends, in ns."""
    return int(timeline.end_ns.max(initial=0))


def peaks_of(timeline: Timeline) -> dict[int, int]:
    """Return the largest of each rank's samples of device memory, in bytes; empty without samples."""
    memory = timeline.memory
    return {int(rank): int(memory.device_bytes[memory.rank == rank].max()) for rank in np.unique(memory.rank)}


def compute_queue(timeline: Timeline, rank: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the positions of a rank's operations on its compute queue, in their order."""
    return np.flatnonzero((timeline.rank == rank) & (timeline.queue == Queue.COMPUTE))


def own_axes_sentence(lengths_ns: Mapping[str, int]) -> str:
    """Return that each step has a time axis of its own, and how far apart they are."""
    longest, shortest = max(lengths_ns.values()), min(lengths_ns.values())
    slower = next(name for name, ns in lengths_ns.items() if ns == longest)
    return f"Each step has a time axis of its own, as the {slower} one takes {longest / shortest:.3g} times as long."


def percent(part: float, whole: float) -> str:
    """Return a share as text such as ``12 %``; what is not nothing does not become 0 %, nor 100 % what is not all."""
    share = Fraction(part) / Fraction(whole) * 100
    if 99 < share < 100:
        shown = f"{float(share):.4g} %"
        return "more than 99.99 %" if shown == "100 %" else shown
    if share == 0 or share >= 10:
        return f"{float(share):.0f} %"
    return f"{float(share):.1f} %" if share >= Fraction(1, 20) else "less than 0.1 %"
