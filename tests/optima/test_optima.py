"""The store is of today's instances, its plans take what it says, and the tiniest optima are found anew."""

from __future__ import annotations

import pytest

import loadahead as la
from loadahead.sim.engines import simulate
from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.planner import build_plan, make_order
from loadahead.sim.planner.tasks import tasks_of, units_of
from tests.optima import store
from tests.optima.exhaustive import least_step_ns
from tests.optima.instances import (
    ANCHORS,
    EVERY,
    PUBLISHED,
    PUBLISHED_WITHOUT_SEND_QUEUE,
    RANDOM,
    STEP_NS,
    TINY,
)
from tests.optima.layout import layout_of
from tests.optima.problem import Instance
from tests.optima.replay import replayed
from tests.optima.store import Stored

AGAIN = "`make optima` makes the store anew"


@pytest.fixture(scope="module")
def stored() -> dict[str, Stored]:
    return store.read()


def by_name(instance: Instance) -> str:
    return instance.name


def test_the_store_is_of_todays_instances(stored: dict[str, Stored]) -> None:
    assert {name: one.digest for name, one in stored.items()} == {one.name: one.digest for one in EVERY}, AGAIN
    assert list(stored) == [one.name for one in EVERY], AGAIN


def test_there_are_as_many_kinds_of_instances_as_are_promised() -> None:
    assert len(ANCHORS) == 15 and len(RANDOM) == 50 and len(TINY) == 5
    assert {one.ranks for one in RANDOM} == set(range(1, 9))
    assert {one.pipeline for one in RANDOM} == {"simple", "interleaved"}
    assert {len(one.stages[0]) for one in RANDOM} == {1, 2, 3}
    assert {one.receive_ahead for one in RANDOM} == {0, 1}
    ratios = [_ratio(one) for one in RANDOM]
    assert min(ratios) < 0.4 and max(ratios) > 3.5


def _ratio(instance: Instance) -> float:
    """How long a copy of the average boundary takes, over the average FORWARD."""
    units = [unit for stage in instance.stages for unit in stage]
    return sum(instance.out_ns(unit.boundary_bytes) for unit in units) / sum(unit.forward_ns for unit in units)


def test_every_optimum_is_proven(stored: dict[str, Stored]) -> None:
    assert {name: one.status for name, one in stored.items() if one.status != "OPTIMAL"} == {}
    assert all(one.bound_ns == one.optimum_ns for one in stored.values())


@pytest.mark.parametrize("instance", EVERY, ids=by_name)
def test_a_stored_plan_takes_what_the_store_says(instance: Instance, stored: dict[str, Stored]) -> None:
    """It is proven, both engines time it alike, and it keeps the cap to the byte."""
    one = stored[instance.name]
    step_ns, peak = replayed(instance, one.decisions)
    assert step_ns == one.optimum_ns and peak <= instance.cap_bytes
    assert replayed(instance, []) == (one.keep_all_ns, one.keep_all_boundary_bytes)
    assert one.keep_all_boundary_bytes > instance.cap_bytes, "else there is nothing to decide"


@pytest.mark.parametrize("instance", TINY, ids=by_name)
def test_a_tiny_optimum_is_proven_anew(instance: Instance, stored: dict[str, Stored]) -> None:
    assert least_step_ns(instance) == stored[instance.name].optimum_ns


@pytest.mark.parametrize("instance", ANCHORS, ids=by_name)
def test_the_published_table_is_reached(instance: Instance, stored: dict[str, Stored]) -> None:
    one, published = stored[instance.name], PUBLISHED[instance] * STEP_NS
    if instance not in PUBLISHED_WITHOUT_SEND_QUEUE:
        assert one.optimum_ns == published
        return
    # Plans as they are cannot: even the one that keeps all, under no cap, takes longer.
    assert one.without_send_queue_ns == published < one.keep_all_ns <= one.optimum_ns


@pytest.mark.parametrize("instance", EVERY, ids=by_name)
def test_the_solvers_view_of_an_instance_is_the_planners(instance: Instance, stored: dict[str, Stored]) -> None:
    """Both say the same of where tasks stand, and of what a rank holds where all stay or all leave at once."""
    workload, costs, policy = instance.problem()
    order = make_order(policy.pipeline, policy.ranks, policy.microbatches)
    tasks, layout = tasks_of(units_of(workload, order), order), layout_of(instance)
    own = [task for of_rank in layout.tasks for task in of_rank]
    assert [task.unit for task in own] == tasks.unit.tolist()
    assert [task.microbatch for task in own] == tasks.microbatch.tolist()
    assert [int(task.backward) for task in own] == tasks.backward.tolist()
    assert layout.keep_all_bytes == stored[instance.name].keep_all_boundary_bytes
    away = [
        {
            "stage": rank,
            "unit": b.unit - layout.boundaries[rank][0].unit,
            "microbatch": b.microbatch,
            "release": b.forward + 1,
            "acquire": b.backward,
        }
        for rank, boundaries in enumerate(layout.boundaries)
        for b in boundaries
        if b.can_leave
    ]
    plan = build_plan(workload, policy, decisions=Decisions.from_rows(away))
    peaks = [rank.peak_boundary_bytes for rank in simulate(plan, costs).metrics.ranks]
    assert max(peaks) == layout.least_bytes


@pytest.mark.parametrize("instance", [one for one in EVERY if one.scenario() is not None], ids=by_name)
def test_the_scenario_of_an_instance_is_the_same_problem(instance: Instance) -> None:
    written = instance.scenario()
    assert written is not None
    for changes in ({"offload.offload_activations": False}, {"offload.activation_loading_horizon": 2}):
        step = la.simulate(la.load(written, changes)).metrics
        workload, costs, policy = instance.problem()
        off = "offload.offload_activations" in changes
        plan = build_plan(workload, policy.choosing(offload=False) if off else policy.choosing(horizon=2))
        assert step == simulate(plan, costs).metrics


def test_other_instances_have_other_digests() -> None:
    assert len({one.digest for one in EVERY}) == len(EVERY)


def test_what_is_not_tiny_is_not_tried() -> None:
    with pytest.raises(ValueError, match="decisions; at most 200000 are tried"):
        least_step_ns(ANCHORS[0])
