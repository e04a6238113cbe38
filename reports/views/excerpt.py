"""Makes an excerpt of a step: memory, a stretch of operations, and how busy it is, of two ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from loadahead.reports.points import (
    MOST_BINS,
    MOST_BOXES,
    MOST_SAMPLES,
    Boxes,
    MemoryCurve,
    RankExcerpt,
    StepExcerpt,
)
from loadahead.reports.views.busy import busy_shares
from loadahead.reports.views.window import steady_window
from loadahead.sim.ir.kinds import Queue
from loadahead.sim.ir.plan import Ints
from loadahead.sim.stalls import NO_EDGE, STALL_OF, waits
from loadahead.sim.step_metrics import STEP_TIME
from loadahead.sim.timeline import COLUMNS, Timeline

Why = Literal["fullest", "waits longest", "another"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """Holds a timeline with how long each operation waited and for what; arrays of shape (operations,)."""

    timeline: Timeline
    wait_ns: Ints
    blamed: Ints
    nbytes: Ints

    @property
    def on_compute(self) -> npt.NDArray[np.bool_]:
        """Say of each operation whether a compute queue runs it."""
        found: npt.NDArray[np.bool_] = self.timeline.queue == Queue.COMPUTE
        return found

    def shown(self, rank: int) -> Ints:
        """Return the rows of a rank that have something to show: a length, or a wait of the compute queue."""
        timeline = self.timeline
        seen = (timeline.end_ns > timeline.start_ns) | ((self.wait_ns > 0) & self.on_compute)
        return np.flatnonzero((timeline.rank == rank) & seen)


def excerpt(timeline: Timeline, launches: Ints | None = None) -> StepExcerpt:
    """Return what is shown of a step: the rank that has most memory in use and the one that waits longest.

    Waits and bytes are those of the timeline's plan, and unknown without one. ``launches`` is the host's time to issue
    each operation, in ns, where it is known.
    """
    step = _step(timeline, launches)
    ranks = _ranks(step)
    rows = [step.shown(rank) for rank, _ in ranks]
    window, whole = _window(timeline, rows)
    return StepExcerpt(
        step_time_ns=timeline.step_time_ns,
        window_ns=window,
        whole=whole,
        ranks=tuple(
            _rank(step, rank, why, _within(timeline, own, window)) for (rank, why), own in zip(ranks, rows, strict=True)
        ),
        of_ranks=max(len(np.unique(timeline.rank)), 1),
    )


def same_excerpt(timeline: Timeline, of: StepExcerpt, launches: Ints | None = None) -> StepExcerpt:
    """Return the same ranks and operations of another timeline of the same plan, e.g. the measured one."""
    step = _step(timeline, launches)
    place = {op: row for row, op in enumerate(timeline.op.tolist())}
    ranks = []
    for one in of.ranks:
        rows = np.asarray([place[op] for op in one.boxes.op if op in place], dtype=np.int64)
        ranks.append(_rank(step, one.rank, one.why, rows))
    return of.model_copy(update={STEP_TIME: timeline.step_time_ns, "ranks": tuple(ranks)})


def _step(timeline: Timeline, launches: Ints | None) -> _Step:
    plan = timeline.plan
    if plan is None or len(plan) != len(timeline):
        nothing = np.zeros(len(timeline), dtype=np.int64)
        return _Step(timeline=timeline, wait_ns=nothing, blamed=nothing + NO_EDGE, nbytes=nothing)
    waited = waits(plan, timeline.end_ns, launches)
    blamed = np.where(waited.wait_ns > 0, waited.blamed, NO_EDGE)
    return _Step(timeline=timeline, wait_ns=waited.wait_ns, blamed=blamed, nbytes=plan.ops.nbytes)


def _peak(timeline: Timeline, rank: int) -> int:
    return int(timeline.memory.device_bytes[timeline.memory.rank == rank].max(initial=0))


def _stalled(step: _Step, rank: int) -> int:
    counts = (step.timeline.rank == rank) & step.on_compute & (STALL_OF[step.blamed] >= 0)
    return int(step.wait_ns[counts].sum())


def _ranks(step: _Step) -> list[tuple[int, Why]]:
    """Return the ranks to show, each with the reason."""
    every = np.unique(step.timeline.rank).tolist()
    if not every:
        return []
    fullest = max(every, key=lambda rank: (_peak(step.timeline, rank), -rank))
    others = [rank for rank in every if rank != fullest]
    if not others:
        return [(fullest, "fullest")]
    second = max(others, key=lambda rank: (_stalled(step, rank), -rank))
    longest = _stalled(step, second) > 0 and _stalled(step, second) >= _stalled(step, fullest)
    return [(fullest, "fullest"), (second, "waits longest" if longest else "another")]


def _window(timeline: Timeline, shown: Sequence[Ints]) -> tuple[tuple[int, int], bool]:
    """Return start and end of the stretch to show, the same for the ranks, and whether it is the whole step."""
    start, end = int(timeline.start_ns.min(initial=0)), int(timeline.end_ns.max(initial=0))
    longest = max(shown, key=len, default=np.zeros(0, dtype=np.int64))
    if len(longest) <= MOST_BOXES:
        return (start, end), True
    part = replace(timeline, **{name: getattr(timeline, name)[longest] for name in COLUMNS}, plan=None)
    most = MOST_BOXES
    while True:
        start, end = steady_window(part, most)
        held = max(len(_within(timeline, rows, (start, end))) for rows in shown)
        if held <= MOST_BOXES:
            return (start, end), False
        # What began before the stretch and goes on in it is shown too.
        most -= held - MOST_BOXES


def _within(timeline: Timeline, rows: Ints, window: tuple[int, int]) -> Ints:
    """Return those of the rows that overlap the window."""
    start, end = window
    return rows[(timeline.end_ns[rows] >= start) & (timeline.start_ns[rows] <= end)]


def _rank(step: _Step, rank: int, why: Why, rows: Ints) -> RankExcerpt:
    timeline = step.timeline
    return RankExcerpt(
        rank=rank,
        why=why,
        peak_device_bytes=_peak(timeline, rank),
        stalled_ns=_stalled(step, rank),
        memory=_memory(timeline, rank),
        boxes=Boxes(
            op=_ints(timeline.op[rows]),
            kind=_ints(timeline.kind[rows]),
            queue=_ints(timeline.queue[rows]),
            stage=_ints(timeline.stage[rows]),
            unit=_ints(timeline.unit[rows]),
            microbatch=_ints(timeline.microbatch[rows]),
            start_ns=_ints(timeline.start_ns[rows]),
            duration_ns=_ints(timeline.end_ns[rows] - timeline.start_ns[rows]),
            nbytes=_ints(step.nbytes[rows]),
            wait_ns=_ints(step.wait_ns[rows]),
            cause=_ints(step.blamed[rows]),
        ),
        busy_percent=_busy(step, rank),
    )


def _ints(column: npt.NDArray[np.integer]) -> tuple[int, ...]:
    return tuple(column.tolist())


def _memory(timeline: Timeline, rank: int) -> MemoryCurve:
    at = np.flatnonzero(timeline.memory.rank == rank)
    levels = timeline.memory.device_bytes[at]
    kept = thinned(levels, MOST_SAMPLES)
    return MemoryCurve(t_ns=_ints(timeline.memory.t_ns[at][kept]), device_bytes=_ints(levels[kept]))


def thinned(values: Ints, most: int) -> Ints:
    """Return the places of at most ``most`` values: the first, the last, and of each stretch the extremes."""
    if len(values) <= most:
        return np.arange(len(values), dtype=np.int64)
    stretches = np.array_split(np.arange(1, len(values) - 1), max((most - 2) // 2, 1))
    kept = {0, len(values) - 1}
    for places in stretches:
        kept |= {int(places[values[places].argmin()]), int(places[values[places].argmax()])}
    return np.asarray(sorted(kept), dtype=np.int64)


def _busy(step: _Step, rank: int) -> tuple[int, ...]:
    """Return how many percent of each equal part of the step the rank's compute queue is busy."""
    timeline = step.timeline
    at = np.flatnonzero((timeline.rank == rank) & step.on_compute & (timeline.end_ns > timeline.start_ns))
    begin, end = int(timeline.start_ns.min(initial=0)), int(timeline.end_ns.max(initial=0))
    if end <= begin:
        return ()
    edges = np.linspace(begin, end, min(MOST_BINS, end - begin) + 1)
    shares = busy_shares(timeline.start_ns[at], timeline.end_ns[at], edges)
    return tuple(round(100 * share) for share in shares.tolist())
