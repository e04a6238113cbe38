"""What figures of a sweep show: compared with the rows themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.reports.run_data import HorizonPoint, RunData
from loadahead.reports.views import axis, front, heat_map
from loadahead.reports.views.axis import AxisView, Scale, fewer
from loadahead.reports.views.base import Missing
from loadahead.reports.views.explored import explored
from loadahead.reports.views.front import FrontView
from loadahead.reports.views.heat_map import HeatView, level
from loadahead.reports.views.timed import time_of
from loadahead.sim.choice import choices, gpu_ns_per_microbatch
from loadahead.sim.step_metrics import RankMetrics, StepMetrics, SweepRow
from tests.support.sweeps import row, simulated

MS = 1_000_000
GIB = 2**30


def front_view(*rows: SweepRow) -> FrontView:
    found = front.of(RunData(sweep=rows))
    assert isinstance(found, FrontView)
    return found


def axis_view(data: RunData) -> AxisView:
    found = axis.of(data)
    assert isinstance(found, AxisView)
    return found


def heat_view(*rows: SweepRow) -> HeatView:
    found = heat_map.of(RunData(sweep=rows))
    assert isinstance(found, HeatView)
    return found


def test_a_tuned_point_is_named_without_a_horizon() -> None:
    """Its horizon decided nothing, and a sweep of nothing but horizons has one name for all of it."""
    by_horizon = [row(8, 9, horizon=h, decisions="horizon") for h in (1, 2)]
    tuned = [row(7, 8, horizon=h, decisions="auto") for h in (1, 2)]
    (panel,) = front_view(*by_horizon, *tuned).panels
    assert [point.label for point in panel.points] == [
        "horizon 1, decisions horizon",
        "horizon 2, decisions horizon",
        "decisions auto",
        "decisions auto",
    ]
    assert [point.label for point in front_view(*tuned).panels[0].points] == ["tuned", "tuned"]


# The time by which points compare


# On a busy machine the first draw is slow.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 4), st.integers(1, 3)), min_size=2, max_size=9))
def test_the_time_of_a_figure_orders_points_as_the_choice_does(points: list[tuple[int, int, int]]) -> None:
    rows = [row(ns, 1, microbatches=count, gpus=gpus) for ns, count, gpus in points]
    time = time_of(rows)
    # The step's own time is so many times the choice's, for all rows alike.
    times = 1.0 if time.per_gpu_and_microbatch else rows[0].microbatches / (rows[0].gpus or 1)
    assert [time.of(one) for one in rows] == pytest.approx([gpu_ns_per_microbatch(one) * times for one in rows])


@pytest.mark.parametrize(
    ("counts", "gpus", "name"),
    [
        ((4, 4), (8, 8), "step time"),
        ((4, 8), (8, 8), "GPU time per microbatch"),
        ((4, 4), (8, 16), "GPU time per microbatch"),
        ((4, 8), (8, 16), "GPU time per microbatch"),
        ((4, 8), (None, None), "GPU time per microbatch"),
    ],
)
def test_the_axis_says_which_time_it_is(counts: tuple[int, int], gpus: tuple[int | None, ...], name: str) -> None:
    rows = [row(8, 1, microbatches=count, gpus=number) for count, number in zip(counts, gpus, strict=True)]
    time = time_of(rows)
    assert time.name == name
    assert bool(time.sentence) == (name != "step time")
    assert ("times the GPUs" in time.sentence) == (name != "step time" and gpus[0] is not None)


def test_every_figure_of_a_sweep_has_the_same_time() -> None:
    """One point was 1.495 s in one figure and 2.99 s in another one."""
    rows = tuple(row(n * h, 5, microbatches=n, horizon=h, gpus=2) for n in (2, 4) for h in (10, 20))
    data = RunData(sweep=rows)
    best = choices(rows)[0].index
    (panel,) = front_view(*rows).panels
    (one,) = heat_view(*rows).slices
    cells = [cell for cell in one.known if cell.chosen]
    ringed = [point for of in axis_view(data).panels for point in of.points if point.chosen]
    expected = gpu_ns_per_microbatch(rows[best])
    assert [panel.points[panel.chosen].timed_ns, cells[0].timed_ns, ringed[0].timed_ns] == [expected] * 3
    assert front_view(*rows).time == heat_view(*rows).time == axis_view(data).time


# The front


def test_the_front_view_holds_every_point_and_what_is_grey_is_what_does_not_fit() -> None:
    data = simulated(horizons=(1, 2, 4), counts=(2, 4))
    capacity = sorted(r.peak_device_bytes for r in data.sweep)[3]
    rows = tuple(replace(r, capacity_bytes=capacity) for r in data.sweep)
    (panel,) = front_view(*rows).panels
    assert [point.peak_device_bytes for point in panel.points] == [r.peak_device_bytes for r in rows]
    assert [point.fits for point in panel.points] == [r.peak_device_bytes <= capacity for r in rows]
    assert [point.keeps_all for point in panel.points] == [r.offloaded == 0 for r in rows]
    assert panel.points[panel.chosen].index == choices(rows)[0].index
    assert panel.capacity_bytes == capacity


def test_the_staircase_falls() -> None:
    (panel,) = front_view(row(9, 1), row(5, 3), row(7, 2), row(9, 3), row(8, 2)).panels
    assert panel.staircase == ((1, 9), (2, 7), (3, 5))
    assert [panel.points[place].index for place in panel.front] == [1, 2, 0]


def test_points_far_from_the_front_are_counted_not_drawn() -> None:
    near = [row(10 + i, 10 - i, horizon=i + 1) for i in range(3)]
    view = front_view(*near, row(100, 9, horizon=8))
    (panel,) = view.panels
    assert [point.index for point in panel.shown] == [0, 1, 2]
    assert "1 point that takes far more of either is not drawn." in view.sentences
    # Not as far, it does not flatten the others.
    assert len(front_view(*near, row(20, 9, horizon=8)).panels[0].shown) == 4


def test_sentences_of_the_front() -> None:
    rows = [
        row(100 * MS, 3 * GIB, horizon=1, capacity_bytes=4 * GIB),
        row(80 * MS, 4 * GIB, horizon=2, capacity_bytes=4 * GIB),
        row(70 * MS, 5 * GIB, horizon=3, capacity_bytes=4 * GIB, offloaded=0),
    ]
    view = front_view(*rows)
    assert view.title == "Step time against peak device memory"
    assert view.sentences == [
        "2 of 3 points fit; 2 of them are on the front: no other that fits takes less of one and no more of the other.",
        "Chosen: horizon 2, 80 ms (step time) and 4 GiB.",
        "Along the front, from horizon 2 to horizon 1, memory falls from 4 GiB to 3 GiB and step time rises by 25.0 %.",
        "Grey crosses do not fit.",
        "At squares nothing leaves the device.",
    ]
    nothing = front_view(*(replace(one, capacity_bytes=GIB) for one in rows)).sentences
    assert nothing[:2] == [
        "None of 3 points fits; the line is the front of all.",
        "Nearest to fit: horizon 1, 100 ms (step time) and 3 GiB.",
    ]


def test_points_that_are_equal_are_all_on_the_front() -> None:
    rows = [row(10, 5, horizon=horizon) for horizon in (1, 2, 3)]
    view = front_view(*rows, row(20, 9, horizon=4))
    (panel,) = view.panels
    assert (panel.front, panel.on_front) == ((0,), (0, 1, 2))
    assert view.sentences[0] == (
        "All 4 points fit; 3 of them are on the front: no other that fits takes less of one and no more of the other."
    )
    found = explored(RunData(sweep=tuple(rows)))
    assert not isinstance(found, Missing)
    assert (found.models[0].front, found.models[0].on_front) == ((0,), (0, 1, 2))


def test_each_model_has_a_panel_and_a_choice_of_its_own() -> None:
    rows = [
        row(ns, size, horizon=horizon, axes={"model.layers": layers})
        for layers, ns, size, horizon in ((12, 10, 5, 1), (12, 8, 6, 2), (40, 100, 50, 1), (40, 99, 60, 2))
    ]
    view = front_view(*rows)
    assert [panel.title for panel in view.panels] == ["layers 12", "layers 40"]
    assert [panel.points[panel.chosen].index for panel in view.panels] == [1, 2]
    many = [replace(one, axes=dict(one.axes) | {"model.layers": n}) for n in range(6) for one in rows[:2]]
    assert "2 of 6 models are not drawn." in front_view(*many).sentences


def test_one_point_has_no_front() -> None:
    assert isinstance(front.of(RunData(sweep=(row(1, 1),))), Missing)
    assert isinstance(front.of(RunData()), Missing)


# Against an axis


def test_the_horizon_is_the_axis_and_microbatches_have_panels() -> None:
    data = simulated(horizons=(1, 2, 4), counts=(2, 4), units=("tasks", "layers"))
    view = axis_view(data)
    assert view.axis == "horizon"
    assert [panel.title for panel in view.panels] == ["2 microbatches", "4 microbatches"]
    assert view.labels == ["horizon in tasks", "horizon in layers"]
    for panel, count in zip(view.panels, (2, 4), strict=True):
        for line in panel.lines:
            rows = [
                r for r in data.sweep if r.microbatches == count and f"horizon in {r['horizon_unit']}" == line.label
            ]
            assert [(p.value, p.timed_ns, p.peak_device_bytes) for p in line.points] == [
                (r.horizon, gpu_ns_per_microbatch(r), r.peak_device_bytes)
                for r in sorted(rows, key=lambda r: r.horizon)
            ]
            assert [p.overlap for p in line.points] == [r.overlap if r.offloaded else None for r in rows]
    best = data.sweep[choices(data.sweep)[0].index]
    ringed = [point for panel in view.panels for point in panel.points if point.chosen]
    assert [(p.value, p.step_time_ns) for p in ringed] == [(best.horizon, best.step_time_ns)]


@pytest.mark.parametrize(
    ("axes", "found", "scale"),
    [
        ({"microbatches": [1, 2, 4, 8]}, "microbatches", Scale.RATIOS),
        ({"microbatches": [2, 4, 6]}, "microbatches", Scale.LINEAR),
        ({"hardware.d2h": ["8 GB/s", "900 MB/s", "32 GB/s"]}, "hardware.d2h", Scale.RATIOS),
        ({"pipeline": ["simple", "interleaved"]}, "pipeline", Scale.CATEGORIES),
        ({"pipeline": ["simple", "gpipe"], "microbatches": [2, 3]}, "microbatches", Scale.LINEAR),
        ({"release_window": [1, 2], "microbatches": [2, 3]}, "microbatches", Scale.LINEAR),
        ({"hardware.preset": ["a", "b"], "release_window": [1, 2]}, "release_window", Scale.LINEAR),
    ],
)
def test_without_horizons_it_is_another_axis(axes: dict[str, list[Any]], found: str, scale: Scale) -> None:
    import itertools

    rows = [
        row(10 + i, 5, axes=dict(zip(axes, v, strict=True))) for i, v in enumerate(itertools.product(*axes.values()))
    ]
    view = axis_view(RunData(sweep=tuple(rows)))
    assert view.axis == found
    assert {panel.scale for panel in view.panels} == {scale}
    (first, *_) = view.panels
    places = [point.place for point in first.lines[0].points]
    assert places == sorted(places) and len(set(places)) == len(axes[found])


def test_every_panel_has_ticks_and_capacity_of_its_own() -> None:
    rows = [
        row(10, 5, horizon=h, capacity_bytes=c, axes={"hardware.preset": name})
        for name, c, horizons in (("small", 10, (1, 2)), ("large", 99, (1, 2, 3)))
        for h in horizons
    ]
    view = axis_view(RunData(sweep=tuple(rows)))
    assert [(panel.title, panel.capacity_bytes, list(panel.ticks.values())) for panel in view.panels] == [
        ("small", 10, ["1", "2"]),
        ("large", 99, ["1", "2", "3"]),
    ]


def test_at_most_four_panels_the_chosen_one_among_them() -> None:
    rows = [row(100 * n - (50 if n == 5 else 0), 5, microbatches=n, horizon=h) for n in range(1, 10) for h in (1, 2)]
    view = axis_view(RunData(sweep=tuple(rows)))
    assert len(view.panels) == 4 and "5 microbatches" in [panel.title for panel in view.panels]
    assert view.notes == ("5 of 9 values of microbatches are not drawn.",)
    small = fewer(view, 2)
    assert len(small.panels) == 2 and "5 microbatches" in [panel.title for panel in small.panels]
    assert small.notes[-1] == "2 of 4 panels are not drawn at this width."


def test_of_many_combinations_panels_differ_from_the_chosen_ones_in_one_axis() -> None:
    """Panels that differ in two axes at once do not say which of them made the difference."""
    rows = [
        row(100 * n + d - 90 * ((n, d) == (4, 2)), 5, microbatches=n, horizon=h, axes={"hardware.d2h": f"{d} GB/s"})
        for n in (2, 4, 8)
        for d in (1, 2, 3)
        for h in (1, 2)
    ]
    view = axis_view(RunData(sweep=tuple(rows)))
    titles = [panel.title.split(", ") for panel in view.panels]
    chosen = ["4 microbatches", "d2h 2 GB/s"]
    assert len(titles) == 4 and chosen in titles
    assert all(sum(a != b for a, b in zip(one, chosen, strict=True)) == 1 for one in titles if one != chosen)
    assert view.notes == (
        "Each other panel differs from that of the chosen point in one axis.",
        "5 of 9 combinations of microbatches and d2h are not drawn.",
    )
    nothing = axis_view(RunData(sweep=tuple(replace(one, capacity_bytes=1) for one in rows)))
    assert nothing.notes[0] == "Each other panel differs from that of the point nearest to fit in one axis."


def test_at_most_five_lines_the_chosen_one_among_them() -> None:
    rows = [row(100 - 50 * (w == 4), 5, horizon=h, release_window=w) for w in range(1, 9) for h in (1, 2)]
    view = axis_view(RunData(sweep=tuple(rows)))
    assert len(view.labels) == 5 and "release window 4" in view.labels
    assert view.notes == ("3 of 8 variants are not drawn.",)


def step(ns: int) -> StepMetrics:
    rank = RankMetrics(
        rank=0,
        peak_device_bytes=7,
        peak_boundary_bytes=0,
        peak_host_bytes=0,
        compute_ns=ns,
        idle_ns=0,
        stall_release_ns=0,
        stall_prefetch_ns=0,
        stall_send_ns=0,
        stall_recv_ns=0,
        copy_ns=0,
        overlap=0.0,
    )
    return StepMetrics(step_time_ns=ns, ranks=(rank,), offloaded=0, kept=1, host_bytes=0)


def measured(horizon: int, microbatches: int | None) -> HorizonPoint:
    return HorizonPoint(horizon=horizon, microbatches=microbatches, predicted=step(10), measured=step(11))


def test_measured_horizons_stand_in_the_panel_of_their_microbatches() -> None:
    rows = tuple(row(10, 5, horizon=h, microbatches=n) for n in (2, 4) for h in (1, 2))
    view = axis_view(RunData(sweep=rows, horizons=(measured(1, 4), measured(3, 4))))
    assert [[point.value for point in panel.measured] for panel in view.panels] == [[], [1, 3]]
    assert view.measured_sentence == ["Diamonds were measured."]
    alone = axis_view(RunData(horizons=(measured(1, None), measured(3, None))))
    assert [len(line.points) for line in alone.panels[0].lines] == [2]
    other = axis_view(RunData(sweep=rows, horizons=(measured(1, 8),)))
    assert [panel.title for panel in other.panels] == ["2 microbatches", "4 microbatches", "8 microbatches"]


def test_measured_horizons_are_not_guessed_into_a_panel() -> None:
    rows = tuple(row(10, 5, horizon=h, axes={"hardware.d2h": d}) for d in ("1 GB/s", "2 GB/s") for h in (1, 2))
    view = axis_view(RunData(sweep=rows, horizons=(measured(1, 4), measured(2, 4))))
    assert not any(panel.measured for panel in view.panels)
    assert view.notes == ("Measured horizons are not drawn: which d2h they are of is not known.",)


def test_sentences_against_an_axis_follow_from_the_points() -> None:
    rows = tuple(row(ns * MS, size * GIB, horizon=h) for h, ns, size in ((1, 200, 1), (2, 101, 2), (3, 100, 3)))
    assert axis_view(RunData(sweep=rows)).sentences == [
        "4 microbatches: horizon 2 is the first within 1 % of the least step time, 101 ms, and needs 2 GiB; "
        "horizon 3 needs 3 GiB."
    ]
    named = tuple(row(ns, size, pipeline=p) for p, ns, size in (("simple", 200, 1), ("gpipe", 100, 2)))
    assert axis_view(RunData(sweep=named)).sentences == [
        "4 microbatches: least step time with gpipe, 100 ns, least memory with simple, 1 B."
    ]


def test_only_what_fits_is_called_fast_enough() -> None:
    """The first within 1 % of the least was one that does not fit."""
    sizes = ((1, 200, 1), (2, 100, 2), (3, 101, 2), (4, 90, 9))
    rows = [row(ns * MS, size * GIB, horizon=h, capacity_bytes=5 * GIB) for h, ns, size in sizes]
    assert axis_view(RunData(sweep=tuple(rows))).sentences == [
        "4 microbatches: of those that fit, horizon 2 is the first within 1 % of the least step time, 100 ms, and "
        "needs 2 GiB; horizon 4 needs 9 GiB, and does not fit."
    ]
    tight = [replace(one, capacity_bytes=GIB) for one in rows]
    assert axis_view(RunData(sweep=tuple(tight))).sentences == [
        "4 microbatches: horizon 1 alone fits: it takes 200 ms (step time) and needs 1 GiB; horizon 4 needs 9 GiB, and "
        "does not fit."
    ]
    none = [replace(one, capacity_bytes=1) for one in rows]
    assert axis_view(RunData(sweep=tuple(none))).sentences == ["4 microbatches: none of 4 points fits."]
    named = [row(n, n, pipeline=p, capacity_bytes=2) for p, n in (("simple", 3), ("gpipe", 2), ("interleaved", 1))]
    assert axis_view(RunData(sweep=tuple(named))).sentences == [
        "4 microbatches: of those that fit, least step time with interleaved, 1 ns, least memory with interleaved, 1 B."
    ]


def test_models_along_an_axis_are_not_compared() -> None:
    rows = tuple(row(100 * size, size, axes={"model.microbatch_size": size}) for size in (1, 2, 4))
    (sentence,) = axis_view(RunData(sweep=rows)).sentences
    assert sentence.startswith("Models are not compared: each ") and sentence.endswith(" is another one.")
    other = tuple(row(100 * size, size, axes={"parallel.tensor_parallel_degree": size}) for size in (1, 2, 4))
    assert "is the first within 1 % of the least" in axis_view(RunData(sweep=other)).sentences[0]


def test_what_does_not_fit_is_marked_against_an_axis() -> None:
    rows = tuple(row(10, size, horizon=size, capacity_bytes=2) for size in (1, 2, 3))
    (panel,) = axis_view(RunData(sweep=rows)).panels
    assert [point.fits for point in panel.points] == [True, True, False]


@pytest.mark.parametrize("data", [RunData(), RunData(sweep=(row(1, 1),)), RunData(horizons=(measured(1, 2),))])
def test_one_value_is_no_curve(data: RunData) -> None:
    assert isinstance(axis.of(data), Missing)


# The heat map


def test_every_cell_is_its_row() -> None:
    data = simulated(horizons=(1, 2, 4), counts=(2, 4))
    capacity = sorted(r.peak_device_bytes for r in data.sweep)[3]
    rows = tuple(replace(r, capacity_bytes=capacity) for r in data.sweep)
    view = heat_view(*rows)
    assert (view.across, view.up) == ("horizon", "microbatches")
    (one,) = view.slices
    assert one.across == (1, 2, 4) and one.up == (2, 4)
    by_axes = {(r.horizon, r.microbatches): r for r in rows}
    for count, line in zip(one.up, one.cells, strict=True):
        for horizon, cell in zip(one.across, line, strict=True):
            assert cell is not None
            r = by_axes[horizon, count]
            assert cell.timed_ns == gpu_ns_per_microbatch(r)
            assert (cell.peak_device_bytes, cell.fits) == (r.peak_device_bytes, r.peak_device_bytes <= capacity)
            assert cell.chosen == (r is rows[choices(rows)[0].index])


def test_other_axes_stand_at_the_chosen_point() -> None:
    rows = [
        row(10 * n + w, 5, horizon=h, microbatches=n, release_window=w) for n in (1, 2) for h in (1, 2) for w in (1, 2)
    ]
    (one,) = heat_view(*rows).slices
    assert one.fixed == {"release_window": 1}
    assert one.where == "release window 1; 1 other value not drawn"
    assert "The 1 other value of release window is not drawn." in heat_view(*rows).sentences[0]
    assert [cell.timed_ns for cell in one.known] == [11, 11, 10.5, 10.5]


def test_without_horizons_the_two_axes_with_most_values() -> None:
    rows = [
        row(1, 1, pipeline=p, axes={"hardware.d2h": f"{d} GB/s"}, release_window=w)
        for p in ("a", "b")
        for d in (1, 2, 3)
        for w in range(1, 5)
    ]
    view = heat_view(*rows)
    assert (view.across, view.up) == ("release_window", "hardware.d2h")


@pytest.mark.parametrize(
    ("number", "expected"), [(100, 0), (101, 0), (101.1, 1), (105, 1), (110, 2), (150, 3), (200, 4), (250, 4), (251, 5)]
)
def test_colours_are_shares_above_the_least(number: float, expected: int) -> None:
    assert level(number, 100) == expected


def test_sentences_of_the_heat_map() -> None:
    rows = [
        row(n * h * MS, h * GIB, microbatches=n, horizon=h, capacity_bytes=GIB * c)
        for c in (1,)
        for n in (1, 2)
        for h in (1, 2)
    ]
    view = heat_view(*rows)
    assert view.sentences[:4] == [
        "2 of the 4 points shown fit, the least time of these is 1 ms, the least memory 1 GiB.",
        "Colours say how much more than the least that fits a point takes.",
        "Grey hatched cells do not fit.",
        "The frame is the chosen point.",
    ]
    nothing = heat_view(*(replace(one, capacity_bytes=1) for one in rows)).sentences
    assert nothing[0] == "None of 4 points fits." and not any("Colours" in said or "frame" in said for said in nothing)


def test_a_long_axis_shows_some_values_and_the_chosen_one() -> None:
    rows = [row(100 - 50 * (h == 46), 1, microbatches=n, horizon=h) for n in (4, 5) for h in range(1, 101)]
    view = heat_view(*rows)
    (one,) = view.slices
    assert len(one.across) == 32 and 46 in one.across
    assert view.notes == ("Of 100 values of horizon 32 are shown.",)


def test_one_axis_is_no_map() -> None:
    found = heat_map.of(RunData(sweep=(row(1, 1, horizon=1), row(1, 1, horizon=2))))
    assert isinstance(found, Missing) and "only one axis varies" in found.reason
