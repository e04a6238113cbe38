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

from loadahead.reports.plots import PLOTS, Drawing, Layout, Missing
from loadahead.reports.plots.style import MEASURED, time_scale
from loadahead.reports.run_data import HorizonPoint, RunData
from loadahead.sim.engines import simulate
from loadahead.sim.planner import Policy
from loadahead.sim.sweep import evaluate_point, grid
from loadahead.sim.timeline import MemorySamples, Timeline
from tests.support import tuned_runs
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
        "tuned": tuned_runs.small(),
        "tuned, nothing leaves": tuned_runs.nothing_leaves(),
        "tuned, not met": tuned_runs.not_met(),
        "tuned, four ranks": tuned_runs.many(),
        "tuned, 96 layers": tuned_runs.many(8, 12, 64),
        "horizons beside a sweep": RunData(plan=both.plan, sweep=sweep(1, 2, 4), horizons=(point(1), point(3))),
    }


CASES = cases()
OF_TUNING = {"tuned_frontier", "tuned_boundaries"}
# What a run has that was not tuned, and all that another has.
OF_A_RUN = {"gantt", "memory", "time_parts", "link_use", *OF_TUNING}
OF_SWEEPS = {"front", "axis_time_memory", "axis_overlap_stalls", "heat_map"}


def drawn(name: str, data: RunData) -> Drawing:
    found = PLOTS[name](data)
    assert isinstance(found, Drawing)
    return found


def png(drawing: Drawing) -> bytes:
    out = io.BytesIO()
    drawing.save(out)
    return out.getvalue()


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("case", CASES)
def test_every_plot_draws_every_run_inside_the_picture(name: str, case: str, layout: Layout) -> None:
    found = PLOTS[name](CASES[case], layout)
    if isinstance(found, Missing):
        assert found.reason
        return
    found.figure.draw_without_rendering()
    assert found.title and found.caption.endswith(".")
    # What the figure's texts, lines and legends take up, in inches; a title that is too long would stick out.
    box, (width, height) = found.figure.get_tightbbox(), found.figure.get_size_inches()
    assert box.x0 > -0.01 and box.y0 > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


@pytest.mark.parametrize(
    ("case", "missing"),
    [
        ("nothing", set(PLOTS)),
        ("empty timeline", set(PLOTS)),
        ("both", OF_TUNING | OF_SWEEPS),
        ("no samples", {"memory", *OF_TUNING, *OF_SWEEPS}),
        ("tuned", OF_SWEEPS),
        ("tuned, nothing leaves", {*OF_TUNING, "link_use", *OF_SWEEPS}),
        ("sweep", OF_A_RUN),
        # Without horizons it is drawn against the microbatches.
        ("one horizon", OF_A_RUN | {"heat_map"}),
        ("one point", set(PLOTS)),
        ("no copies in the sweep", OF_A_RUN | {"axis_overlap_stalls", "heat_map"}),
        ("horizons", OF_A_RUN | {"front", "heat_map"}),
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


def test_horizon_lines_are_the_sweep_and_diamonds_the_measurement() -> None:
    data = CASES["horizons beside a sweep"]
    axes = drawn("axis_time_memory", data).figure.axes
    assert [a.get_title(loc="left") for a in axes[:2]] == ["2 microbatches", "4 microbatches"]
    line, measured = axes[1].get_lines()
    rows = [row for row in data.sweep if row.microbatches == 4]
    np.testing.assert_allclose(line.get_xdata(), [1, 2, 4])
    np.testing.assert_allclose(line.get_ydata(), [row.step_time_ns * (row.gpus or 1) / 4 / 1e6 for row in rows])
    steps = [p.measured for p in data.horizons if p.measured is not None]
    np.testing.assert_allclose(measured.get_xdata(), [1, 3])
    np.testing.assert_allclose(measured.get_ydata(), [step.step_time_ns / 4 / 1e6 for step in steps])
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
