"""Two sweeps compared: which points are one, what moved, the fronts, and that the words follow from the numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.reports.about import About
from loadahead.reports.sweep_comparison import SweepComparison, SweepSide, compare_sweeps, sweeps_grid
from loadahead.reports.sweep_facts import CostsFacts, SweepFacts
from loadahead.sim.errors import InputError
from loadahead.sim.step_metrics import SweepRow
from tests.support.sweeps import facts, row

# On a busy machine the first draw is slow.
QUIETLY = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)

GIB, MS = 2**30, 10**6


def compared(
    a: list[SweepRow], b: list[SweepRow], facts_a: SweepFacts | None = None, facts_b: SweepFacts | None = None
) -> SweepComparison:
    return compare_sweeps(
        SweepSide(name="a", rows=tuple(a), facts=facts_a), SweepSide(name="b", rows=tuple(b), facts=facts_b)
    )


def by_horizon(times: dict[int, int], sizes: dict[int, int] | None = None, **columns: Any) -> list[SweepRow]:
    return [row(ns * MS, (sizes or {}).get(h, h) * GIB, horizon=h, **columns) for h, ns in times.items()]


POINTS = st.dictionaries(st.integers(1, 6), st.tuples(st.integers(1, 5), st.integers(1, 5), st.booleans()), min_size=1)


@QUIETLY
@given(POINTS, POINTS)
def test_points_changes_and_fronts_are_brute_forces(
    a: dict[int, tuple[int, int, bool]], b: dict[int, tuple[int, int, bool]]
) -> None:
    def rows(points: dict[int, tuple[int, int, bool]]) -> list[SweepRow]:
        return [row(t, m, horizon=h, capacity_bytes=9 if fits else 1) for h, (t, m, fits) in points.items()]

    def front(points: dict[int, tuple[int, int, bool]]) -> set[int]:
        fit = {h: (t, m) for h, (t, m, ok) in points.items() if ok or m <= 1} or {h: p[:2] for h, p in points.items()}
        return {h for h, p in fit.items() if not any(o[0] <= p[0] and o[1] <= p[1] and o != p for o in fit.values())}

    found = compared(rows(a), rows(b))
    both = [h for h in a if h in b]
    assert [point.axes["horizon"] for point in found.points] == both
    assert [one.horizon for one in found.only_a] == [h for h in a if h not in b]
    assert [one.horizon for one in found.only_b] == [h for h in b if h not in a]
    for point, h in zip(found.points, both, strict=True):
        assert point.step_time == pytest.approx(b[h][0] / a[h][0] - 1)
        assert point.peak_device_bytes == b[h][1] - a[h][1]
        fits_a, fits_b = (p[2] or p[1] <= 1 for p in (a[h], b[h]))
        assert (point.became_to_fit, point.no_longer_fits) == (fits_b and not fits_a, fits_a and not fits_b)
    (change,) = found.fronts
    assert {one.horizon for one in change.joined} == front(b) - front(a)
    assert {one.horizon for one in change.left} == front(a) - front(b)
    assert change.stayed == len(front(a) & front(b))
    faster = [h for h in both if b[h][0] < a[h][0]]
    assert {p.axes["horizon"] for p in found.gains(9)} == set(faster)
    changes = [p.gpu_time or 0.0 for p in found.gains(9)]
    assert changes == sorted(changes)
    json.dumps(found.to_dict(), allow_nan=False)
    assert sweeps_grid(found).headers and found.sentences


def test_the_answer_comes_first() -> None:
    a, b = by_horizon({1: 200, 2: 100, 3: 100}), by_horizon({1: 97, 2: 97, 3: 100})
    found = compared(a, b)
    assert list(found.sentences) == [
        "B's best point takes 3.0 % less time and needs 1 GiB less device memory: horizon 1 instead of horizon 2.",
        "Of 3 points that both have, 2 moved: 2 faster, 0 slower, 0 as fast; 0 with less and 0 with more device "
        "memory.",
        "0 points joined the front, 1 left it, 1 stayed.",
        "A and B do not say what the sweep was made with, so that the causes are not compared.",
    ]


def test_a_point_with_other_microbatches_is_compared_by_gpu_time() -> None:
    found = compared([row(100, 5, microbatches=4, gpus=8)], [row(300, 5, microbatches=8, gpus=8)])
    assert found.best[0].change.gpu_time == pytest.approx(0.5)
    assert found.sentences[0].startswith("B's best point takes 50.0 % more GPU time per microbatch and needs the same")
    assert "No point of one sweep is a point of the other." in found.sentences
    assert "1 point is A's alone: 4 microbatches." in found.sentences


def test_nothing_moved() -> None:
    a = by_horizon({1: 2, 2: 1})
    same = facts({"horizon": [1, 2]})
    found = compared(a, a, same, same)
    assert not found.moved
    assert list(found.sentences) == [
        "B's best point takes the same time and needs the same device memory: horizon 2, as in A.",
        "All 2 points that both have are the same in both.",
        "The front has the same 2 points.",
        "Both were made with the same scenario, costs and version.",
    ]


def test_what_fits_in_one_alone() -> None:
    a = by_horizon({1: 100}, capacity_bytes=GIB // 2)
    b = by_horizon({1: 100}, capacity_bytes=GIB)
    assert compared(a, b).sentences[0] == (
        "In B something fits, in A nothing does: 4 microbatches, horizon 1 is B's best, and A's nearest lacks 512 MiB."
    )
    assert "1 came to fit and 0 no longer fit." in compared(a, b).sentences[1]
    assert "0 came to fit and 1 no longer fits." in compared(b, a).sentences[1]
    assert compared(a, a).sentences[0].startswith("Nothing fits in either: the nearest point lacks 512 MiB in A")


def with_axis(rows: list[SweepRow], axis: str, value: Any) -> list[SweepRow]:
    return [replace(one, axes=dict(one.axes) | {axis: value}) for one in rows]


def test_an_axis_of_one_sweep_stands_at_the_others_value_in_whatever_unit() -> None:
    """A's scenario has 16000000000 B/s; of B's rows those at 16 GB/s are A's points."""
    a = by_horizon({1: 2, 2: 1})
    b = [*with_axis(by_horizon({1: 4, 2: 3}), "hardware.d2h", "8 GB/s"), *with_axis(a, "hardware.d2h", "16 GB/s")]
    found = compared(a, b, facts({"h": [1]}), facts({"h": [1], "hardware.d2h": ["8 GB/s", "16 GB/s"]}))
    assert found.fixed == {"hardware.d2h": "16 GB/s"}
    assert [point.b["hardware.d2h"] for point in found.points] == ["16 GB/s", "16 GB/s"]
    assert not found.moved and len(found.only_b) == 2
    assert "d2h is an axis of B alone; points are matched at A's, 16 GB/s." in found.sentences
    # The other way round too.
    assert len(compared(b, a, facts({"hardware.d2h": ["8 GB/s"]}), facts({})).points) == 2
    # A column of the planner's stands under its table.
    ahead = with_axis(a, "receive_ahead", 1)
    assert compared(a, ahead, facts({}), facts({})).fixed == {"receive_ahead": 1}


def test_an_axis_of_which_the_other_has_another_value() -> None:
    a = by_horizon({1: 2})
    b = [*with_axis(a, "hardware.d2h", "8 GB/s"), *with_axis(a, "hardware.d2h", "9 GB/s")]
    found = compared(a, b, facts({}), facts({"hardware.d2h": ["8 GB/s", "9 GB/s"]}))
    said = "d2h is an axis of B alone, and A has 16 GB/s, which is none of its values: no points are matched."
    assert said in found.sentences
    assert not any("not known" in sentence for sentence in found.sentences)


OTHER = {"model": {"kind": "uniform", "units_per_stage": 4}}


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ({"about": About(model="gpt")}, {"about": About(model="llama")}, ("gpt", "llama")),
        ({"about": About(model="gpt")}, {"about": About(model="gpt")}, None),
        ({"tables": OTHER}, {"tables": {"model": {"kind": "module"}}}, ("scenario test", "scenario test")),
        ({"tables": OTHER}, {"tables": {"model": {"kind": "uniform", "units_per_stage": 5}}}, None),
        (
            {"tables": OTHER},
            {"scenario": "two", "tables": {"model": {"kind": "uniform", "units_per_stage": 5}}},
            ("scenario test", "scenario two"),
        ),
        ({"tables": OTHER}, {"scenario": "two", "tables": OTHER}, None),
        (
            {"tables": {"model": {"preset": "gpt"}}},
            {"axes": {"model.preset": ("gpt", "llama")}, "tables": {"model": {}}},
            None,
        ),
    ],
)
def test_sweeps_of_different_models(a: dict[str, Any], b: dict[str, Any], told: tuple[str, str] | None) -> None:
    """That they are of different models comes first, and no share of one model's time is told of the other's."""
    rows, others = by_horizon({1: 2, 2: 1}), by_horizon({3: 700, 4: 800})
    found = compared(rows, others, *(facts(**{"axes": {}} | side) for side in (a, b)))
    assert found.other_models == told
    first = found.sentences[0]
    if told is None:
        assert first.startswith("B's best point takes 69900.0 % more time")
        return
    assert first == f"A is of {told[0]} and B of {told[1]}: different models, of which no chosen points are compared."
    assert not any("%" in sentence or "the front" in sentence for sentence in found.sentences)
    assert found.to_dict()["other_models"] == list(told)


def test_a_comparison_is_a_line_and_a_table() -> None:
    a, b = by_horizon({1: 200, 2: 100, 3: 100}), by_horizon({1: 97, 2: 97, 4: 5})
    found = compared(a, b)
    assert repr(found) == f"<SweepComparison of A, a, and B, b: {found.sentences[0]}>"
    frame = found.to_pandas()
    assert frame["horizon"].tolist() == [1, 2]
    assert frame["a_step_time_ns"].tolist() == [200 * MS, 100 * MS]
    assert frame["b_step_time_ns"].tolist() == [97 * MS, 97 * MS]
    assert frame["step_time_change"].tolist() == pytest.approx([-0.515, -0.03])
    assert frame["peak_device_bytes_change"].tolist() == [0, 0]
    assert compared(a, by_horizon({7: 1})).to_pandas().empty


def test_an_axis_of_which_nothing_is_known() -> None:
    a = by_horizon({1: 2})
    one = with_axis(a, "hardware.h2d", "8 GB/s")
    found = compared(a, one, facts({}), facts({}))
    assert (found.ignored, len(found.points)) == (("hardware.h2d",), 1)
    assert "B alone says h2d 8 GB/s; points are matched as though A's were alike." in found.sentences
    two = [*one, *with_axis(a, "hardware.h2d", "9 GB/s")]
    found = compared(a, two, facts({}), facts({}))
    assert (found.apart, len(found.points), len(found.only_b)) == ({"hardware.h2d": None}, 0, 2)
    assert "h2d is an axis of B alone, and A does not set it: no points are matched." in found.sentences
    unknown = "h2d is an axis of B alone, and A does not say what it has: no points are matched."
    assert unknown in compared(a, two).sentences
    assert not any("the front" in sentence for sentence in found.sentences), "no point of either is on the other's"
    assert found.fronts[0].stayed == 0


def test_each_model_is_compared_with_itself() -> None:
    def rows(factor: int) -> list[SweepRow]:
        both = {12: by_horizon({1: 10, 2: 12}), 40: by_horizon({1: 100 * factor, 2: 130})}
        return [one for layers, own in both.items() for one in with_axis(own, "model.layers", layers)]

    found = compared(rows(1), rows(2))
    assert [dict(one.model) for one in found.best] == [{"model.layers": 12}, {"model.layers": 40}]
    assert [one.b.row.horizon for one in found.best] == [1, 2]
    assert found.sentences[0].startswith("layers 12: B's best point takes the same time")
    assert found.sentences[1].startswith("layers 40: B's best point takes 30.0 % more time")
    # One model beside several: the one that is the scenario's.
    alone = by_horizon({1: 10, 2: 12})
    tables = {"model": {"layers": 40}}
    found = compared(alone, rows(1), facts({}, tables=tables), facts({"model.layers": [12, 40]}))
    assert [one.b.row["model.layers"] for one in found.best] == [40]
    assert found.fixed == {"model.layers": 40}


def test_what_the_sweeps_were_made_with() -> None:
    a = by_horizon({1: 2})
    before = facts({"offload.activation_loading_horizon": [1]})
    now = facts(
        {"offload.activation_loading_horizon": [1, 2]},
        loadahead="0.2.0",
        tables={"hardware": {"d2h": "16 GB/s", "memory": "2147483648 B"}, "offload": {"receive_ahead": 2}},
        costs=(CostsFacts(microbatches=None, source="calibrated on cpu", digest="abc"),),
    )
    found = compared(a, a, before, now)
    assert {one.what: (one.a, one.b) for one in found.differences} == {
        "Loadahead's version": ("0.1.0", "0.2.0"),
        "axis offload.activation_loading_horizon": ([1], [1, 2]),
        "offload.receive_ahead": (1, 2),
        "hardware.memory": (None, "2147483648 B"),
        "costs": ("scenario", "calibrated on cpu"),
    }
    assert found.sentences[-1] == (
        "Made with: Loadahead's version, 0.1.0 in A and 0.2.0 in B; offload.receive_ahead, 1 in A and 2 in B; "
        "hardware.memory, not set in A and 2 GiB in B; costs, scenario in A and calibrated on cpu in B."
    )
    other = facts({}, costs=(CostsFacts(microbatches=None, source="scenario", digest="x"),))
    assert [one.what for one in compared(a, a, facts({}), other).differences] == ["digest of the costs"]


def test_sizes_that_read_alike_are_exact() -> None:
    a = by_horizon({1: 2})
    sizes = [facts({}, tables={"hardware": {"memory": f"{n} B"}}) for n in (2**31, 2**31 + 1)]
    assert "2147483648 B in A and 2147483649 B in B" in compared(a, a, *sizes).sentences[-1]


def test_the_table_has_the_largest_gain_first_and_the_largest_loss_last() -> None:
    a = by_horizon(dict.fromkeys(range(1, 9), 100))
    b = by_horizon({h: 100 + change for h, change in enumerate((-5, 7, -20, 30, 0, -1, 2, 0), 1)})
    grid = sweeps_grid(compared(a, b), 2)
    assert [cells[0] for cells in grid.rows] == ["3", "1", "2", "4"]
    assert grid.rows[0][1:4] == ("100 ms", "80 ms", "−20.0 %")
    assert grid.note.startswith("4 of 6 points that moved")


def test_a_sweep_without_points_is_refused() -> None:
    with pytest.raises(InputError, match="b: the sweep has no points"):
        compared(by_horizon({1: 2}), [])
