"""What must hold of every simulated step, and what the engines must agree on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.sim.engines import ENGINES, find_engine, simulate
from loadahead.sim.engines.simpy_engine import Simulation
from loadahead.sim.engines.simulate import contended_links
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.ir.plan import Plan
from loadahead.sim.memory import walk
from tests.support.plans import costs_for, plans, stray_plans

thorough = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(st.data())
def test_start_and_finish_follow_the_recurrence(data: st.DataObject) -> None:
    """start(i) = max(host, finish(previous in queue), finish(edges)), finish(i) = start(i) + duration(i).

    A task starts when its rank's host begins to issue it, anything else when it has been issued; a task finishes no
    earlier than that.
    """
    plan = data.draw(plans() | stray_plans())
    costs = data.draw(costs_for(plan))
    times = find_engine("simpy")(plan, costs)
    duration, launch = costs.durations(plan).tolist(), costs.launches(plan).tolist()
    last: dict[tuple[int, int], int] = {}
    host = [0] * plan.ranks
    finish: list[int] = []
    for op in plan:
        queue = (op.rank, int(op.queue))
        is_task = op.queue == Queue.COMPUTE and op.kind not in (Kind.RELEASE, Kind.ACQUIRE)
        begun = host[op.rank]
        host[op.rank] = issued = begun + launch[op.index]
        start = max([begun if is_task else issued, last.get(queue, 0), *(finish[e] for e in op.after)])
        finish.append(max(start + duration[op.index], issued if is_task else 0))
        last[queue] = finish[-1]
        assert times.start_ns[op.index] == start
    assert times.end_ns.tolist() == finish


@thorough
@given(st.data())
def test_live_memory_agrees_with_the_walk(data: st.DataObject) -> None:
    plan = data.draw(plans())
    costs = data.draw(costs_for(plan))
    simulation = Simulation(plan, costs)
    simulation.run()
    expected = walk(plan, costs)
    assert simulation.peak_device == expected.peak_device.tolist()
    assert simulation.device_bytes == costs.static(plan.stage_rank, plan.ranks).tolist()  # all that was taken was freed


@thorough
@given(st.data())
def test_lower_bounds_and_memory_samples(data: st.DataObject) -> None:
    """No step beats a rank's compute or a link's bytes; samples peak as the walk does and end as they began."""
    plan = data.draw(plans())
    costs = data.draw(costs_for(plan))
    timeline = simulate(plan, costs)
    duration = costs.durations(plan)
    for rank in range(plan.ranks):
        for queue in Queue:
            assert timeline.step_time_ns >= int(duration[plan.queue_ops(rank, queue)].sum())
        mine = timeline.memory.rank == rank
        assert timeline.memory.device_bytes[mine].max() == walk(plan, costs).peak_device[rank]
        assert timeline.memory.device_bytes[mine][-1] == costs.static(plan.stage_rank, plan.ranks)[rank]
        assert timeline.memory.host_bytes[mine][-1] == 0
        assert (np.diff(timeline.memory.t_ns[mine]) >= 0).all()


@thorough
@given(st.data())
def test_stalls_lie_within_idle_time_and_overlap_within_one(data: st.DataObject) -> None:
    plan = data.draw(plans())
    costs = data.draw(costs_for(plan))
    for rank in simulate(plan, costs).metrics.ranks:
        assert 0 <= sum(rank.stalls_ns.values()) <= rank.idle_ns
        assert 0.0 <= rank.overlap <= 1.0


@pytest.mark.parametrize("engine", sorted(set(ENGINES) - {"simpy"}) or ["simpy"])
@thorough
@given(st.data())
def test_engines_agree_to_the_nanosecond(engine: str, data: st.DataObject) -> None:
    plan = data.draw(plans())
    costs = data.draw(costs_for(plan))
    reference, other = find_engine("simpy")(plan, costs), find_engine(engine)(plan, costs)
    assert np.array_equal(reference.start_ns, other.start_ns)
    assert np.array_equal(reference.end_ns, other.end_ns)


@pytest.mark.parametrize("engine", sorted(set(ENGINES) - {"simpy"}) or ["simpy"])
@pytest.mark.parametrize("shared", [False, True], ids=["own-links", "shared-links"])
@pytest.mark.parametrize("made", [plans, stray_plans], ids=["planned", "stray"])
@settings(thorough, max_examples=600)
@given(st.data())
def test_engines_agree_on_shared_links_and_on_strangers_plans(
    engine: str, shared: bool, made: Callable[[], st.SearchStrategy[Plan]], data: st.DataObject
) -> None:
    plan = data.draw(made())
    costs = data.draw(costs_for(plan, shared=shared))
    reference, other = find_engine("simpy")(plan, costs), find_engine(engine)(plan, costs)
    assert np.array_equal(reference.start_ns, other.start_ns)
    assert np.array_equal(reference.end_ns, other.end_ns)


@thorough
@given(st.data())
def test_sharing_only_ever_lengthens_copies(data: st.DataObject) -> None:
    """And where nothing was contended, the step is that of links of one's own."""
    plan = data.draw(stray_plans())
    costs = data.draw(costs_for(plan, shared=True))
    times = find_engine("simpy")(plan, costs)
    assert (times.end_ns - times.start_ns >= costs.durations(plan)).all()
    if not contended_links(plan, costs, times):
        alone = find_engine("simpy")(plan, costs.model_copy(update={"shared": None}))
        assert np.array_equal(times.end_ns, alone.end_ns)


@thorough
@given(st.data())
def test_offloaded_and_kept_agree_with_the_policy(data: st.DataObject) -> None:
    plan = data.draw(plans())
    counts = simulate(plan, data.draw(costs_for(plan))).header["summary"]
    assert (counts["offloaded"], counts["kept"]) == (plan.policy["offloaded"], plan.policy["kept"])
    assert counts["offloaded"] == int((plan.ops.kind == Kind.PREFETCH).sum())
