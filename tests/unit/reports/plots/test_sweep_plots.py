"""Figures of a sweep, in both layouts: all stands inside the picture, and what is drawn is what the views hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from loadahead.reports.palette import PALETTE
from loadahead.reports.plots import PLOTS, Drawing, Layout, Missing
from loadahead.reports.plots.fronts import fronts
from loadahead.reports.plots.sheet import in_lines
from loadahead.reports.plots.style import styled
from loadahead.reports.run_data import RunData
from loadahead.reports.sweep_comparison import SweepSide, compare_sweeps
from loadahead.reports.views import front, heat_map
from loadahead.sim.step_metrics import SweepRow
from tests.support.sweeps import row, simulated

OF_SWEEPS = ("front", "axis_time_memory", "axis_overlap_stalls", "heat_map")


def fitting(data: RunData, capacity: int) -> RunData:
    return RunData(sweep=tuple(replace(one, capacity_bytes=capacity) for one in data.sweep))


def by_axes(axes: dict[str, list[Any]], **columns: Any) -> RunData:
    import itertools

    rows: list[SweepRow] = []
    for number, values in enumerate(itertools.product(*axes.values())):
        chosen = dict(zip(axes, values, strict=True))
        rows.append(row(10**9 + 10**7 * (number % 7), 2**30 + 2**26 * (number % 5), axes=chosen, **columns))
    return RunData(sweep=tuple(rows))


GRID = simulated(horizons=(1, 2, 4), counts=(2, 4))
CAPACITY = sorted(one.peak_device_bytes for one in GRID.sweep)[3]
CASES = {
    "some fit": fitting(GRID, CAPACITY),
    "nothing fits": fitting(GRID, 1),
    "two points": simulated(horizons=(1, 2), counts=(4,)),
    "variants": simulated(horizons=(1, 2, 4), counts=(2, 4), units=("tasks", "layers")),
    "many": by_axes({"microbatches": [1, 2, 4, 8, 16, 32], "horizon": list(range(1, 41))}),
    "rates": by_axes({"hardware.d2h": ["800 MB/s", "16 GB/s", "32 GB/s"], "horizon": [1, 2, 3]}, stall_recv_ns=10**8),
    "models": by_axes(
        {"model.preset": ["gpt3-175b-with-a-long-name", "b", "c"], "horizon": [1, 2], "microbatches": [4, 8]}
    ),
    "names": by_axes(
        {"hardware.preset": [f"a-gpu-with-a-long-name-{n}" for n in range(7)], "pipeline": ["simple", "gpipe"]}
    ),
    "degrees": by_axes({"parallel.tensor_parallel_degree": [1, 2, 4, 8]}, gpus=8, stall_prefetch_ns=10**8),
}


def drawn(name: str, data: RunData, layout: Layout = Layout.WIDE) -> Drawing:
    found = PLOTS[name](data, layout)
    assert isinstance(found, Drawing), found
    return found


def laid_out(found: Drawing) -> None:
    """Let the figure find its places, without drawing it."""
    with styled():
        found.figure.draw_without_rendering()


def assert_inside(found: Drawing, layout: Layout) -> None:
    laid_out(found)
    box, (width, height) = found.figure.get_tightbbox(), found.figure.get_size_inches()
    assert width == layout.width_inches
    assert box.x0 > -0.01 and box.y0 > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


def titles(found: Drawing) -> list[Text]:
    every = [title for axes in found.figure.axes for title in (axes._left_title, axes.title)]  # type: ignore[attr-defined]
    return [title for title in every if title.get_text()]


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("name", OF_SWEEPS)
@pytest.mark.parametrize("case", CASES)
def test_every_figure_stands_inside_the_picture_in_both_layouts(case: str, name: str, layout: Layout) -> None:
    found = PLOTS[name](CASES[case], layout)
    if isinstance(found, Missing):
        assert found.reason
        return
    assert_inside(found, layout)
    assert found.title and found.caption.endswith(".")
    # A phone shows no panel beside another, and no smaller text.
    if layout is Layout.NARROW:
        lefts = {round(axes.get_position().x1, 3) for axes in found.figure.axes if axes.axison}
        assert len(lefts) == 1
    boxes = [title.get_window_extent() for title in titles(found)]
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[i + 1 :])
    sizes = [text.get_fontsize() for axes in found.figure.axes for text in axes.texts]
    assert all(size >= 7.5 for size in sizes)


def test_the_staircase_and_the_capacity_are_drawn() -> None:
    data = CASES["some fit"]
    view = front.of(data)
    assert isinstance(view, front.FrontView)
    (panel,) = view.panels
    axes = drawn("front", data).figure.axes[0]
    (stairs,) = [line for line in axes.get_lines() if line.get_drawstyle() == "steps-post"]
    np.testing.assert_allclose(stairs.get_ydata(), [ns / 1e6 for _, ns in panel.staircase])
    (capacity,) = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    leanest = panel.staircase[0][0] / float(stairs.get_xdata()[0])
    np.testing.assert_allclose(capacity.get_xdata(), CAPACITY / leanest)
    grey = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert sum(len(line.get_xdata()) for line in grey) == sum(not point.fits for point in panel.points)
    assert any(text.get_text().startswith("chosen: ") for text in axes.texts)


def test_a_capacity_far_away_is_said_not_drawn() -> None:
    axes = drawn("front", fitting(GRID, 2**40)).figure.axes[0]
    assert axes.get_title(loc="right") == "capacity 1 TiB is to the right"
    assert not [line for line in axes.get_lines() if line.get_linestyle() == "--"]


def test_cells_that_do_not_fit_are_hatched_and_the_chosen_one_framed() -> None:
    data = CASES["some fit"]
    view = heat_map.of(data)
    assert isinstance(view, heat_map.HeatView)
    for axes in drawn("heat_map", data).figure.axes:
        patches = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        hatched = {patch.get_xy() for patch in patches if patch.get_hatch()}
        cells = view.slices[0].cells
        misfits = {(x - 0.5, y - 0.5) for y, line in enumerate(cells) for x, cell in enumerate(line) if not cell.fits}  # type: ignore[union-attr]
        assert hatched == misfits and 0 < len(misfits) < 6
        (frame,) = {patch.get_xy() for patch in patches if patch.get_linewidth() > 3}
        chosen = [(x - 0.5, y - 0.5) for y, line in enumerate(cells) for x, cell in enumerate(line) if cell.chosen]  # type: ignore[union-attr]
        assert [frame] == chosen


def test_every_column_is_named_where_there_is_room() -> None:
    data = by_axes({"microbatches": [4, 8], "horizon": list(range(1, 17))})
    for axes in drawn("heat_map", data).figure.axes:
        assert [text.get_text() for text in axes.get_xticklabels()] == [str(horizon) for horizon in range(1, 17)]


def test_a_phone_has_the_axis_with_fewer_values_across() -> None:
    wide, narrow = (drawn("heat_map", GRID, layout).figure.axes[0] for layout in Layout)
    assert (wide.get_xlabel(), wide.get_ylabel()) == ("horizon", "microbatches")
    assert (narrow.get_xlabel(), narrow.get_ylabel()) == ("microbatches", "horizon")


def test_numbers_stand_in_cells_where_they_can_be_read() -> None:
    assert len(drawn("heat_map", GRID).figure.axes[0].texts) == 6
    assert (
        not drawn(
            "heat_map", by_axes({"microbatches": list(range(1, 33)), "horizon": list(range(1, 33))}), Layout.NARROW
        )
        .figure.axes[0]
        .texts
    )


def test_each_panel_has_scales_of_its_own() -> None:
    data = by_axes({"microbatches": [4, 8], "horizon": [1, 2]})
    slow = tuple(
        replace(one, step_time_ns=one.step_time_ns * (1000 if one.microbatches == 8 else 1)) for one in data.sweep
    )
    left, right = drawn("axis_time_memory", RunData(sweep=slow)).figure.axes[:2]
    # Each uses most of its height, whatever the other one shows.
    for axes in (left, right):
        (line,) = [line for line in axes.get_lines() if line.get_label() == "predicted"]
        low, high = axes.get_ylim()
        assert low < min(line.get_ydata()) and max(line.get_ydata()) < high < 1.2 * max(line.get_ydata())


def test_a_ring_frame_or_label_marks_the_chosen_point_in_every_figure() -> None:
    for name in ("axis_time_memory", "axis_overlap_stalls"):
        labels = [t.get_text() for legend in drawn(name, GRID).figure.legends for t in legend.get_texts()]
        assert "chosen" in labels and "does not fit" not in labels
    labels = [t.get_text() for x in drawn("axis_time_memory", CASES["some fit"]).figure.legends for t in x.get_texts()]
    assert "does not fit" in labels


@pytest.mark.parametrize("layout", Layout)
def test_both_fronts_of_a_comparison(layout: Layout) -> None:
    a = SweepSide(name="a/long/path/of/a/sweep/that/is/longer/than/a/legend", rows=GRID.sweep)
    b = SweepSide(name="b", rows=CASES["some fit"].sweep)
    found = fronts(compare_sweeps(a, b), layout)
    assert isinstance(found, Drawing)
    assert_inside(found, layout)
    stairs = [line for line in found.figure.axes[0].get_lines() if line.get_drawstyle() == "steps-post"]
    assert len(stairs) == 2
    assert "chosen" in [text.get_text() for legend in found.figure.legends for text in legend.get_texts()]
    tight = SweepSide(name="c", rows=CASES["nothing fits"].sweep)
    one = fronts(compare_sweeps(a, tight), layout)
    assert isinstance(one, Drawing)
    labels = [text.get_text() for legend in one.figure.legends for text in legend.get_texts()]
    assert "chosen, or nearest to fit" in labels


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("case", ["some fit", "nothing fits", "rates", "degrees"])
def test_the_chosen_points_name_lies_on_no_point_and_not_on_the_front(case: str, layout: Layout) -> None:
    found = drawn("front", CASES[case], layout)
    laid_out(found)
    axes = found.figure.axes[0]
    (name,) = [text for text in axes.texts if text.get_text().startswith(("chosen:", "nearest to fit:"))]
    box = Text.get_window_extent(name)
    assert axes.get_window_extent().padded(1).contains(box.x0, box.y0)
    assert axes.get_window_extent().padded(1).contains(box.x1, box.y1)
    for line in axes.get_lines():
        corners = axes.transData.transform(line.get_xydata())
        if line.get_drawstyle() == "steps-post" and len(corners) > 1:
            turns = np.stack([corners[1:, 0], corners[:-1, 1]], axis=1)
            corners = np.concatenate([corners[:1], *np.stack([turns, corners[1:]], axis=1)])
            ways = zip(corners, corners[1:], strict=False)
            corners = np.concatenate([start + (end - start) * np.linspace(0, 1, 50)[:, None] for start, end in ways])
        if line.get_transform() == axes.transData:
            assert not any(box.contains(x, y) for x, y in corners), line.get_label()


def test_a_title_breaks_between_values() -> None:
    assert in_lines("4 microbatches, h2d 400 MB/s", 20) == ["4 microbatches,", "h2d 400 MB/s"]
    assert in_lines("peak memory (MiB): h2d 1 GB/s; 2 other values", 80) == [
        "peak memory (MiB): h2d 1 GB/s; 2 other values"
    ]
    assert in_lines("one word after the other", 10) == ["one word", "after the", "other"]


def test_other_values_of_a_third_axis_are_told_in_the_maps_titles() -> None:
    data = by_axes({"hardware.d2h": ["1 GB/s", "2 GB/s", "4 GB/s"], "horizon": [1, 2], "microbatches": [2, 4]})
    for axes in drawn("heat_map", data).figure.axes:
        title = axes.get_title(loc="left").replace("\n", " ")
        assert title.endswith(": d2h 1 GB/s; 2 other values not drawn")


def luminance(colour: str) -> float:
    """WCAG 2.2's relative luminance."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(colour)]
    return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("ground", ["light", "dark"])
def test_numbers_can_be_read_on_every_cell(ground: str) -> None:
    """WCAG asks for a contrast of 4.5 for text."""
    for number in range(6):
        text = PALETTE["ink" if number < 3 else "ground"]
        pair = sorted(luminance(getattr(colour, ground)) for colour in (PALETTE[f"heat-{number}"], text))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, number
