"""Tuned plans are held against proven optima, by both engines; they print how far from them they are."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from loadahead.sim.engines import ENGINES, simulate
from loadahead.sim.planner import build_plan
from loadahead.sim.planner.goal import Goal
from loadahead.sim.tuning import tune
from loadahead.sim.verify import verify
from tests.optima import store
from tests.optima.instances import ANCHORS, FURTHER, RANDOM, TINY
from tests.optima.problem import Instance

# How much longer a tuned step may be than the shortest there is, of each instance and on average.
FURTHEST, MEAN = 0.02, 0.005
STORED = store.read()


def gap_of(instance: Instance) -> float:
    """By which share the tuned step is longer than the optimum; AssertionError where anything is said wrongly."""
    workload, costs, policy = instance.problem()
    found = tune(workload, costs, policy, Goal(boundary_memory=instance.cap_bytes))
    row, optimum = found.chosen.row, STORED[instance.name].optimum_ns
    plan = build_plan(workload, policy, decisions=found.chosen.decisions)
    assert verify(plan) == []
    for engine in ENGINES:
        metrics = simulate(plan, costs, engine).metrics
        assert metrics.step_time_ns == row.step_time_ns
        assert metrics.peak_boundary_bytes == row.peak_boundary_bytes <= instance.cap_bytes
    assert found.bound.step_time_ns <= optimum <= row.step_time_ns, instance.name
    assert found.horizon is None or row.step_time_ns <= found.horizon.row.step_time_ns
    return row.step_time_ns / optimum - 1


def gaps_of(instances: Iterable[Instance], capsys: pytest.CaptureFixture[str], what: str) -> list[float]:
    gaps = {instance.name: gap_of(instance) for instance in instances}
    assert all(STORED[name].status == "OPTIMAL" for name in gaps)
    worst, values = max(gaps, key=lambda name: gaps[name]), sorted(gaps.values())
    exact = sum(gap == 0 for gap in values)
    with capsys.disabled():
        print(
            f"\ntuned plans above {len(gaps)} optima ({what}): mean {sum(values) / len(values):.3%}, largest "
            f"{values[-1]:.2%} ({worst}), {exact} exact"
        )
    return values


def test_the_published_table_is_reached(capsys: pytest.CaptureFixture[str]) -> None:
    values = gaps_of((*ANCHORS, *FURTHER), capsys, "published table")
    assert values[-1] <= FURTHEST


def test_fifty_random_cases_are_tuned_to_their_optima(capsys: pytest.CaptureFixture[str]) -> None:
    values = gaps_of(RANDOM, capsys, "random")
    assert len(values) == 50
    assert values[-1] <= FURTHEST
    assert sum(values) / len(values) <= MEAN


def test_tiny_cases_are_tuned_to_their_optima(capsys: pytest.CaptureFixture[str]) -> None:
    assert gaps_of(TINY, capsys, "tiny")[-1] == 0
