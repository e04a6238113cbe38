"""Draws what ran when: a row per rank and queue, the prediction above the measurement, on one time axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.style import (
    DARK_KINDS,
    DPI,
    FAINT,
    INK,
    KIND_COLOUR,
    QUIET,
    STALL_COLOUR,
    STALL_LABEL,
    WIDTH_INCHES,
    light_grid,
    new_figure,
    styled,
    time_scale,
)
from loadahead.reports.run_data import RunData
from loadahead.sim.ir.kinds import COPY_KINDS, Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.stalls import stall_name, waits
from loadahead.sim.timeline import Timeline
from loadahead.sim.units import format_duration

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

TITLE = "What ran when"
MOST_RANKS = 8
# A rank's send and receive share a lane, since they show two ends of transfers and are mostly empty.
LANES = (
    ("compute", (Queue.COMPUTE,)),
    ("copy out", (Queue.D2H,)),
    ("copy in", (Queue.H2D,)),
    ("send, receive", (Queue.SEND, Queue.RECV)),
)
# These are marks on the compute queue that take no time; only the hatched wait before them can be seen.
_MARKS = np.asarray([Kind.RELEASE, Kind.ACQUIRE])
_LABELS = {
    Kind.SEND_ACTIVATION: "SEND / RECV ACTIVATION",
    Kind.SEND_GRADIENT: "SEND / RECV GRADIENT",
    Kind.RECV_ACTIVATION: "SEND / RECV ACTIVATION",
    Kind.RECV_GRADIENT: "SEND / RECV GRADIENT",
}
_UNKNOWN = "unknown"
_WAIT_COLOUR = STALL_COLOUR | {_UNKNOWN: QUIET}
_WAIT_LABEL = {name: f"waits for {what}" for name, what in STALL_LABEL.items()} | {_UNKNOWN: "waits"}

# Waits narrower than the first share of the time axis are not hatched, boxes narrower than the second not outlined.
_HAIR, _OUTLINED = 0.0008, 0.003
_BLENDED = (
    " Most boxes are narrower than two dots of this picture: broad bands of colour come from drawing and mean nothing, "
    "while waits and the ends of the rows can be trusted."
)
_ROW_INCHES, _FEW_ROWS, _AXES_INCHES = 0.17, 16, WIDTH_INCHES - 1.6
_NUMBER_POINTS = 6.2


@dataclass(frozen=True, slots=True)
class _Row:
    """Describes one row of the picture: a source's operations of one lane of one rank."""

    source: str
    rank: int
    lane: str
    queues: tuple[Queue, ...]
    y: float


@dataclass(frozen=True, slots=True)
class _Waits:
    """Holds times in which a compute queue stood still for an edge; arrays of shape (waits,)."""

    rank: Ints
    start_ns: Ints
    length_ns: Ints
    reason: list[str]


def _waits_of_plan(plan: Plan, timeline: Timeline, launches: Ints | None) -> _Waits:
    """Return the waits that the metrics count; ``launches`` is the host's time to issue each operation, if known."""
    waited = waits(plan, timeline.end_ns, launches)
    at = np.flatnonzero((waited.wait_ns > 0) & (timeline.queue == Queue.COMPUTE))
    reasons = [stall_name(kind) or _UNKNOWN for kind in waited.blamed[at].tolist()]
    return _Waits(timeline.rank[at].astype(np.int64), waited.ready_ns[at], waited.wait_ns[at], reasons)


def _launches(data: RunData, plan: Plan, timeline: Timeline) -> Ints | None:
    """Return the host's time to issue each operation, in ns: as measured, or as the costs have it; None for neither."""
    if timeline is data.measured:
        issue = timeline.header.get("issue_ns")
        whole = isinstance(issue, list) and len(issue) == len(plan) and all(type(ns) is int for ns in issue)
        return np.asarray(issue, dtype=np.int64) if whole else None
    return None if data.costs is None else data.costs.launches(plan)


def _gaps(timeline: Timeline) -> _Waits:
    """Return each gap between operations of a compute queue, for no known reason where the plan is not known."""
    ranks, starts, lengths = [], [], []
    for rank in np.unique(timeline.rank).tolist():
        at = np.flatnonzero((timeline.rank == rank) & (timeline.queue == Queue.COMPUTE))
        gap = timeline.start_ns[at][1:] - timeline.end_ns[at][:-1]
        wide = np.flatnonzero(gap > 0)
        ranks.append(np.full(len(wide), rank, dtype=np.int64))
        starts.append(timeline.end_ns[at][:-1][wide])
        lengths.append(gap[wide])
    columns = [np.concatenate(parts) if parts else np.zeros(0, np.int64) for parts in (ranks, starts, lengths)]
    return _Waits(columns[0], columns[1], columns[2], [_UNKNOWN] * len(columns[0]))


def _shown_ranks(ranks: list[int]) -> list[int]:
    if len(ranks) <= MOST_RANKS:
        return ranks
    half = MOST_RANKS // 2
    return ranks[:half] + ranks[-half:]


def _rows(sources: dict[str, Timeline], ranks: list[int]) -> list[_Row]:
    """Return rows from top to bottom, one unit high; rows of a lane stand closer together than lanes and ranks do."""
    rows, y = [], 0.0
    for rank in ranks:
        for lane, queues in LANES:
            codes = np.asarray(queues)
            if not any(np.isin(t.queue[t.rank == rank], codes).any() for t in sources.values()):
                continue
            for source in sources:
                rows.append(_Row(source, rank, lane, queues, y))
                y += 1.0
            y += 0.35
        y += 0.7
    return rows


def _box_numbers(axes: Axes, timeline: Timeline, at: Ints, y: float, span: float, scale: float) -> None:
    """Write the microbatch's number into each box, where boxes of this kind are wide enough for it to be read."""
    points = (timeline.end_ns[at] - timeline.start_ns[at]) / span * _AXES_INCHES * 72
    if np.median(points) <= 1.2 * _NUMBER_POINTS:
        return
    for row, room in zip(at.tolist(), points.tolist(), strict=True):
        text = str(int(timeline.microbatch[row]))
        length = float(timeline.end_ns[row] - timeline.start_ns[row])
        if int(timeline.microbatch[row]) >= 0 and room > _NUMBER_POINTS * (0.64 * len(text) + 0.1):
            colour = "white" if Kind(int(timeline.kind[row])) in DARK_KINDS else INK
            middle = (timeline.start_ns[row] + length / 2) / scale
            axes.text(
                middle, y + 0.52, text, ha="center", va="center", fontsize=_NUMBER_POINTS, color=colour, clip_on=True
            )


def _draw_boxes(axes: Axes, timeline: Timeline, row: _Row, span: float, scale: float) -> None:
    mine = (timeline.rank == row.rank) & np.isin(timeline.queue, np.asarray(row.queues))
    mine &= ~np.isin(timeline.kind, _MARKS) & (timeline.end_ns > timeline.start_ns)
    for code in np.unique(timeline.kind[mine]).tolist():
        at = np.flatnonzero(mine & (timeline.kind == code))
        start, length = timeline.start_ns[at] / scale, (timeline.end_ns[at] - timeline.start_ns[at]) / scale
        # White outlines keep neighbours apart, but would swallow narrow boxes.
        outlined = bool(np.median(length) * scale > span * _OUTLINED)
        axes.broken_barh(
            list(zip(start.tolist(), length.tolist(), strict=True)),
            (row.y + 0.06, 0.88),
            facecolors=KIND_COLOUR[Kind(code)],
            edgecolors="white" if outlined else "face",
            linewidth=0.5 if outlined else 0.2,
        )
        _box_numbers(axes, timeline, at, row.y, span, scale)


def _draw_waits(axes: Axes, queue_waits: _Waits, row: _Row, span: float, scale: float) -> None:
    for reason in sorted(set(queue_waits.reason)):
        same = np.asarray([r == reason for r in queue_waits.reason])
        at = np.flatnonzero(same & (queue_waits.rank == row.rank) & (queue_waits.length_ns > span * _HAIR))
        bars = [(float(queue_waits.start_ns[i]) / scale, float(queue_waits.length_ns[i]) / scale) for i in at.tolist()]
        if bars:
            axes.broken_barh(
                bars,
                (row.y + 0.16, 0.68),
                facecolors="white",
                edgecolors=_WAIT_COLOUR[reason],
                hatch="//////",
                linewidth=0.4,
            )


def _legend(axes: Axes, kinds: set[Kind], reasons: set[str]) -> None:
    from matplotlib.patches import Patch

    handles: dict[str, Artist] = {}
    for kind in sorted(kinds):
        handles.setdefault(_LABELS.get(kind, kind.name), Patch(facecolor=KIND_COLOUR[kind]))
    for reason in sorted(reasons):
        patch = Patch(facecolor="white", edgecolor=_WAIT_COLOUR[reason], hatch="//////", linewidth=0.4)
        handles[_WAIT_LABEL[reason]] = patch
    figure = axes.get_figure()
    assert figure is not None
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper left",
        ncols=min(len(handles), 6),
        handlelength=1.4,
        columnspacing=1.2,
    )


def _label_rows(axes: Axes, rows: list[_Row], both: bool) -> None:
    ticks, labels, last = [], [], None
    for row in rows:
        first = (row.rank, row.lane) != last
        last = (row.rank, row.lane)
        ticks.append(row.y + 0.5)
        lane = f"rank {row.rank}  {row.lane}" if first else ""
        labels.append(f"{lane}  {row.source}" if both else lane)
    axes.set_yticks(ticks, labels, fontsize=7.5)
    axes.tick_params(axis="y", length=0)


def _sources(data: RunData) -> dict[str, Timeline]:
    timelines = {"predicted": data.predicted, "measured": data.measured}
    return {
        name: timeline for name, timeline in timelines.items() if timeline is not None and timeline.step_time_ns > 0
    }


def _caption(sources: dict[str, Timeline], reasons: set[str], hidden: int, has_copies: bool) -> str:
    times = ", ".join(f"{format_duration(t.step_time_ns)} as {name}" for name, t in sources.items())
    parts = [f"One step, {times}. Numbers in the boxes are microbatches."]
    if len(sources) > 1:
        parts.append("The prediction stands above the measurement: boxes that start further right below ran late.")
    if not has_copies:
        parts.append("This plan copies nothing.")
    parts.append(
        "Hatched: the compute queue stands still and waits; blank at the end: the rank is done."
        if reasons
        else "The compute queues never wait."
    )
    if hidden:
        some = "One rank" if hidden == 1 else f"{hidden} ranks"
        are = "is" if hidden == 1 else "are"
        parts.append(f"{some} between the first and the last {MOST_RANKS // 2} {are} not drawn.")
    return " ".join(parts)


@styled()
def gantt(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw rows per rank and queue, predicted above measured: colours by kind, waits hatched in their cause's."""
    sources = _sources(data)
    if not sources:
        return Missing(title=TITLE, reason="there is no timeline with operations")
    every = sorted({int(rank) for timeline in sources.values() for rank in np.unique(timeline.rank)})
    ranks = _shown_ranks(every)
    rows = _rows(sources, ranks)
    height = max(rows[-1].y + 1.5, 3.0)
    figure, [[axes]] = new_figure(_ROW_INCHES * max(height, min(1.5 * height, _FEW_ROWS)) + 1.1)
    longest = max(int(timeline.end_ns.max()) for timeline in sources.values())
    scale, unit = time_scale(longest)
    reasons: set[str] = set()
    queue_waits = {
        name: _gaps(t) if data.plan is None else _waits_of_plan(data.plan, t, _launches(data, data.plan, t))
        for name, t in sources.items()
    }
    for row in rows:
        if row.source == "measured":
            axes.axhspan(row.y, row.y + 1, color=FAINT, alpha=0.35, linewidth=0)
        _draw_boxes(axes, sources[row.source], row, longest, scale)
        if Queue.COMPUTE in row.queues:
            _draw_waits(axes, queue_waits[row.source], row, longest, scale)
            reasons |= _visible(queue_waits[row.source], row.rank, longest)
    _label_rows(axes, rows, len(sources) > 1)
    axes.set(xlim=(0, longest / scale * 1.005), ylim=(rows[-1].y + 1.2, -0.2))
    axes.set_xlabel(f"time since the step began ({unit})")
    axes.spines["left"].set_visible(False)
    light_grid(axes, "x")
    kinds = {Kind(code) for t in sources.values() for code in np.unique(t.kind).tolist() if code not in _MARKS}
    _legend(axes, kinds, reasons)
    caption = _caption(sources, reasons, len(every) - len(ranks), bool(kinds & COPY_KINDS))
    return Drawing(
        figure=figure,
        title=TITLE,
        caption=caption + _BLENDED if _blended(sources, longest) else caption,
    )


def _blended(sources: dict[str, Timeline], span: int) -> bool:
    """Return whether most boxes of the compute queues are narrower than two dots of the picture."""
    for timeline in sources.values():
        tasks = (timeline.queue == Queue.COMPUTE) & (timeline.end_ns > timeline.start_ns)
        lengths = (timeline.end_ns - timeline.start_ns)[tasks]
        if len(lengths) and np.median(lengths) / span * _AXES_INCHES * DPI < 2:
            return True
    return False


def _visible(queue_waits: _Waits, rank: int, span: float) -> set[str]:
    keep: npt.NDArray[np.bool_] = (queue_waits.rank == rank) & (queue_waits.length_ns > span * _HAIR)
    return {queue_waits.reason[i] for i in np.flatnonzero(keep).tolist()}
