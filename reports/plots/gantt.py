"""Draws what ran when: a row per rank and queue, the prediction above the measurement, waits hatched by their cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.style import (
    FAINT,
    GROUND,
    INK,
    KIND_COLOUR,
    LIGHT,
    QUIET,
    SMALL,
    STALL_COLOUR,
    STALL_HATCH,
    STALL_LABEL,
    legend_above,
    light_grid,
    new_figure,
    styled,
)
from loadahead.reports.plots.time_axis import TimeAxis
from loadahead.reports.run_data import RunData
from loadahead.reports.views import gantt_parts as view
from loadahead.reports.views.gantt import gantt as chart_of
from loadahead.reports.views.time_waits import NOT_KNOWN, OTHER
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.units import format_duration

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_DIGIT = 0.64 * SMALL
ROOM = {
    Layout.WIDE: view.Room(digit=_DIGIT),
    Layout.NARROW: view.Room(boxes=500, boxes_in_row=50, ranks=2, points=180.0, columns=130, arrows=1, digit=_DIGIT),
}
_LABELS = {
    Kind.SEND_ACTIVATION: "SEND ACTIVATION",
    Kind.SEND_GRADIENT: "SEND GRADIENT",
    Kind.RECV_ACTIVATION: "SEND ACTIVATION",
    Kind.RECV_GRADIENT: "SEND GRADIENT",
}
_WAIT_COLOUR = STALL_COLOUR | {OTHER: QUIET, NOT_KNOWN: QUIET}
_WAIT_HATCH = STALL_HATCH | {OTHER: "++++", NOT_KNOWN: "//"}
_WAIT_LABEL = {name: f"waits for {what}" for name, what in STALL_LABEL.items()} | {
    OTHER: "waits for another operation",
    NOT_KNOWN: "waits",
}
_ROW_INCHES, _BAND_INCHES = 0.17, 0.16
_DIFFERS: dict[str, Any] = {"edgecolor": INK, "linewidth": 1.1}
_WINDOW: dict[str, Any] = {"facecolor": "none", "edgecolor": LIGHT["warning"], "linewidth": 1.3}


def _places(rows: Sequence[view.Row]) -> list[float]:
    """Return where each row stands; rows of a lane stand closer together than lanes and ranks do."""
    places, y = [], 0.0
    for number, row in enumerate(rows):
        if number and row.rank != rows[number - 1].rank:
            y += 1.5
        elif number and row.lane != rows[number - 1].lane:
            y += 0.35
        places.append(y)
        y += 1.0
    return places


def _boxes(axes: Axes, found: view.Gantt, axis: TimeAxis, places: list[float], points: float) -> None:
    least = {step: axis.width(step, view.LEAST_POINTS, points) for step in found.spans}
    by_look: dict[tuple[int, Kind, bool, bool], list[view.Box]] = {}
    for box in found.boxes:
        by_look.setdefault((box.row, box.kind, box.operations > 1, box.differs and found.outlined), []).append(box)
    # Outlined ones last, so that no neighbour hides their outline.
    for (number, kind, several, differs), boxes in sorted(by_look.items(), key=lambda item: item[0][3]):
        step = found.rows[number].source
        spans = []
        for box in boxes:
            left, right = axis.x(step, [box.start_ns, box.end_ns]).tolist()
            spans.append((left, max(right - left, least[step])))
        room = np.median([width for _, width in spans]) / least[step] * view.LEAST_POINTS
        # Outlines in the ground's colour keep neighbours apart, but would swallow narrow boxes.
        plain = {"edgecolor": GROUND, "linewidth": 0.5} if room > 3 else {"linewidth": 0}
        if several:
            plain = {"edgecolor": KIND_COLOUR[kind], "linewidth": 0.5}
        axes.broken_barh(
            spans,
            (places[number] + 0.06, 0.88),
            facecolors=FAINT if several else KIND_COLOUR[kind],
            **(_DIFFERS | {"linewidth": 1.1 if room > 3 else 0.6} if differs else plain),
        )
        _numbers(axes, axis, step, boxes, places[number])


def _numbers(axes: Axes, axis: TimeAxis, step: str, boxes: list[view.Box], y: float) -> None:
    """Write the microbatch's number into each box that has room for it."""
    first, last = axis.x(step, axis.spans[step]).tolist()
    for box in boxes:
        if not box.numbered:
            continue
        ends = np.clip(axis.x(step, [box.start_ns, box.end_ns]), first, last)
        left, right = (float(end) for end in ends)
        look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL, "color": GROUND, "clip_on": True}
        axes.text((left + right) / 2, y + 0.52, str(box.microbatch), **look)


def _waits(axes: Axes, found: view.Gantt, axis: TimeAxis, places: list[float]) -> None:
    by_look: dict[tuple[int, str], list[view.Wait]] = {}
    for wait in found.waits:
        by_look.setdefault((wait.row, wait.cause), []).append(wait)
    for (number, cause), waits in by_look.items():
        step = found.rows[number].source
        ends = [axis.x(step, [wait.start_ns, wait.end_ns]).tolist() for wait in waits]
        axes.broken_barh(
            [(left, right - left) for left, right in ends],
            (places[number] + 0.16, 0.68),
            facecolors=GROUND,
            edgecolors=_WAIT_COLOUR[cause],
            hatch=_WAIT_HATCH[cause],
            linewidth=0.4,
        )


def _ways(axes: Axes, found: view.Gantt, axis: TimeAxis, places: list[float]) -> None:
    from matplotlib.patches import FancyArrowPatch

    for way in found.ways:
        for start, end in ((way.offload, way.prefetch_start), (way.prefetch_end, way.reader)):
            step = found.rows[start[0]].source
            points = [(float(axis.x(step, ns)), places[row] + 0.5) for row, ns in (start, end)]
            arrow = FancyArrowPatch(
                *points,
                arrowstyle="-|>",
                mutation_scale=7,
                shrinkA=0,
                shrinkB=0,
                color=INK,
                linewidth=0.9,
                connectionstyle="arc3,rad=0.06",
                zorder=5,
                clip_on=True,
            )
            axes.add_patch(arrow)


def _overview(axes: Axes, found: view.Gantt, layout: Layout) -> None:
    """Draw how much of each column of the whole step the ranks compute, and frame the stretch that is shown below."""
    from matplotlib.patches import Rectangle

    labels = []
    for number, band in enumerate(found.overview):
        edges = np.linspace(0, 1, len(band.shares) + 1)
        axes.axhspan(number + 0.04, number + 0.96, color=FAINT, linewidth=0)
        # From below in a row whose axis points downwards.
        values = number + 0.96 - 0.92 * np.asarray(band.shares)
        axes.stairs(values, edges, baseline=number + 0.96, fill=True, color=LIGHT["accent"], linewidth=0)
        begin, end = found.wholes[band.source]
        left, right = ((ns - begin) / (end - begin) for ns in found.spans[band.source])
        axes.add_patch(Rectangle((left, number), right - left, 1, **_WINDOW, zorder=4))
        both = len(found.spans) > 1 and layout is Layout.WIDE
        first = number == 0 or band.rank != found.overview[number - 1].rank
        name = f"rank {band.rank}" if first or both else ""
        labels.append(f"{name}  {band.source}" if both else name)
    axes.set_yticks([n + 0.5 for n in range(len(labels))], labels, fontsize=SMALL)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(-0.002, 1.002), ylim=(len(labels) + 0.05, -0.05))
    times = " / ".join(format_duration(end - begin) for begin, end in found.wholes.values())
    axes.set_title(f"The whole step: {times}", fontsize=8.5, fontweight="normal")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _label_rows(axes: Axes, found: view.Gantt, places: list[float], layout: Layout) -> None:
    both = len(found.spans) > 1
    ticks, labels = [], []
    for number, row in enumerate(found.rows):
        before = found.rows[number - 1] if number else None
        first = before is None or (before.rank, before.lane) != (row.rank, row.lane)
        if before is None or before.rank != row.rank:
            why = found.ranks[row.rank]
            some = len(found.ranks) < found.all_ranks
            axes.text(
                0.0,
                places[number] - 0.12,
                f"Rank {row.rank}" + (f" ({why})" if some else ""),
                transform=axes.get_yaxis_transform(),
                ha="left",
                va="bottom",
                fontsize=8.5,
            )
        lane = row.lane if first else ""
        if layout is Layout.WIDE:
            ticks.append(places[number] + 0.5)
            labels.append(f"{lane}  {row.source}" if both else lane)
        elif first:
            ticks.append(places[number] + (1.0 if both else 0.5))
            labels.append({"send, receive": "send"}.get(lane, lane))
    axes.set_yticks(ticks, labels, fontsize=SMALL)
    axes.tick_params(axis="y", length=0)


def _legend(found: view.Gantt) -> tuple[list[Artist], list[str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: dict[str, Artist] = {}
    for kind in sorted({box.kind for box in found.boxes}):
        handles.setdefault(_LABELS.get(kind, kind.name.replace("_", " ")), Patch(facecolor=KIND_COLOUR[kind]))
    for cause in sorted({wait.cause for wait in found.waits}):
        handles[_WAIT_LABEL[cause]] = Patch(
            facecolor=GROUND, edgecolor=_WAIT_COLOUR[cause], hatch=_WAIT_HATCH[cause], linewidth=0.4
        )
    if len(found.spans) > 1:
        handles["measured (grey row)"] = Patch(facecolor=FAINT)
    if found.outlined:
        handles["differs from the prediction"] = Patch(facecolor=GROUND, **_DIFFERS)
    if found.ways:
        handles["a boundary's way"] = Line2D([], [], color=INK, linewidth=0.9, marker=">", markersize=4)
    return list(handles.values()), list(handles)


@styled()
def gantt(data: RunData, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw the step, or a stretch of it below an overview of the whole."""
    found = chart_of(data, ROOM[layout])
    if isinstance(found, Missing):
        return found
    places = _places(found.rows)
    inches = _ROW_INCHES * max(places[-1] + 2.5, 6)
    strip = _BAND_INCHES * len(found.overview)
    ratios = [strip, inches] if found.overview else [inches]
    figure, grid = new_figure(
        inches + strip + (1.9 if found.overview else 1.5),
        len(ratios),
        width=layout.width_inches,
        gridspec_kw={"height_ratios": ratios},
    )
    axes = grid[-1][0]
    axis = TimeAxis(spans=found.spans)
    points = ROOM[layout].points
    for number, row in enumerate(found.rows):
        if row.source == "measured" and len(found.spans) > 1:
            axes.axhspan(places[number], places[number] + 1, color=FAINT, linewidth=0, zorder=0)
    _waits(axes, found, axis, places)
    _boxes(axes, found, axis, places, points)
    _ways(axes, found, axis, places)
    _label_rows(axes, found, places, layout)
    axes.set_ylim(places[-1] + 1.2, -1.3)
    axes.spines["left"].set_visible(False)
    light_grid(axes, "x")
    axis.put(axes, axes, layout is Layout.NARROW)
    if found.overview:
        _overview(grid[0][0], found, layout)
    legend_above(figure, *_legend(found))
    return Drawing(figure=figure, title=view.TITLE, caption=" ".join(found.sentences), files=found.files)
