"""Figures of one run: boxes, waits, stacks and bars are where the views have them, wide and narrow, and can be read."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes._base import _AxesBase
from matplotlib.collections import PolyCollection
from matplotlib.text import Text

from loadahead.reports.plots import PLOTS, Drawing, Layout
from loadahead.reports.plots.gantt import ROOM
from loadahead.reports.plots.style import KIND_COLOUR, SMALL, byte_scale
from loadahead.reports.run_data import RunData
from loadahead.reports.views.gantt_parts import LEAST_POINTS
from loadahead.reports.views.time_parts import PARTS, TimeParts
from loadahead.reports.views.time_parts import time_parts as time_parts_view
from loadahead.sim.engines import simulate
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.units import format_bytes
from tests.support.pictures_of_runs import both, prediction, stretched

OF_A_RUN = ("memory", "time_parts", "gantt", "link_use")


def drawn(name: str, data: RunData, layout: Layout = Layout.WIDE) -> Drawing:
    found = PLOTS[name](data, layout)
    assert isinstance(found, Drawing), found
    return found


@cache
def large() -> RunData:
    """Nine ranks, many microbatches: a stretch of it is drawn, and a few ranks."""
    data = prediction(9, microbatches=60, pipeline="interleaved", horizon=2)
    assert data.predicted is not None
    return replace(data, measured=stretched(data.predicted, 1.02))


@cache
def apart() -> RunData:
    """An estimate beside a run that takes ten times as long."""
    data = prediction(2, microbatches=6, horizon=1, pipeline="interleaved")
    assert data.predicted is not None
    return replace(data, measured=stretched(data.predicted, 10))


@cache
def laid_out(run: str, name: str, layout: Layout = Layout.WIDE) -> Drawing:
    """Return the figure of one of RUNS, its panels and texts in their places."""
    drawing = drawn(name, RUNS[run](), layout)
    drawing.figure.draw_without_rendering()
    return drawing


RUNS = {"both": both, "large": large, "apart": apart}


def bars(drawing: Drawing, colour: str) -> list[tuple[float, float, float]]:
    """(row, start, end) of a colour's boxes in the Gantt chart, in its unit of time."""
    found = []
    for collection in drawing.figure.axes[-1].collections:
        if not isinstance(collection, PolyCollection) or collection.get_hatch():
            continue
        if mpl.colors.to_hex(collection.get_facecolor()[0]) == colour.lower():
            for path in collection.get_paths():
                (x0, y0), (x1, _) = path.vertices.min(axis=0), path.vertices.max(axis=0)
                found.append((round(float(y0), 6), float(x0), float(x1)))
    return sorted(found)


def test_gantt_has_a_box_for_every_operation_that_takes_time() -> None:
    data = both()
    drawing = drawn("gantt", data)
    for kind in (Kind.FORWARD, Kind.BACKWARD, Kind.OFFLOAD, Kind.PREFETCH):
        found = bars(drawing, KIND_COLOUR[kind])
        rows = sorted({row for row, _, _ in found})
        shown = [
            (timeline, rank)
            for rank in (0, 1)
            for timeline in (data.predicted, data.measured)
            if timeline is not None and ((timeline.kind == kind) & (timeline.rank == rank)).any()
        ]
        assert len(rows) == len(shown)
        for row, (timeline, rank) in zip(rows, shown, strict=True):
            at = (timeline.kind == kind) & (timeline.rank == rank)
            times = sorted(zip(timeline.start_ns[at] / 1e6, timeline.end_ns[at] / 1e6, strict=True))
            np.testing.assert_allclose(sorted((x0, x1) for y, x0, x1 in found if y == row), times)


@pytest.mark.parametrize("launch_ns", [0, 300_000], ids=["no launches", "launches"])
def test_gantt_hatches_the_waits_that_the_summary_counts(launch_ns: int) -> None:
    """Also where the host's launches are part of what an operation waits for, which is no stall."""
    one = prediction(1, horizon=2)
    assert one.plan is not None and one.costs is not None
    costs = one.costs.model_copy(update={"launch_ns": launch_ns})
    predicted = simulate(one.plan, costs)
    issue = [] if not launch_ns else [launch_ns] * len(one.plan)
    as_measured = replace(predicted, source="cuda", header=predicted.header | ({"issue_ns": issue} if issue else {}))
    (rank,) = predicted.metrics.ranks
    assert rank.stall_release_ns > 0
    for data in (
        RunData(plan=one.plan, costs=costs, predicted=predicted),
        RunData(plan=one.plan, measured=as_measured),
    ):
        drawing = drawn("gantt", data)
        hatched = [c for c in drawing.figure.axes[-1].collections if c.get_hatch()]
        total = sum(float(np.ptp(path.vertices[:, 0])) for c in hatched for path in c.get_paths())
        assert total * 1e6 == pytest.approx(sum(rank.stalls_ns.values()))
        assert "waits for offload (RELEASE)" in legend_of(drawing)


def legend_of(drawing: Drawing) -> list[str]:
    return [text.get_text() for legend in drawing.figure.legends for text in legend.get_texts()]


def test_gantt_without_a_plan_hatches_gaps_without_a_cause() -> None:
    labels = legend_of(drawn("gantt", replace(both(), plan=None)))
    assert "waits" in labels and not any(label.startswith("waits for") for label in labels)


def test_gantt_numbers_the_boxes() -> None:
    drawing = drawn("gantt", prediction(1, microbatches=1))
    numbers = [text.get_text() for text in drawing.figure.axes[-1].texts if text.get_text().isdigit()]
    # FORWARD and BACKWARD of two units; RECOMPUTE takes no time here.
    assert numbers == ["0"] * 4


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("run", RUNS)
def test_no_box_is_narrower_than_a_dot(run: str, layout: Layout) -> None:
    """Measured on the picture as it is laid out, in points."""
    drawing = laid_out(run, "gantt", layout)
    axes = drawing.figure.axes[-1]
    points = axes.get_window_extent().width / drawing.figure.dpi * 72
    assert points >= ROOM[layout].points, "the view reckons with less than there is"
    low, high = axes.get_xlim()
    boxes = [c for c in axes.collections if isinstance(c, PolyCollection) and len(c.get_paths())]
    widths = [np.ptp(path.vertices[:, 0]) / (high - low) * points for c in boxes for path in c.get_paths()]
    assert widths and min(widths) >= LEAST_POINTS * 0.999


@pytest.mark.parametrize("layout", Layout)
def test_a_long_step_is_a_stretch_below_an_overview(layout: Layout) -> None:
    data = large()
    assert data.predicted is not None
    drawing = laid_out("large", "gantt", layout)
    strip, chart = drawing.figure.axes[:2]
    assert strip.get_title(loc="left").startswith("The whole step: ")
    low, high = chart.get_xlim()
    assert low * 1e6 > 0 and high * 1e6 < data.predicted.step_time_ns
    frame = strip.patches[-1].get_extents().transformed(strip.transData.inverted())
    assert frame.x0 > 0.05 and frame.x1 < 0.95


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("name", OF_A_RUN)
@pytest.mark.parametrize("run", RUNS)
def test_texts_can_be_read_and_do_not_overlap(run: str, name: str, layout: Layout) -> None:
    figure = laid_out(run, name, layout).figure
    assert figure.get_size_inches()[0] == layout.width_inches
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert min(text.get_fontsize() for text in texts) >= SMALL
    # Ticks outside an axis' limits are there, and not drawn.
    whole = figure.bbox
    seen = [(text, text.get_window_extent()) for text in texts]
    seen = [(text, box) for text, box in seen if not (text.get_clip_on() and not box.overlaps(whole))]
    shown = [(text, box) for text, box in seen if not off_its_axis(text, figure)]
    for i, (text, box) in enumerate(shown):
        for other, beside in shown[i + 1 :]:
            shared = min(box.x1, beside.x1) - max(box.x0, beside.x0), min(box.y1, beside.y1) - max(box.y0, beside.y0)
            assert min(shared) <= 1.5, f"{text.get_text()!r} lies on {other.get_text()!r}"


def off_its_axis(text: Text, figure: Any) -> bool:
    """Return whether a text is the label of a tick that lies outside what its axis shows."""
    for axes in figure.findobj(_AxesBase):
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if text in (tick.label1, tick.label2):
                    return not low - 1e-9 <= tick.get_loc() <= high + 1e-9
    return False


def test_steps_that_are_far_apart_have_an_axis_each() -> None:
    for name in ("gantt", "memory", "link_use"):
        drawing = laid_out("apart", name)
        labels = [axes.get_xlabel() for axes in drawing.figure.findobj(_AxesBase)]
        labels += [child.get_xlabel() for axes in drawing.figure.axes for child in axes.child_axes]
        assert any("predicted (" in label for label in labels) and any("measured (" in label for label in labels), name
        assert "Each step has a time axis of its own, as the measured one takes 10 times as long." in drawing.caption
    assert laid_out("apart", "time_parts").figure.axes[0].get_xlabel() == "share of the step (%)"
    # Both rows of the chart then reach from one side to the other.
    found = bars(laid_out("apart", "gantt"), KIND_COLOUR[Kind.BACKWARD])
    rows = sorted({row for row, _, _ in found})[:2]
    ends = [max(end for row, _, end in found if row == one) for one in rows]
    assert ends[0] == pytest.approx(ends[1])


def test_memory_stacks_to_the_samples() -> None:
    data = both()
    assert data.predicted is not None
    drawing = drawn("memory", data)
    device = drawing.figure.axes[0]
    peak = data.predicted.metrics.ranks[0].peak_device_bytes
    kept = data.keep_all
    assert kept is not None
    scale, unit = byte_scale(max(peak, kept.metrics.ranks[0].peak_device_bytes) * 1.3)
    assert device.get_ylabel().startswith(unit)
    tops = [path.vertices[:, 1].max() for c in device.collections for path in c.get_paths()]
    assert max(tops) * scale == pytest.approx(peak)
    measured, behind = device.get_lines()[:2]
    assert measured.get_drawstyle() == "steps-post" and float(np.max(measured.get_ydata())) * scale == pytest.approx(
        peak
    )
    assert float(np.max(behind.get_ydata())) * scale == pytest.approx(kept.metrics.ranks[0].peak_device_bytes)
    assert "exactly as predicted" in device.get_title(loc="left").replace("\n", " ")
    # Tables count the pool of the slots: what is in use of it is another number, which is not the predicted one of it.
    host = drawing.figure.axes[1].get_title(loc="left").replace("\n", " ")
    assert "exactly" not in host and "host slots in use: at most " in host and " of a pool of " in host


def test_lines_of_the_memory_figure_can_be_told_apart() -> None:
    device, host = drawn("memory", both()).figure.axes[:2]
    measured, kept = device.get_lines()[:2]
    assert (measured.get_color() != kept.get_color() and kept.get_linestyle() == ":") or kept.is_dashed()
    stack = {mpl.colors.to_hex(c.get_facecolor()[0]) for c in device.collections}
    lines = {mpl.colors.to_hex(line.get_color()) for line in (*device.get_lines(), *host.get_lines())}
    assert not lines & stack
    # A measurement has one colour in both panels.
    assert measured.get_color() in {line.get_color() for line in host.get_lines()}


@pytest.mark.parametrize("tight", [False, True])
def test_capacity_is_drawn_only_where_it_does_not_squash(tight: bool) -> None:
    data = both()
    assert data.predicted is not None and data.keep_all is not None
    capacity = data.keep_all.metrics.ranks[0].peak_device_bytes * 11 // 10
    header = data.predicted.header | ({"capacity_bytes": capacity} if tight else {})
    device = drawn("memory", replace(data, predicted=replace(data.predicted, header=header))).figure.axes[0]
    level = [line for line in device.get_lines() if len(set(line.get_ydata())) == 1]
    assert len(level) == tight
    label = f"capacity {format_bytes(capacity)}" if tight else "capacity 80 GiB is above this"
    assert any(text.get_text().startswith(label) for text in device.texts)


def test_bars_are_as_long_as_the_step() -> None:
    data = both()
    axes = drawn("time_parts", data).figure.axes[0]
    rows: dict[float, float] = {}
    for patch in axes.patches:
        rows[round(patch.get_y(), 3)] = rows.get(round(patch.get_y(), 3), 0.0) + patch.get_width()
    assert data.predicted is not None and data.measured is not None
    steps = [data.predicted.step_time_ns, data.measured.step_time_ns] * 2
    np.testing.assert_allclose([rows[y] for y in sorted(rows)], [ns / 1e6 for ns in steps])


@pytest.mark.filterwarnings("error:constrained_layout not applied")
def test_a_legend_of_many_parts_leaves_bars_of_few_ranks_their_room() -> None:
    """On a phone nine parts have nine rows, and two bars alone would be lower than these."""
    data = prediction(2, microbatches=6, horizon=1, pipeline="interleaved")
    assert data.predicted is not None
    parts = time_parts_view(data)
    assert isinstance(parts, TimeParts)
    every = dict.fromkeys(PARTS, parts.step_ns["predicted"] // 20)
    many = replace(parts, bars=tuple(replace(bar, parts_ns=every) for bar in parts.bars))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("loadahead.reports.views.time_parts.time_parts", lambda *_: many)
        drawing = drawn("time_parts", data, Layout.NARROW)
    drawing.settle()
    (legend,) = drawing.figure.legends
    (axes,) = drawing.figure.axes
    assert len(legend.get_texts()) == len(PARTS)
    assert axes.get_window_extent().y1 <= legend.get_window_extent().y0
    assert axes.get_window_extent().height >= 2 * 0.2 * drawing.figure.dpi
