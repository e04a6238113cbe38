"""Figures: over the registry, what they show, and that every text stands inside the picture."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from loadahead.reports.plots import PLOTS, Drawing, Missing
from loadahead.reports.plots.style import KIND_COLOUR, MEASURED, byte_scale, time_scale
from loadahead.reports.run_data import HorizonPoint, RunData
from loadahead.sim.engines import simulate
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.planner import Policy
from loadahead.sim.sweep import evaluate_point, grid
from loadahead.sim.timeline import MemorySamples, Timeline
from tests.support.plans import GB, MB, uniform_costs, uniform_plan, uniform_workload


def run(ranks: int = 1, **policy: Any) -> RunData:
    """A prediction, and the same times stretched by 5 % as its measurement."""
    plan = uniform_plan(ranks, units=2, **policy)
    costs = uniform_costs(ranks, units=2, d2h_bandwidth=GB // 4, h2d_bandwidth=GB // 4)
    predicted = simulate(plan, costs)
    memory = replace(predicted.memory, t_ns=predicted.memory.t_ns * 105 // 100)
    measured = replace(
        predicted,
        source="cpu",
        start_ns=predicted.start_ns * 105 // 100,
        end_ns=predicted.end_ns * 105 // 100,
        memory=memory,
    )
    return RunData(plan=plan, predicted=predicted, measured=measured, costs=costs)


@cache
def sweep(*horizons: int, units: tuple[str, ...] = ("tasks",), counts: tuple[int, ...] = (2, 4)) -> tuple[Any, ...]:
    axes = {"microbatches": counts, "horizon": horizons, "horizon_unit": units}
    costs = uniform_costs(1, 2, d2h_bandwidth=GB // 4, h2d_bandwidth=GB // 4)
    points = grid(uniform_workload(1, 2), costs, Policy(pipeline="simple", microbatches=4, ranks=1), axes)
    return tuple(evaluate_point(point, "compiled") for point in points)


def point(horizon: int, microbatches: int | None = None) -> HorizonPoint:
    timeline = run(horizon=horizon).predicted
    assert timeline is not None
    found = timeline.metrics
    return HorizonPoint(
        horizon=horizon,
        microbatches=microbatches,
        predicted=found,
        measured=replace(found, step_time_ns=found.step_time_ns + 1_000_000),
    )


def empty(timeline: Timeline) -> Timeline:
    nothing = {name: getattr(timeline, name)[:0] for name in ("op", "rank", "queue", "kind", "stage", "unit")}
    none = np.zeros(0, dtype=np.int64)
    return replace(
        timeline,
        **nothing,
        microbatch=timeline.microbatch[:0],
        start_ns=none,
        end_ns=none,
        memory=MemorySamples(none, none, none, none),
        header={},
    )


def cases() -> dict[str, RunData]:
    both = run(horizon=2)
    assert both.predicted is not None
    unsampled = replace(both.predicted, memory=empty(both.predicted).memory)
    many = run(9, microbatches=12, pipeline="interleaved", horizon=1)
    return {
        "nothing": RunData(),
        "empty timeline": RunData(predicted=empty(both.predicted)),
        "predicted alone": replace(both, measured=None),
        "measured alone": replace(both, predicted=None),
        "without plan": replace(both, plan=None),
        "both": both,
        "no copies": run(microbatches=1),
        "no samples": replace(both, measured=None, predicted=unsampled),
        "four ranks": run(4, horizon=1, pipeline="interleaved", microbatches=8),
        "nine ranks": many,
        "tight memory": replace(both, predicted=replace(both.predicted, header={"capacity_bytes": 5 * MB})),
        "sweep": RunData(sweep=sweep(1, 2, 4)),
        "one horizon": RunData(sweep=sweep(3)),
        "one point": RunData(sweep=sweep(3, counts=(4,))),
        "no copies in the sweep": RunData(sweep=sweep(2, 4, counts=(1,))),
        "many panels and lines": RunData(sweep=sweep(1, 2, units=("tasks", "layers"), counts=(1, 2, 3, 4, 5, 6))),
        "horizons": RunData(plan=both.plan, horizons=(point(1), point(2), point(5))),
        "horizons beside a sweep": RunData(plan=both.plan, sweep=sweep(1, 2, 4), horizons=(point(1), point(3))),
    }


CASES = cases()
OF_SWEEPS = {"front", "axis_time_memory", "axis_overlap_stalls", "heat_map"}
OF_RUNS = set(PLOTS) - OF_SWEEPS


def drawn(name: str, data: RunData) -> Drawing:
    found = PLOTS[name](data)
    assert isinstance(found, Drawing)
    return found


def png(drawing: Drawing) -> bytes:
    out = io.BytesIO()
    drawing.save(out)
    return out.getvalue()


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("case", CASES)
def test_every_plot_draws_every_run_inside_the_picture(name: str, case: str) -> None:
    found = PLOTS[name](CASES[case])
    if isinstance(found, Missing):
        assert found.reason
        return
    assert png(found).startswith(b"\x89PNG")
    assert found.title and found.caption.endswith(".")
    # What the figure's texts, lines and legends take up, in inches; a title that is too long would stick out.
    box, (width, height) = found.figure.get_tightbbox(), found.figure.get_size_inches()
    assert box.x0 > -0.01 and box.y0 > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


@pytest.mark.parametrize(
    ("case", "missing"),
    [
        ("nothing", set(PLOTS)),
        ("empty timeline", set(PLOTS)),
        ("both", OF_SWEEPS),
        ("no samples", {"memory", *OF_SWEEPS}),
        ("sweep", OF_RUNS),
        # Without horizons it is drawn against the microbatches.
        ("one horizon", {*OF_RUNS, "heat_map"}),
        ("one point", set(PLOTS)),
        ("no copies in the sweep", {*OF_RUNS, "heat_map", "axis_overlap_stalls"}),
        ("horizons", {*OF_RUNS, "front", "heat_map"}),
    ],
)
def test_what_cannot_be_drawn_is_missing_with_a_reason(case: str, missing: set[str]) -> None:
    assert {name for name, plot in PLOTS.items() if isinstance(plot(CASES[case]), Missing)} == missing


def test_panel_titles_and_legends_do_not_overlap() -> None:
    for name in ("memory", "axis_time_memory", "axis_overlap_stalls"):
        figure = drawn(name, CASES["many panels and lines" if name != "memory" else "four ranks"]).figure
        png(Drawing(figure=figure, title="", caption=""))
        boxes = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title(loc="center")]
        boxes += [axes._left_title.get_window_extent() for axes in figure.axes if axes.get_title(loc="left")]  # type: ignore[attr-defined]
        boxes += [legend.get_window_extent() for legend in figure.legends]
        assert len(boxes) > 2
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[i + 1 :]), name


def bars(drawing: Drawing, colour: str) -> list[tuple[float, float, float]]:
    """(row, start, end) of a colour's boxes in the Gantt chart, in its unit of time."""
    found = []
    for collection in drawing.figure.axes[0].collections:
        assert isinstance(collection, PolyCollection)
        if mpl.colors.to_hex(collection.get_facecolor()[0]) == colour.lower():
            for path in collection.get_paths():
                (x0, y0), (x1, _) = path.vertices.min(axis=0), path.vertices.max(axis=0)
                found.append((round(float(y0), 6), float(x0), float(x1)))
    return sorted(found)


def test_gantt_has_a_box_for_every_operation_that_takes_time() -> None:
    data = CASES["both"]
    drawing = drawn("gantt", data)
    for kind in (Kind.FORWARD, Kind.BACKWARD, Kind.OFFLOAD, Kind.PREFETCH):
        found = bars(drawing, KIND_COLOUR[kind])
        rows = sorted({row for row, _, _ in found})
        assert len(rows) == 2
        for row, timeline in zip(rows, (data.predicted, data.measured), strict=True):
            assert timeline is not None
            at = timeline.kind == kind
            times = sorted(zip(timeline.start_ns[at] / 1e6, timeline.end_ns[at] / 1e6, strict=True))
            drawn_times = sorted((x0, x1) for y, x0, x1 in found if y == row)
            np.testing.assert_allclose(drawn_times, times)


def test_gantt_keeps_ranks_apart() -> None:
    data = CASES["four ranks"]
    found = bars(drawn("gantt", data), KIND_COLOUR[Kind.FORWARD])
    rows = sorted({row for row, _, _ in found})
    assert len(rows) == 8
    for rank, row in enumerate(rows[::2]):
        assert data.predicted is not None
        at = (data.predicted.kind == Kind.FORWARD) & (data.predicted.rank == rank)
        starts = sorted(x0 for y, x0, _ in found if y == row)
        np.testing.assert_allclose(starts, np.sort(data.predicted.start_ns[at] / 1e6))


@pytest.mark.parametrize("launch_ns", [0, 300_000], ids=["no launches", "launches"])
def test_gantt_hatches_the_waits_that_the_summary_counts(launch_ns: int) -> None:
    """Also where the host's launches are part of what an operation waits for, which is no stall."""
    both = CASES["both"]
    assert both.plan is not None and both.costs is not None
    costs = both.costs.model_copy(update={"launch_ns": launch_ns})
    predicted = simulate(both.plan, costs)
    issue = [] if not launch_ns else [launch_ns] * len(both.plan)
    as_measured = replace(predicted, source="cuda", header=predicted.header | ({"issue_ns": issue} if issue else {}))
    (rank,) = predicted.metrics.ranks
    assert rank.stall_release_ns > 0
    for data in (
        RunData(plan=both.plan, costs=costs, predicted=predicted),
        RunData(plan=both.plan, measured=as_measured),
    ):
        drawing = drawn("gantt", data)
        hatched = [c for c in drawing.figure.axes[0].collections if c.get_hatch()]
        total = sum(float(np.ptp(path.vertices[:, 0])) for c in hatched for path in c.get_paths())
        assert total * 1e6 == pytest.approx(sum(rank.stalls_ns.values()))
        labels = [text.get_text() for legend in drawing.figure.legends for text in legend.get_texts()]
        assert "waits for offload (RELEASE)" in labels


def test_gantt_without_a_plan_hatches_gaps_without_a_cause() -> None:
    drawing = drawn("gantt", CASES["without plan"])
    labels = [text.get_text() for legend in drawing.figure.legends for text in legend.get_texts()]
    assert "waits" in labels and not any(label.startswith("waits for") for label in labels)


def test_gantt_numbers_the_boxes() -> None:
    drawing = drawn("gantt", CASES["no copies"])
    numbers = [text.get_text() for text in drawing.figure.axes[0].texts]
    # FORWARD and BACKWARD of two units, predicted and measured; RECOMPUTE takes no time here.
    assert numbers == ["0"] * 8


def test_gantt_says_when_boxes_blend() -> None:
    assert "narrower than two dots" in drawn("gantt", replace(run(microbatches=300), measured=None)).caption
    assert "narrower" not in drawn("gantt", CASES["both"]).caption


def test_gantt_says_which_ranks_are_not_drawn() -> None:
    assert "1 ranks between" not in drawn("gantt", CASES["four ranks"]).caption
    assert "One rank between the first and the last 4 is not drawn." in drawn("gantt", CASES["nine ranks"]).caption


def test_memory_draws_the_samples_as_steps() -> None:
    data = CASES["both"]
    assert data.predicted is not None
    device, host = drawn("memory", data).figure.axes
    line = device.get_lines()[0]
    assert line.get_drawstyle() == "steps-post"
    scale, unit = byte_scale(float(data.predicted.memory.device_bytes.max()) * 1.3)
    assert device.get_ylabel().startswith(unit)
    drawn_at = zip(line.get_xdata(), line.get_ydata(), strict=True)
    got = {(round(float(t) * 1e6), round(float(y) * scale)) for t, y in drawn_at}
    samples = data.predicted.memory
    assert got >= set(zip(samples.t_ns.tolist(), samples.device_bytes.tolist(), strict=True))
    assert "exactly as predicted" in host.get_title(loc="left")


@pytest.mark.parametrize(("case", "lines"), [("both", 2), ("tight memory", 3)])
def test_capacity_is_drawn_only_where_it_does_not_squash(case: str, lines: int) -> None:
    device = drawn("memory", CASES[case]).figure.axes[0]
    assert len(device.get_lines()) == lines
    label = "capacity 80 GiB is above this picture" if case == "both" else "capacity 4.768 MiB"
    assert any(text.get_text().startswith(label) for text in device.texts)


def test_horizon_lines_are_the_sweep_and_diamonds_the_measurement() -> None:
    data = CASES["horizons beside a sweep"]
    axes = drawn("axis_time_memory", data).figure.axes
    assert [a.get_title(loc="left") for a in axes[:2]] == ["2 microbatches", "4 microbatches"]
    line, measured = axes[1].get_lines()
    rows = [row for row in data.sweep if row.microbatches == 4]
    np.testing.assert_allclose(line.get_xdata(), [1, 2, 4])
    np.testing.assert_allclose(line.get_ydata(), [row.step_time_ns / 1e6 for row in rows])
    steps = [p.measured for p in data.horizons if p.measured is not None]
    np.testing.assert_allclose(measured.get_xdata(), [1, 3])
    np.testing.assert_allclose(measured.get_ydata(), [step.step_time_ns / 1e6 for step in steps])
    assert measured.get_markeredgecolor() == MEASURED
    assert not [line for line in axes[0].get_lines() if line.get_label() == "measured"]


def test_overlap_of_nothing_is_not_drawn_as_zero() -> None:
    rows = sweep(1, 8, counts=(2,))
    assert [row.offloaded > 0 for row in rows] == [True, False]
    axes = drawn("axis_overlap_stalls", RunData(sweep=rows)).figure.axes[0]
    np.testing.assert_allclose(axes.get_lines()[0].get_xdata(), [1])


def test_left_out_panels_and_lines_are_counted() -> None:
    caption = drawn("axis_time_memory", CASES["many panels and lines"]).caption
    assert "2 of 6 values of microbatches are not drawn." in caption


def test_equal_input_gives_equal_bytes_and_nothing_global_changes() -> None:
    before = dict(mpl.rcParams)
    first, second = (png(drawn("gantt", CASES["both"])) for _ in range(2))
    assert first == second
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("ns", "unit"), [(5e9, "s"), (1.5e9, "ms"), (3e6, "ms"), (1e6, "us"), (1500, "us"), (999, "ns"), (0, "ns")]
)
def test_time_axes_read_well(ns: float, unit: str) -> None:
    assert time_scale(ns)[1] == unit


def test_importing_reports_is_quick() -> None:
    slow = ("matplotlib", "pandas", "pyarrow", "rich")
    code = (
        f"import loadahead.reports.plots, loadahead.reports.page, sys; print([m for m in {slow} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
