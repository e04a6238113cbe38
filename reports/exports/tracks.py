"""Says what a trace shows: the one model that Perfetto's and Chrome's writers take, predicted and measured alike.

A side is a group of processes, one for each rank and one for what ranks share. A rank's tracks are its queues and what
its compute queue waits for.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from loadahead.reports.exports.counters import Counter, counters, stalls
from loadahead.reports.exports.flows import Chain, Step, chains
from loadahead.reports.exports.names import (
    CATEGORY_OF,
    STALL_CATEGORY,
    STALL_NAMES,
    STALLS_PLACE,
    TRACKS,
    operation_name,
)
from loadahead.reports.exports.sides import Side
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Ints
from loadahead.sim.stalls import Waits, stall_name, waits
from loadahead.sim.timeline import Timeline

_NONE: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Holds a rank of a side, or what its ranks share (``rank`` None); numbers go up in the order of showing."""

    number: int
    side: str
    rank: int | None

    @property
    def name(self) -> str:
        """Return the name that viewers show."""
        return f"{self.side} shared" if self.rank is None else f"{self.side} rank {self.rank}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """Holds one row of slices of a process; numbers go up in the order of showing and are no process's."""

    number: int
    process: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterTrack:
    """Holds one counter of a process; its number is no process's and no track's."""

    number: int
    process: int
    counter: Counter


@dataclass(frozen=True, slots=True)
class Slice:
    """Holds one box of a track: an operation, or a stall. Its flows are (kind, number, where on the arrow's way)."""

    track: int
    name: str
    category: str
    start_ns: int
    end_ns: int
    args: dict[str, int | str]
    flows: tuple[tuple[str, int, Step], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Holds what one side's slices are made of: its rows, the rows that stall, and the track of each of both."""

    side: Side
    waited: Waits | None
    stalled: Ints
    chains: list[Chain]
    track: Ints
    first_flow: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Holds what a trace shows. Slices are made as they are read, as there may be hundreds of thousands.

    ``slices()`` yields each side's operations in the plan's order, so that no arrow comes before the operation that it
    starts from, and then its stalls. Slices of one track never overlap.
    """

    name: str
    processes: tuple[Process, ...]
    tracks: tuple[Track, ...]
    counters: tuple[CounterTrack, ...]
    rows: tuple[_Rows, ...]

    def slices(self) -> Iterator[Slice]:
        """Yield every slice of every track."""
        for rows in self.rows:
            yield from _operations(rows)
            yield from _stalls(rows)

    @property
    def slice_count(self) -> int:
        """Return how many slices there are."""
        return sum(len(rows.track) for rows in self.rows)

    @property
    def flow_count(self) -> int:
        """Return how many arrows there are; one that leads through three operations is one."""
        return sum(len(rows.chains) for rows in self.rows)

    @property
    def sample_count(self) -> int:
        """Return how many values all counters have."""
        return sum(len(track.counter.t_ns) for track in self.counters)


def trace_of(sides: tuple[Side, ...], name: str) -> Trace:
    """Return the trace of one side, or of both in one; raise InputError for times that no trace can hold."""
    pids = count(1)
    processes = [
        Process(number=next(pids), side=side.name, rank=rank) for side in sides for rank in (*range(side.ranks), None)
    ]
    numbers, first_flow = pids, 1
    tracks: list[Track] = []
    shown: list[CounterTrack] = []
    rows: list[_Rows] = []
    for side in sides:
        _require_times(side.timeline, name)
        waited = None if side.plan is None else waits(side.plan, side.timeline.end_ns, side.launches)
        stalled = _NONE if side.plan is None or waited is None else stalls(side.plan, waited)
        own = {process.rank: process.number for process in processes if process.side == side.name}
        of_row = _add_tracks(_Boxes.of(side.timeline, waited, stalled), own, numbers, tracks)
        for counter in counters(side, waited):
            shown.append(CounterTrack(number=next(numbers), process=own[counter.rank], counter=counter))
        arrows = chains(side.timeline, waited)
        rows.append(
            _Rows(side=side, waited=waited, stalled=stalled, chains=arrows, track=of_row, first_flow=first_flow)
        )
        first_flow += len(arrows)
    return Trace(name=name, processes=tuple(processes), tracks=tuple(tracks), counters=tuple(shown), rows=tuple(rows))


def _require_times(timeline: Timeline, name: str) -> None:
    bad = np.flatnonzero((timeline.start_ns < 0) | (timeline.end_ns < timeline.start_ns))
    if len(bad):
        row = int(bad[0])
        raise InputError(
            f"{name}: operation {int(timeline.op[row])} runs from {int(timeline.start_ns[row])} to "
            f"{int(timeline.end_ns[row])} ns; a trace has times from 0 on and no end before its start"
        )
    if (timeline.rank < 0).any() or (timeline.memory.rank < 0).any() or (timeline.memory.t_ns < 0).any():
        raise InputError(f"{name}: has a rank or a memory sample's time below 0; a trace has both from 0 on")


@dataclass(frozen=True, slots=True)
class _Boxes:
    """Holds what a side's tracks are to show: its operations, then its stalls; arrays of shape (boxes,)."""

    rank: Ints
    place: Ints
    start_ns: Ints
    end_ns: Ints

    @classmethod
    def of(cls, timeline: Timeline, waited: Waits | None, stalled: Ints) -> _Boxes:
        ready = _NONE if waited is None else waited.ready_ns[stalled]
        until = _NONE if waited is None else ready + waited.wait_ns[stalled]
        return cls(
            np.concatenate([timeline.rank, timeline.rank[stalled]]).astype(np.int64),
            np.concatenate([timeline.queue, np.full(len(stalled), STALLS_PLACE)]).astype(np.int64),
            np.concatenate([timeline.start_ns, ready]),
            np.concatenate([timeline.end_ns, until]),
        )


def _add_tracks(boxes: _Boxes, own: dict[int | None, int], numbers: count[int], tracks: list[Track]) -> Ints:
    """Add the tracks of a side's ranks, and return that of each box; shape (boxes,).

    A queue runs one operation at a time. Where times say otherwise, as rounded ones may, what overlaps goes to another
    track of the queue: viewers would take it as lying inside.
    """
    of_box = np.zeros(len(boxes.rank), dtype=np.int64)
    ranks = [rank for rank in own if rank is not None]
    group = boxes.rank * len(TRACKS) + boxes.place
    order = np.lexsort((np.arange(len(group)), boxes.start_ns, group))
    bounds = np.searchsorted(group[order], np.arange(len(ranks) * len(TRACKS) + 1))
    for rank in ranks:
        for place, name in enumerate(TRACKS, rank * len(TRACKS)):
            mine = order[bounds[place] : bounds[place + 1]]
            lanes = _lanes(boxes.start_ns[mine], boxes.end_ns[mine])
            first = len(tracks)
            for lane in range(1 + int(lanes.max(initial=0))):
                called = name if lane == 0 else f"{name} ({lane + 1})"
                tracks.append(Track(number=next(numbers), process=own[rank], name=called))
            of_box[mine] = np.asarray([track.number for track in tracks[first:]], dtype=np.int64)[lanes]
    return of_box


def _lanes(start_ns: Ints, end_ns: Ints) -> Ints:
    """Return 0 for each interval, in order of their starts, or the first lane that is free where some overlap."""
    lanes = np.zeros(len(start_ns), dtype=np.int64)
    if not len(lanes) or (start_ns[1:] >= np.maximum.accumulate(end_ns)[:-1]).all():
        return lanes
    free = [-math.inf]
    for at, (start, end) in enumerate(zip(start_ns.tolist(), end_ns.tolist(), strict=True)):
        lane = next((number for number, until in enumerate(free) if until <= start), len(free))
        free[lane : lane + 1] = [end]
        lanes[at] = lane
    return lanes


def _flows(rows: _Rows) -> dict[int, tuple[tuple[str, int, Step], ...]]:
    """Return what flows each row has part in."""
    out: dict[int, list[tuple[str, int, Step]]] = defaultdict(list)
    for number, (what, chain) in enumerate(rows.chains, rows.first_flow):
        for place, row in enumerate(chain):
            step = Step.START if place == 0 else Step.END if place == len(chain) - 1 else Step.STEP
            out[row].append((what, number, step))
    return {row: tuple(flows) for row, flows in out.items()}


def _operations(rows: _Rows) -> Iterator[Slice]:
    """Yield the operations in the plan's order."""
    timeline, plan, waited = rows.side.timeline, rows.side.plan, rows.waited
    flows, nothing = _flows(rows), ()
    kinds, stages, units = timeline.kind.tolist(), timeline.stage.tolist(), timeline.unit.tolist()
    microbatches, ids, tracks = timeline.microbatch.tolist(), timeline.op.tolist(), rows.track.tolist()
    names = [operation_name(*key) for key in zip(kinds, stages, units, microbatches, strict=True)]
    start, end = timeline.start_ns.tolist(), timeline.end_ns.tolist()
    nbytes = [0] * len(ids) if plan is None else plan.ops.nbytes.tolist()
    waits_ns, edges = ([0] * len(ids),) * 2 if waited is None else (waited.wait_ns.tolist(), waited.edge.tolist())
    labels = [kind.name for kind in Kind]
    for row, kind in enumerate(kinds):
        args: dict[str, int | str] = {
            "op": ids[row],
            "kind": labels[kind],
            "stage": stages[row],
            "unit": units[row],
            "microbatch": microbatches[row],
        }
        if nbytes[row]:
            args["bytes"] = nbytes[row]
        if waits_ns[row]:
            edge = edges[row]
            args |= {"waited_for": names[edge], "waited_for_op": ids[edge], "waited_ns": waits_ns[row]}
        yield Slice(tracks[row], names[row], CATEGORY_OF[kind], start[row], end[row], args, flows.get(row, nothing))


def _stalls(rows: _Rows) -> Iterator[Slice]:
    """Yield the waits of compute queues that are stalls, by the name of their cause."""
    waited, timeline = rows.waited, rows.side.timeline
    if waited is None:
        return
    keys = (timeline.kind, timeline.stage, timeline.unit, timeline.microbatch)
    tracks = rows.track[len(timeline) :].tolist()
    for row, track in zip(rows.stalled.tolist(), tracks, strict=True):
        cause = stall_name(int(waited.blamed[row]))
        assert cause is not None
        edge, start, wait = int(waited.edge[row]), int(waited.ready_ns[row]), int(waited.wait_ns[row])
        waiting, awaited = (operation_name(*(int(column[at]) for column in keys)) for at in (row, edge))
        args: dict[str, int | str] = {
            "op": int(timeline.op[row]),
            "waiting": waiting,
            "waited_for": awaited,
            "waited_for_op": int(timeline.op[edge]),
            "waited_ns": wait,
        }
        yield Slice(track, STALL_NAMES[cause], STALL_CATEGORY, start, start + wait, args)
