"""Makes the Gantt chart of a run: chooses ranks and stretch, and finds boxes, waits and arrows.

A chart has room for so many boxes. A longer step is shown as a stretch around its middle, of a few ranks, and beside it
is an overview of the whole step: how much of each of its columns the ranks compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from loadahead.reports.devices import of_one_device
from loadahead.reports.run_data import RunData
from loadahead.reports.views.base import Missing
from loadahead.reports.views.busy import busy_shares
from loadahead.reports.views.gantt_parts import (
    LANES,
    LEAST_POINTS,
    OFF_BY,
    TITLE,
    Band,
    Box,
    Gantt,
    Room,
    Row,
    StepWaits,
    Wait,
    Way,
)
from loadahead.reports.views.time_parts import HOST, TimeParts, time_parts
from loadahead.reports.views.time_waits import CAUSES, NOT_KNOWN, QueueWaits, queue_waits
from loadahead.reports.views.timelines import MEASURED, PREDICTED, end_of, far_apart, peaks_of, ranks_of, steps_of
from loadahead.reports.views.window import around, half_window
from loadahead.sim.ir.kinds import COPY_KINDS, TASK_KINDS, Kind
from loadahead.sim.ir.plan import Ints
from loadahead.sim.timeline import Timeline

# These are marks on the compute queue that take no time; only the hatched wait before them can be seen.
_MARKS = np.asarray([Kind.RELEASE, Kind.ACQUIRE])


def gantt(data: RunData, room: Room | None = None) -> Gantt | Missing:
    """Return the chart of a run that fits into a room, that of a page where none is given, or why there is none."""
    room = room or Room()
    steps = steps_of(data)
    if not steps:
        nothing = data.predicted is None and data.measured is None
        return Missing(title=TITLE, reason="there is no timeline with operations", absent=nothing)
    waited = {name: queue_waits(data, step) for name, step in steps.items()}
    every = ranks_of(steps)
    ranks = _ranks(steps, every, next(iter(waited.values())), room.ranks)
    rows = _rows(steps, ranks)
    alike = _alike(steps)
    wholes = {name: (int(step.start_ns.min()), end_of(step)) for name, step in steps.items()}
    spans, shown_whole = _spans(steps, wholes, rows, room, alike)
    # Steps are not compared that are of different devices, or so far apart that they need axes of their own.
    comparable = alike and _compare(steps) and not far_apart(end - start for start, end in wholes.values())
    differ = _differing(steps) if comparable else None
    still = _still(data)
    boxes: list[Box] = []
    compared = off = 0
    for number, row in enumerate(rows):
        step = steps[row.source]
        at = _in_row(step, row, spans[row.source])
        marked = differ if row.source == MEASURED else None
        if marked is not None:
            compared, off = compared + len(at), off + int(marked[at].sum())
        boxes += _boxes(step, at, number, spans[row.source], room, marked)
    waits = _waits(waited, rows, spans, room.points)
    widths = [_points(box.end_ns - box.start_ns, spans[rows[box.row].source], room.points) for box in boxes]
    return Gantt(
        rows=tuple(rows),
        boxes=tuple(boxes),
        waits=tuple(waits),
        ways=tuple(
            _ways(next(iter(steps.values())), rows, next(iter(spans.items())), room.arrows if len(ranks) <= 2 else 1)
        ),
        overview=() if shown_whole else tuple(_overview(steps, wholes, ranks, room.columns)),
        spans=spans,
        wholes=wholes,
        ranks=ranks,
        all_ranks=len(every),
        step_waits={
            name: StepWaits(
                total_ns=found.total_ns,
                longest_ns=found.longest_ns,
                step_ns=steps[name].step_time_ns,
                drawn=sum(rows[wait.row].source == name for wait in waits),
                host_ns=still.get((name, HOST), 0),
                unknown_ns=still.get((name, NOT_KNOWN), 0),
                ranks=len(every),
            )
            for name, found in waited.items()
        },
        least_points=max(min(widths, default=LEAST_POINTS), LEAST_POINTS),
        compared=compared if differ is not None else None,
        off=off if differ is not None else None,
        has_copies=any(np.isin(step.kind, sorted(COPY_KINDS)).any() for step in steps.values()),
        with_plan=data.plan is not None,
    )


def _ranks(steps: Mapping[str, Timeline], every: tuple[int, ...], waited: QueueWaits, most: int) -> dict[int, str]:
    """Return the ranks to show, in order, each with why: all of a few, else the ends, the fullest, the most waiting."""
    if len(every) <= most:
        return dict.fromkeys(every, "all ranks are shown")
    peaks = peaks_of(next(iter(steps.values())))
    waits = {rank: int(waited.length_ns[waited.rank == rank].sum()) for rank in every}
    found: dict[int, list[str]] = {}
    most_waiting = max(every, key=lambda rank: (waits[rank], -rank))
    fullest = max(every, key=lambda rank: (peaks.get(rank, 0), -rank))
    for rank, why in ((every[0], "first"), (most_waiting, "waits most"), (every[-1], "last"), (fullest, "fullest")):
        if rank in found or len(found) < most:
            found.setdefault(rank, []).append(why)
    between = [every[round(place)] for place in np.linspace(0, len(every) - 1, most + 2)[1:-1]]
    for rank in [rank for rank in (*between, *every) if rank not in found][: most - len(found)]:
        found[rank] = ["between them"]
    return {rank: ", ".join(found[rank]) for rank in sorted(found)}


def _rows(steps: Mapping[str, Timeline], ranks: Mapping[int, str]) -> list[Row]:
    """Return rows from top to bottom; a lane of which nothing takes time has none."""
    rows = []
    for rank in ranks:
        for lane, queues in LANES:
            used = any(
                ((step.rank == rank) & np.isin(step.queue, np.asarray(queues)) & (step.end_ns > step.start_ns)).any()
                for step in steps.values()
            )
            rows += [Row(source=source, rank=rank, lane=lane) for source in steps] if used else []
    return rows


def _alike(steps: Mapping[str, Timeline]) -> bool:
    """Return whether a prediction and a measurement have the same operations."""
    if len(steps) < 2:
        return False
    first, second = steps.values()
    return (
        len(first) == len(second)
        and bool((first.op == second.op).all())
        and bool((first.kind == second.kind).all())
        and bool((first.rank == second.rank).all())
    )


def _compare(steps: Mapping[str, Timeline]) -> bool:
    predicted, measured = steps[PREDICTED], steps[MEASURED]
    return of_one_device(predicted.header.get("costs"), measured.source)


_Window = tuple[int, int]


def _spans(
    steps: Mapping[str, Timeline], wholes: Mapping[str, _Window], rows: list[Row], room: Room, alike: bool
) -> tuple[dict[str, _Window], bool]:
    """Return the stretch of each step to show, and whether that is all of it."""
    halves = []
    for name, step in steps.items():
        middle = sum(wholes[name]) // 2
        own = [_in_row(step, row, wholes[name]) for row in rows if row.source == name]
        limits = [(at, room.boxes_in_row) for at in own]
        limits.append((np.concatenate(own) if own else np.zeros(0, np.int64), room.boxes // len(steps)))
        found = [half_window(step.start_ns[at], step.end_ns[at], middle, most) for at, most in limits]
        known = [half / (wholes[name][1] - wholes[name][0]) for half in found if half is not None]
        halves.append(min(known, default=0.5))
    share = min(halves)
    lengths = [end - start for start, end in wholes.values()]
    if share >= 0.5:
        if far_apart(lengths):
            return dict(wholes), True
        both = min(start for start, _ in wholes.values()), max(end for _, end in wholes.values())
        return dict.fromkeys(steps, both), True
    spans = {name: around(whole, max(1, int((whole[1] - whole[0]) * share))) for name, whole in wholes.items()}
    if len(steps) == 2 and not far_apart(lengths):
        first, second = steps
        start, end = spans[first]
        begins = _same_moment(steps[first], steps[second], start) if alike else spans[second][0]
        spans[second] = begins, begins + end - start
    return spans, False


def _same_moment(first: Timeline, second: Timeline, at: int) -> int:
    """Return when the other step has the moment ``at``: so long before the first operation that follows it."""
    later = np.flatnonzero(first.start_ns >= at)
    if not len(later):
        return at
    op = later[np.argmin(first.start_ns[later])]
    return int(second.start_ns[op]) - (int(first.start_ns[op]) - at)


def _in_row(step: Timeline, row: Row, span: _Window) -> Ints:
    """Return the positions of a row's operations that take time and meet a stretch, in the order of their starts."""
    queues = dict(LANES)[row.lane]
    mine = (step.rank == row.rank) & np.isin(step.queue, np.asarray(queues)) & (step.end_ns > step.start_ns)
    mine &= ~np.isin(step.kind, _MARKS) & (step.end_ns > span[0]) & (step.start_ns < span[1])
    at = np.flatnonzero(mine)
    return at[np.argsort(step.start_ns[at], kind="stable")]


def _points(length_ns: int, span: _Window, points: float) -> float:
    return length_ns / (span[1] - span[0]) * points


def _boxes(
    step: Timeline, at: Ints, row: int, span: _Window, room: Room, differs: npt.NDArray[np.bool_] | None
) -> list[Box]:
    """Return a row's boxes; operations narrower than a dot are joined with such neighbours less than a dot off."""
    least = LEAST_POINTS / room.points * (span[1] - span[0])
    out: list[Box] = []
    group: list[int] = []
    for op in [*at.tolist(), None]:
        short = op is not None and step.end_ns[op] - step.start_ns[op] < least
        if group and not (short and step.start_ns[op] - step.end_ns[group[-1]] < least):
            out.append(_joined(step, group, row, differs))
            group = []
        if short:
            group.append(op)
        elif op is not None:
            out.append(_numbered(_joined(step, [op], row, differs), span, room))
    return out


def _numbered(box: Box, span: _Window, room: Room) -> Box:
    """Return an operation's box with its number, where what is seen of it has room for that."""
    seen = min(box.end_ns, span[1]) - max(box.start_ns, span[0])
    has_room = box.microbatch >= 0 and room.has_room(box.microbatch, _points(seen, span, room.points))
    return replace(box, numbered=has_room)


def _still(data: RunData) -> dict[tuple[str, str], int]:
    """Return how long the queues of each step stand still beside their waits, by step and part, in ns."""
    parts = time_parts(data) if data.plan is not None else None
    out: dict[tuple[str, str], int] = {}
    for bar in parts.bars if isinstance(parts, TimeParts) else ():
        for part in (HOST, NOT_KNOWN):
            out[bar.source, part] = out.get((bar.source, part), 0) + bar.parts_ns.get(part, 0)
    return out


def _joined(step: Timeline, group: list[int], row: int, differs: npt.NDArray[np.bool_] | None) -> Box:
    at = np.asarray(group)
    length = np.bincount(step.kind[at], weights=step.end_ns[at] - step.start_ns[at])
    return Box(
        row=row,
        kind=Kind(int(np.argmax(length))),
        microbatch=int(step.microbatch[at[0]]) if len(group) == 1 else -1,
        start_ns=int(step.start_ns[at[0]]),
        end_ns=int(step.end_ns[at].max()),
        operations=len(group),
        differs=differs is not None and bool(differs[at].any()),
    )


def _waits(
    waited: Mapping[str, QueueWaits], rows: list[Row], spans: Mapping[str, _Window], points: float
) -> list[Wait]:
    """Return the waits of compute rows that are at least a dot wide and meet the stretch."""
    out = []
    for number, row in enumerate(rows):
        if row.lane != LANES[0][0]:
            continue
        found, span = waited[row.source], spans[row.source]
        least = LEAST_POINTS / points * (span[1] - span[0])
        mine = (found.rank == row.rank) & (found.length_ns >= least)
        mine &= (found.start_ns < span[1]) & (found.start_ns + found.length_ns > span[0])
        for i in np.flatnonzero(mine).tolist():
            start = int(found.start_ns[i])
            out.append(
                Wait(
                    row=number,
                    cause=CAUSES[int(found.cause[i])],
                    start_ns=start,
                    end_ns=start + int(found.length_ns[i]),
                )
            )
    return out


def _differing(steps: Mapping[str, Timeline]) -> npt.NDArray[np.bool_]:
    """Return which operations start elsewhere in their step than predicted, or in another order on their lane."""
    predicted, measured = steps[PREDICTED], steps[MEASURED]
    at = [(step.start_ns - step.start_ns.min()) / step.step_time_ns for step in (predicted, measured)]
    out: npt.NDArray[np.bool_] = np.abs(at[0] - at[1]) > OFF_BY
    for rank in np.unique(predicted.rank).tolist():
        for _, queues in LANES:
            own = np.flatnonzero((predicted.rank == rank) & np.isin(predicted.queue, np.asarray(queues)))
            own = own[
                (predicted.end_ns[own] > predicted.start_ns[own]) & (measured.end_ns[own] > measured.start_ns[own])
            ]
            places = [np.argsort(np.argsort(step.start_ns[own], kind="stable")) for step in (predicted, measured)]
            out[own] |= places[0] != places[1]
    return out


def _ways(step: Timeline, rows: list[Row], span: tuple[str, _Window], most: int) -> list[Way]:
    """Return the ways of a few boundaries that lie inside the stretch as a whole, of each rank, evenly apart."""
    source, (start, end) = span
    place = {(row.rank, row.lane): number for number, row in enumerate(rows) if row.source == source}
    inside = (step.start_ns >= start) & (step.end_ns <= end)
    keys = list(zip(step.rank.tolist(), step.stage.tolist(), step.unit.tolist(), step.microbatch.tolist(), strict=True))

    def by_key(*kinds: Kind) -> dict[tuple[int, ...], int]:
        at = np.flatnonzero(inside & np.isin(step.kind, np.asarray(kinds)))
        return {keys[i]: i for i in at[::-1].tolist()}

    offloads, prefetches = by_key(Kind.OFFLOAD), by_key(Kind.PREFETCH)
    readers = by_key(Kind.RECOMPUTE, Kind.BACKWARD, Kind.BACKWARD_INPUT)
    out: list[Way] = []
    for rank in dict.fromkeys(row.rank for row in rows):
        # A lane whose operations take no time has no row.
        if not all((rank, lane) in place for lane in ("compute", "copy out", "copy in")):
            continue
        whole = [key for key in offloads if key[0] == rank and key in prefetches and key in readers]
        whole.sort(key=lambda key: int(step.start_ns[offloads[key]]))
        for i in sorted({round((n + 0.5) * len(whole) / most - 0.5) for n in range(most)} if whole else ()):
            key = whole[i]
            off, pre, reader = offloads[key], prefetches[key], readers[key]
            out.append(
                Way(
                    stage=key[1],
                    unit=key[2],
                    microbatch=key[3],
                    offload=(place[rank, "copy out"], int(step.end_ns[off])),
                    prefetch_start=(place[rank, "copy in"], int(step.start_ns[pre])),
                    prefetch_end=(place[rank, "copy in"], int(step.end_ns[pre])),
                    reader=(place[rank, "compute"], int(step.start_ns[reader])),
                )
            )
    return out


def _overview(
    steps: Mapping[str, Timeline], wholes: Mapping[str, _Window], ranks: Mapping[int, str], columns: int
) -> list[Band]:
    out = []
    tasks = np.asarray(sorted(TASK_KINDS))
    for rank in ranks:
        for name, step in steps.items():
            edges = np.linspace(*wholes[name], columns + 1)
            at = np.flatnonzero((step.rank == rank) & np.isin(step.kind, tasks))
            shares = busy_shares(step.start_ns[at], step.end_ns[at], edges)
            out.append(Band(source=name, rank=rank, shares=tuple(shares.round(4).tolist())))
    return out
