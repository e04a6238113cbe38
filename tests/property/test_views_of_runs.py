"""What figures of a run show, on random plans: parts add up, and are the summary's, however they are drawn."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadahead.reports.run_data import RunData
from loadahead.reports.views.base import Missing
from loadahead.reports.views.gantt import gantt
from loadahead.reports.views.gantt_parts import LEAST_POINTS, Gantt, Room
from loadahead.reports.views.link_use import LinksInUse, link_use
from loadahead.reports.views.memory import MemoryOverTime, memory_over_time
from loadahead.reports.views.time_parts import TimeParts, time_parts
from loadahead.sim.engines import simulate
from loadahead.sim.engines.fluid import carried_by
from loadahead.sim.ir.kinds import Queue, Role, Space
from loadahead.sim.ir.plan import Plan
from loadahead.sim.links import link_of
from loadahead.sim.memory import peak_operations, role_levels, walk
from loadahead.sim.routes import LinkTable
from loadahead.sim.timeline import Timeline
from tests.support.plans import costs_for, plans


@st.composite
def runs(draw: st.DrawFn, shared: bool = False) -> RunData:
    """Return the prediction of a random plan, one whose step takes time."""
    plan = draw(plans())
    costs = draw(costs_for(plan, shared=shared))
    return RunData(plan=plan, costs=costs, predicted=simulate(plan, costs, engine="compiled"))


def parts(data: RunData) -> tuple[Plan, Timeline]:
    assert data.plan is not None and data.predicted is not None
    return data.plan, data.predicted


def held(plan: Plan, step: Timeline, rank: int, roles: set[Role], t: int) -> int:
    """Return what lies in a rank's device memory at ``t``: taken by an operation that has started, freed by none."""
    total = 0
    for op in plan:
        if op.rank != rank or op.queue != Queue.COMPUTE:
            continue
        for buffers, happened in ((op.allocs, step.start_ns[op.index] <= t), (op.frees, step.end_ns[op.index] <= t)):
            for b in map(plan.buffer, buffers):
                if happened and b.space == Space.DEVICE and b.role in roles:
                    total += b.nbytes if buffers is op.allocs else -b.nbytes
    return total


@settings(max_examples=40, deadline=None)
@given(data=runs(), moments=st.randoms(use_true_random=False))
def test_roles_add_up_to_what_the_device_holds(data: RunData, moments: Random) -> None:
    plan, step = parts(data)
    assert data.costs is not None
    memory = walk(plan, data.costs)
    peaks = peak_operations(plan, memory)
    for rank in range(plan.ranks):
        levels = role_levels(plan, rank, int(memory.static[rank]), step.start_ns, step.end_ns, step.memory)
        mine = step.memory.rank == rank
        own = plan.queue_ops(rank, Queue.COMPUTE)
        begin = int(step.start_ns[own].min()) if len(own) else 0
        some = moments.sample(range(len(levels.t_ns)), min(6, len(levels.t_ns)))
        for i, t in enumerate(levels.t_ns.tolist()):
            # Of samples at one instant the last one lasts.
            before = np.flatnonzero(mine & (step.memory.t_ns <= t))
            if len(before):
                assert levels.total[i] == step.memory.device_bytes[before[-1]]
            if i in some and t >= begin:
                assert levels.boundaries[i] == held(plan, step, rank, {Role.BOUNDARY}, t)
                assert levels.transport[i] == held(plan, step, rank, {Role.OUTPUT, Role.GRADIENT}, t)
        op = int(peaks[rank])
        if op >= 0 and step.end_ns[op] > step.start_ns[op]:
            at = np.searchsorted(levels.t_ns, step.start_ns[op], side="right") - 1
            expected = step.metrics.ranks[rank].peak_parts
            assert expected is not None
            assert (
                levels.weights_and_optimizer[at],
                levels.inside_units[at],
                levels.boundaries[at],
                levels.transport[at],
            ) == (
                expected.weights_and_optimizer_bytes,
                expected.inside_units_bytes,
                expected.boundaries_bytes,
                expected.transport_bytes,
            )


@settings(max_examples=60, deadline=None)
@given(data=runs(), most=st.integers(1, 30))
def test_thinned_memory_keeps_its_peak(data: RunData, most: int) -> None:
    _, step = parts(data)
    found = memory_over_time(data, most_ranks=2, most_points=most)
    if not step.step_time_ns:
        assert isinstance(found, Missing)
        return
    assert isinstance(found, MemoryOverTime)
    for rank in found.ranks:
        (curve,) = rank.device.values()
        assert len(curve.t_ns) <= 2 * most and max(curve.nbytes) == curve.peak
        assert curve.peak == step.metrics.ranks[rank.rank].peak_device_bytes
        assert rank.roles is not None and len(rank.roles.t_ns) <= 2 * most
    fullest = sorted((r.peak_device_bytes for r in step.metrics.ranks), reverse=True)[:2]
    assert sorted((rank.peak for rank in found.ranks), reverse=True) == fullest


@settings(max_examples=100, deadline=None)
@given(data=runs(shared=True))
def test_the_parts_of_each_rank_are_its_step(data: RunData) -> None:
    _, step = parts(data)
    found = time_parts(data)
    if not step.step_time_ns:
        return
    assert isinstance(found, TimeParts)
    for bar, rank in zip(found.bars, step.metrics.ranks, strict=True):
        assert sum(bar.parts_ns.values()) == step.step_time_ns
        assert bar.compute_ns == rank.compute_ns
        assert {stall: bar.parts_ns.get(stall, 0) for stall in rank.stalls_ns} == rank.stalls_ns
        assert "unknown" not in bar.parts_ns, "of a prediction every gap has a cause"


@settings(max_examples=60, deadline=None)
@given(data=runs(), boxes=st.integers(1, 60), row=st.integers(1, 30), points=st.integers(5, 500))
def test_a_chart_holds_its_operations_in_boxes_of_a_dot_at_least(
    data: RunData, boxes: int, row: int, points: int
) -> None:
    _, step = parts(data)
    room = Room(boxes=boxes, boxes_in_row=row, ranks=2, points=points)
    found = gantt(data, room)
    if not step.step_time_ns:
        return
    assert isinstance(found, Gantt)
    start, end = found.spans["predicted"]
    assert found.least_points >= LEAST_POINTS
    assert sum(wait.total_ns for wait in found.step_waits.values()) == sum(
        sum(rank.stalls_ns.values()) for rank in step.metrics.ranks
    ) + _other_waits(data)
    for number, shown in enumerate(found.rows):
        inside = [box for box in found.boxes if box.row == number]
        # Where many operations meet in the middle itself they are shown all the same.
        assert len(inside) <= row or end - start <= 2
        for box in inside:
            assert box.start_ns < end and box.end_ns > start and shown.source == "predicted"
    ranks = list(found.ranks)
    shown_ops = (
        np.isin(step.rank, ranks) & (step.end_ns > step.start_ns) & (step.end_ns > start) & (step.start_ns < end)
    )
    shown_ops &= ~np.isin(step.kind, [6, 7])
    assert sum(box.operations for box in found.boxes) == int(shown_ops.sum())
    together = sum(box.end_ns - box.start_ns for box in found.boxes if box.operations == 1)
    assert together <= int((step.end_ns - step.start_ns)[shown_ops].sum())


def _other_waits(data: RunData) -> int:
    """Return what compute queues wait for that is no stall, reckoned from the parts of their time."""
    found = time_parts(data)
    assert isinstance(found, TimeParts)
    return sum(bar.parts_ns.get("other", 0) for bar in found.bars)


@settings(max_examples=60, deadline=None)
@given(data=runs(shared=True), columns=st.integers(1, 50))
def test_links_carry_what_the_plan_moves_and_no_more_than_they_can(data: RunData, columns: int) -> None:
    plan, step = parts(data)
    assert data.costs is not None
    table = LinkTable.of_plan(data.costs, plan)
    link = link_of(plan, table)
    flows = np.flatnonzero(link >= 0)
    begin = step.start_ns[flows] + data.costs.latencies(plan)[flows]
    times = np.unique(np.concatenate([begin, step.end_ns[flows]]))
    carried = carried_by(table, link[flows], begin, step.end_ns[flows], times)
    for flow, start in zip(flows.tolist(), begin.tolist(), strict=True):
        at = np.searchsorted(times, [start, step.end_ns[flow]])
        moved = carried[at[1], link[flow]] - carried[at[0], link[flow]]
        # A flow ends with the nanosecond, and with its host's call, in which its bytes are over.
        assert moved >= plan.ops.nbytes[flow] - 1e-6
    found = link_use(data, 100, columns)
    if not isinstance(found, LinksInUse):
        assert not len(flows) or not step.step_time_ns
        return
    for one in found.links:
        # The engines give each transfer a byte per second at the least, however little is shared.
        assert max(one.shares["predicted"]) <= 1 + len(table.own) / one.bandwidth + 1e-6
