"""Says where a step's time goes on each rank: what it computes, and what its compute queue waits for.

The parts of a rank add up to the step's time, to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loadahead.reports import run_directory
from loadahead.reports.launches import launches_of
from loadahead.reports.run_data import RunData
from loadahead.reports.views.base import Missing
from loadahead.reports.views.time_waits import CAUSES, NOT_KNOWN, OTHER
from loadahead.reports.views.timelines import (
    compute_queue,
    far_apart,
    own_axes_sentence,
    percent,
    ranks_of,
    step_files,
    steps_of,
)
from loadahead.sim.ir.kinds import TASK_KINDS, Kind
from loadahead.sim.ir.plan import Ints
from loadahead.sim.stalls import STALL_OF, Waits, waits
from loadahead.sim.step_metrics import STALLS
from loadahead.sim.timeline import Timeline
from loadahead.sim.units import format_duration

TITLE = "Where the step's time goes"
FORWARD, BACKWARD, RECOMPUTE, OPTIMIZER = "forward", "backward", "recompute", "optimizer"
HOST, DONE = "host", "done"
COMPUTE_PARTS = (FORWARD, BACKWARD, RECOMPUTE, OPTIMIZER)
IDLE_PARTS = (*STALLS, OTHER, HOST, NOT_KNOWN, DONE)
# A bar's parts stand in this order.
PARTS = (*COMPUTE_PARTS, *IDLE_PARTS)
_OF_KIND = {
    Kind.FORWARD: FORWARD,
    Kind.RECOMPUTE: RECOMPUTE,
    Kind.BACKWARD: BACKWARD,
    Kind.BACKWARD_INPUT: BACKWARD,
    Kind.BACKWARD_WEIGHT: BACKWARD,
    Kind.OPTIMIZER_STEP: OPTIMIZER,
}
assert set(_OF_KIND) == TASK_KINDS
_TASKS = np.asarray(sorted(TASK_KINDS))
IN_WORDS = {
    FORWARD: "forward passes",
    BACKWARD: "backward passes",
    RECOMPUTE: "recomputing",
    OPTIMIZER: "the optimizer's work",
    "release": "waits for offloads",
    "prefetch": "waits for prefetches",
    "send": "waits for sends",
    "recv": "the bubble (waits for other ranks)",
    OTHER: "waits for other operations",
    HOST: "waits for the host to issue work",
    NOT_KNOWN: "idle time without a known cause",
    DONE: "idle time after a rank's last operation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Holds one rank's step: the ns of each of :data:`PARTS` that is not 0."""

    source: str
    rank: int
    parts_ns: Mapping[str, int]

    @property
    def compute_ns(self) -> int:
        """Return how long the rank computes."""
        return sum(self.parts_ns.get(part, 0) for part in COMPUTE_PARTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeParts:
    """Holds every rank's bars, a rank's predicted one before its measured one, and each step's time in ns.

    ``shown`` are the ranks that a figure draws.
    """

    bars: tuple[Bar, ...]
    step_ns: Mapping[str, int]
    shown: tuple[int, ...]
    with_plan: bool

    @property
    def drawn(self) -> tuple[Bar, ...]:
        """Return the bars of the ranks that a figure draws."""
        return tuple(bar for bar in self.bars if bar.rank in self.shown)

    @property
    def own_axes(self) -> bool:
        """Return whether the steps are too far apart for one axis; bars then show shares of their step."""
        return far_apart(self.step_ns.values())

    @property
    def files(self) -> tuple[str, ...]:
        """Return the files of a run directory that all this is from."""
        return (*step_files(self.step_ns), *((run_directory.PLAN,) if self.with_plan else ()))

    @property
    def sentences(self) -> list[str]:
        """Return what the numbers say."""
        out = [self._of_source(source) for source in self.step_ns]
        if self.own_axes:
            out.append("Bars show shares of their own step. " + own_axes_sentence(self.step_ns))
        if not self.with_plan:
            out.append("Without the plan it is not known what a rank waits for.")
        ranks = sorted({bar.rank for bar in self.bars})
        if len(self.shown) < len(ranks):
            out.append(f"{len(self.shown)} of {len(ranks)} ranks are drawn: {', '.join(map(str, self.shown))}.")
        return out

    def _of_source(self, source: str) -> str:
        bars = [bar for bar in self.bars if bar.source == source]
        step = self.step_ns[source]
        sums = {part: sum(bar.parts_ns.get(part, 0) for bar in bars) for part in PARTS}
        whole = step * len(bars)
        of = "the rank's" if len(bars) == 1 else "the ranks'"
        compute = sum(sums[part] for part in COMPUTE_PARTS)
        text = f"As {source}, {percent(compute, whole)} of {of} time of {format_duration(step)} is computing"
        if sums[RECOMPUTE]:
            text += f", {percent(sums[RECOMPUTE], whole)} recomputing"
        idle = max(IDLE_PARTS, key=lambda part: sums[part])
        if not sums[idle]:
            return text + "; no rank is ever idle."
        text += f"; the largest part of the rest is {IN_WORDS[idle]}, {percent(sums[idle], whole)}"
        most = max(bars, key=lambda bar: bar.parts_ns.get(idle, 0))
        own = most.parts_ns[idle]
        return text + (
            "." if len(bars) == 1 else f" (rank {most.rank} has most: {format_duration(own)}, {percent(own, step)})."
        )


def time_parts(data: RunData, most_ranks: int = 16) -> TimeParts | Missing:
    """Return where each rank's time goes, or why that is not known."""
    steps = steps_of(data)
    if not steps:
        nothing = data.predicted is None and data.measured is None
        return Missing(title=TITLE, reason="there is no timeline with operations", absent=nothing)
    ranks = ranks_of(steps)
    waited = {
        name: None if data.plan is None else waits(data.plan, step.end_ns, launches_of(step, data.plan, data.costs))
        for name, step in steps.items()
    }
    bars = [_bar(name, step, rank, waited[name]) for rank in ranks for name, step in steps.items()]
    return TimeParts(
        bars=tuple(bars),
        step_ns={name: step.step_time_ns for name, step in steps.items()},
        shown=_spread(ranks, most_ranks),
        with_plan=data.plan is not None,
    )


def _spread(ranks: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return at most so many ranks, the first and the last among them, as evenly apart as may be."""
    if len(ranks) <= most:
        return ranks
    at = np.unique(np.linspace(0, len(ranks) - 1, most).round().astype(int))
    return tuple(ranks[i] for i in at.tolist())


def _bar(source: str, step: Timeline, rank: int, waited: Waits | None) -> Bar:
    begin, end = int(step.start_ns.min()), int(step.end_ns.max())
    own = compute_queue(step, rank)
    parts = dict.fromkeys(PARTS, 0)
    if not len(own):
        parts[NOT_KNOWN] = end - begin
        return Bar(source=source, rank=rank, parts_ns={name: ns for name, ns in parts.items() if ns})
    # Measured spans of a queue could meet by a clock's tick; what is counted once is not counted again.
    until = np.maximum.accumulate(step.end_ns[own])
    before = np.concatenate([[begin], until[:-1]])
    start = np.maximum(step.start_ns[own], before)
    busy = until - np.minimum(start, until)
    for kind, part in _OF_KIND.items():
        parts[part] += int(busy[step.kind[own] == kind].sum())
    # What computes nothing, a RELEASE or an ACQUIRE, takes time where it is measured: it waits in it.
    gap = until - before - np.where(np.isin(step.kind[own], _TASKS), busy, 0)
    for name, ns in _gaps(gap, before, own, waited).items():
        parts[name] += ns
    parts[DONE] = end - int(until[-1])
    return Bar(source=source, rank=rank, parts_ns={name: ns for name, ns in parts.items() if ns})


def _gaps(gap: Ints, before: Ints, own: Ints, waited: Waits | None) -> dict[str, int]:
    """Return what the times are in which no operation computes: waits as the metrics count them, the host, the rest."""
    if waited is None:
        return {NOT_KNOWN: int(gap.sum())}
    wait = np.minimum(waited.wait_ns[own], gap)
    host = np.clip(waited.ready_ns[own] - before, 0, gap - wait)
    stalls = STALL_OF[waited.blamed[own]]
    cause = np.where(stalls >= 0, stalls, CAUSES.index(OTHER))
    out = {name: int(wait[cause == at].sum()) for at, name in enumerate(CAUSES)}
    out[HOST] = int(host.sum())
    out[NOT_KNOWN] = int((gap - wait - host).sum())
    return out
