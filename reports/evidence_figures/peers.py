"""Draws our plans and the peers on the same model and batch: step time against peak memory, a panel per case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loadahead.reports.plots.base import Drawing, Missing
from loadahead.reports.plots.style import INK, byte_scale, light_grid, new_figure, styled, time_scale
from loadahead.reports.recorded_steps import MeasuredStep, PeerStep, measured_step, peer_step
from loadahead.reports.verdicts.records import (
    MEASURED,
    Case,
    case_of,
    chosen_beside,
    ours_beside,
    plain_beside,
    short_name,
)
from loadahead.sim.units import counted, format_duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Beside other implementations"
COLUMNS = 3
_OURS = "#0072B2"
# Peers take these in the order in which they are met, so that close marks differ by shape and colour.
_LOOKS = (("X", "#4b5560"), ("s", "#D55E00"), ("^", "#009E73"), ("v", "#CC79A7"), ("P", "#8a6d00"))
# The largest horizon keeps at least this share of our colour.
_PALEST = 0.25


@dataclass(frozen=True, slots=True)
class _Point:
    label: str
    time_ns: int
    nbytes: int
    look: tuple[tuple[str, Any], ...]


@styled()
def peers(evidence: Mapping[str, Any]) -> Drawing | Missing:
    """Draw our plans as circles, darker for smaller horizons, and peers as other shapes; down and left is better."""
    measured = [peer for peer in evidence["peers"] if peer["status"] == MEASURED]
    cases = list(dict.fromkeys(case_of(peer) for peer in measured if peer_step(peer).peak_device_bytes is not None))
    if not cases:
        return Missing(title=TITLE, reason="no peer was measured whose peak memory can be told")
    columns = min(COLUMNS, len(cases))
    rows = -(-len(cases) // columns)
    figure, grid = new_figure(0.9 + 3.0 * rows, rows, columns)
    panels = [axes for row in grid for axes in row]
    handles: dict[str, Any] = {}
    for axes, case in zip(panels, cases, strict=False):
        handles |= _panel(axes, case, evidence)
    for axes in panels[len(cases) :]:
        axes.set_axis_off()
    ordered = sorted(handles, key=_place)
    figure.legend([handles[name] for name in ordered], ordered, loc="outside upper left", ncols=4)
    caption = (
        "Down and left is better. Circles are our plans, darker for smaller horizons, in tasks; the ring is round the "
        "one that stands for ours, by its prediction. Peer none is torch's checkpointing, which does not offload. "
        "Every panel has axes of its own, which do not start at zero."
    )
    return Drawing(figure=figure, title=TITLE, caption=caption)


def _place(label: str) -> tuple[bool, bool, int, str]:
    """Return the sort key of the legend: ours by horizon, ours without offload, the ring, peers."""
    number = next((int(word) for word in label.split() if word.isdigit()), 0)
    return label.startswith("peer"), not number, number, label


def _panel(axes: Axes, case: Case, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Draw one panel, and return its marks by label."""
    points = list(_points(case, evidence))
    (ns, time_unit), (nbytes, byte_unit) = (
        time_scale(max(point.time_ns for point in points)),
        byte_scale(max(point.nbytes for point in points)),
    )
    handles = {
        point.label: axes.scatter([point.time_ns / ns], [point.nbytes / nbytes], label=point.label, **dict(point.look))
        for point in points
    }
    axes.margins(0.15)
    axes.set_title(short_name(case))
    axes.set_xlabel("\n".join([f"step time ({time_unit})", *_unknown(case, evidence)]))
    axes.set_ylabel(f"peak device memory ({byte_unit})")
    light_grid(axes, "both")
    return handles


def _points(case: Case, evidence: Mapping[str, Any]) -> Iterator[_Point]:
    chosen = chosen_beside(evidence, case)
    ours = [
        record
        for record in ours_beside(evidence, case)
        if (record["horizon_unit"], record["release_window"]) == ("tasks", 1)
    ]
    for record in ours:
        shade = max(_PALEST, 1 - 0.25 * (int(record["horizon"]).bit_length() - 1))
        look = {"marker": "o", "color": _mixed(shade), "s": 34, "zorder": 3}
        own = measured_step(record)
        yield _point(f"our plan, horizon {counted(record['horizon'], 'task')}", own, own.peak_device_bytes, look)
        if record is chosen:
            ring = {"marker": "o", "facecolors": "none", "edgecolors": INK, "s": 100, "linewidths": 0.9, "zorder": 4}
            yield _point("the plan that stands for ours", own, own.peak_device_bytes, ring)
    for record in plain_beside(evidence, case):
        look = {"marker": "o", "facecolors": "none", "edgecolors": _OURS, "s": 55, "linewidths": 1.4, "zorder": 3}
        own = measured_step(record)
        yield _point("our plan without offload", own, own.peak_device_bytes, look)
    names = list(dict.fromkeys(peer["peer"] for peer in evidence["peers"]))
    for name, step in _measured_peers(case, evidence):
        if step.peak_device_bytes is not None:
            marker, colour = _LOOKS[names.index(name) % len(_LOOKS)]
            look = {"marker": marker, "color": colour, "s": 30, "linewidths": 0, "zorder": 5}
            yield _point(f"peer {name}", step, step.peak_device_bytes, look)


def _measured_peers(case: Case, evidence: Mapping[str, Any]) -> list[tuple[str, PeerStep]]:
    """Return the case's peers that were run, by name."""
    return [
        (peer["peer"], peer_step(peer))
        for peer in evidence["peers"]
        if case_of(peer) == case and peer["status"] == MEASURED
    ]


def _point(label: str, step: MeasuredStep | PeerStep, nbytes: int, look: dict[str, Any]) -> _Point:
    return _Point(label, step.step_time_ns, nbytes, tuple(look.items()))


def _mixed(shade: float) -> tuple[float, float, float]:
    """Return our colour mixed with white."""
    red, green, blue = (int(_OURS[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return 1 - shade * (1 - red), 1 - shade * (1 - green), 1 - shade * (1 - blue)


def _unknown(case: Case, evidence: Mapping[str, Any]) -> list[str]:
    """Return a line for each peer that has a time and no place in the panel."""
    return [
        f"peer {name}: {format_duration(step.step_time_ns)}, peak not known"
        for name, step in _measured_peers(case, evidence)
        if step.peak_device_bytes is None
    ]
