"""Transfers land in memory that exists: where ACQUIREs and RELEASEs of it stand, and what waiting for it costs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.engines import ENGINES, find_engine, simulate
from loadahead.sim.ir.kinds import RECV_KINDS, SEND_KINDS, Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.planner import HORIZON_UNITS, Order, Policy, build_plan
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.step_metrics import StepMetrics, SweepRow
from loadahead.sim.verify import verify
from loadahead.sim.workload import UnitShape, Workload
from tests.bench.bench_transfers import INTERLEAVED_GRID, V_GRID, loss
from tests.support.orders import orders, policies_for, v_shape, virtual_stages, workloads_for
from tests.support.plans import GB, MS, costs_for, never_waiting, policies, uniform_workload, workloads

thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
AHEAD = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Transfers:
    """The operations of each of a plan's transfers, in the order of its SENDs; all of shape (transfers,)."""

    send: Ints
    writer: Ints
    acquire: Ints
    receive: Ints
    reader: Ints
    release: Ints


def transfers(plan: Plan) -> Transfers:
    """Each transfer's operations; every SEND has one of each."""
    kind = plan.ops.kind
    waiting, source = plan.ops.after.rows(), plan.ops.after.values.astype(np.int64)
    is_send, is_receive = np.isin(kind, list(SEND_KINDS)), np.isin(kind, list(RECV_KINDS))
    is_task = np.isin(kind, (Kind.FORWARD, Kind.BACKWARD))

    def of_sends(edges: Any, send: Ints, other: Ints) -> Ints:
        out = np.full(len(plan), -1, dtype=np.int64)
        out[send[edges]] = other[edges]
        assert np.array_equal(np.sort(send[edges]), np.flatnonzero(is_send)), "one for each SEND"
        return out[is_send]

    receive = of_sends(is_send[source] & is_receive[waiting], source, waiting)
    reader_of = np.full(len(plan), -1, dtype=np.int64)
    read = is_receive[source]
    reader_of[source[read]] = waiting[read]
    return Transfers(
        send=np.flatnonzero(is_send),
        writer=of_sends(is_send[waiting] & is_task[source], waiting, source),
        acquire=of_sends(is_send[waiting] & (kind[source] == Kind.ACQUIRE), waiting, source),
        receive=receive,
        reader=reader_of[receive],
        release=of_sends(is_send[source] & (kind[waiting] == Kind.RELEASE), source, waiting),
    )


def slots(plan: Plan) -> tuple[Ints, Ints]:
    """How many tasks stand before each operation of a compute queue, and how many tasks each rank has."""
    before, count = np.zeros(len(plan), dtype=np.int64), np.zeros(plan.ranks, dtype=np.int64)
    for rank in range(plan.ranks):
        own = plan.queue_ops(rank, Queue.COMPUTE)
        ends = np.isin(plan.ops.kind[own], (Kind.FORWARD, Kind.BACKWARD))
        before[own], count[rank] = np.cumsum(ends) - ends, ends.sum()
    return before, count


def require_places(plan: Plan, ahead: int, *, fixed: bool) -> int:
    """How many transfers the plan has; assert that the operations of each stand where DESIGN, section 2, says."""
    found, (slot, tasks), rank = transfers(plan), slots(plan), plan.ops.rank.astype(np.int64)
    assert np.array_equal(slot[found.acquire], np.maximum(slot[found.reader] - ahead, 0))
    second = np.minimum(slot[found.writer] + 2, tasks[rank[found.writer]])
    assert (slot[found.release] >= second).all()
    if fixed:
        assert np.array_equal(slot[found.release], second)
    # RECV directly before the task that reads: between them is at most its RECOMPUTE.
    between = found.reader - found.receive - 1
    assert np.array_equal(between, plan.ops.kind[found.reader - 1] == Kind.RECOMPUTE)
    # Between two ranks all stand in one order.
    pair = rank[found.send] * plan.ranks + rank[found.receive]
    by_pair = np.argsort(pair, kind="stable")
    same = np.diff(pair[by_pair]) == 0
    for column in (found.send, found.acquire, found.receive, found.reader):
        assert (np.diff(column[by_pair])[same] > 0).all()
    return len(found.send)


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("pipeline", ["simple", "interleaved"])
@pytest.mark.parametrize("ranks", range(1, 9))
def test_one_stage_a_rank_waits_in_no_circle(ranks: int, pipeline: str, ahead: int) -> None:
    """With every RELEASE of what was sent in its fixed place; where that makes a circle, some would stand later."""
    drawn = random.Random(f"{ranks} {pipeline} {ahead}")
    unit = UnitShape(boundary_bytes=1, gradient_bytes=1)
    for microbatches in range(1, 33):
        stages = tuple((unit,) * drawn.randint(1, 3) for _ in range(ranks))
        policy = Policy(
            pipeline=pipeline,
            ranks=ranks,
            microbatches=microbatches,
            active_microbatches=drawn.choice([None, None, drawn.randint(1, microbatches)]),
            horizon=drawn.randint(1, 8),
            horizon_unit=drawn.choice(HORIZON_UNITS),
            release_window=drawn.randint(1, 4),
            receive_ahead=ahead,
        )
        found = require_places(build_plan(Workload(stages=stages), policy), ahead, fixed=True)
        assert found == 2 * (ranks - 1) * microbatches


@thorough
@given(st.data())
def test_one_stage_a_rank_of_any_workload_waits_in_no_circle(data: st.DataObject) -> None:
    """Frozen fronts, which send no gradients down, and passed tensors included."""
    workload = data.draw(workloads(most_ranks=6))
    policy = data.draw(policies(len(workload.stages), 8))
    require_places(build_plan(workload, policy), policy.receive_ahead, fixed=True)


@pytest.mark.parametrize("ahead", [*AHEAD, 5])
@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_several_stages_a_rank_wait_in_no_circle(ranks: int, ahead: int) -> None:
    """Interleaved virtual stages and V shapes; random orders are drawn elsewhere, too."""
    chosen: list[Order] = [
        virtual_stages(ranks, each, rounds * ranks) for each in (2, 3, 4) for rounds in (1, 2, 4) if ranks * each <= 24
    ]
    chosen += [v_shape(ranks, m, most) for m in (1, ranks, 2 * ranks) for most in (1, ranks, 2 * ranks)]
    for order in chosen:
        horizon = 1 + len(order.name) % 5
        policy = Policy(order=order, ranks=ranks, microbatches=order.microbatches, receive_ahead=ahead, horizon=horizon)
        plan = build_plan(uniform_workload(order.stages), policy)
        assert verify(plan) == []
        require_places(plan, ahead, fixed=False)


@thorough
@given(st.data())
def test_any_order_sends_and_receives_in_one_order(data: st.DataObject) -> None:
    order = data.draw(orders())
    policy = data.draw(policies_for(order))
    require_places(build_plan(data.draw(workloads_for(order)), policy), policy.receive_ahead, fixed=False)


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_release_that_would_wait_in_a_circle_stands_later(ahead: int) -> None:
    """Rank 0 reads the gradient of microbatch 0 first, so it is sent first; rank 1 writes that of microbatch 1 first.

    The RELEASE of the latter, directly before 1B0, would wait for its SEND, and so for what 1B0 writes. It stands in
    the last slot instead.
    """
    order = Order.of([["0F1", "0F0", "0B0", "0B1"], ["1F1", "1B1", "1F0", "1B0"]])
    policy = Policy(order=order, ranks=2, microbatches=2, offload=False, receive_ahead=ahead)
    plan = build_plan(uniform_workload(2), policy)
    assert verify(plan) == []
    found, slot = transfers(plan), slots(plan)[0]
    names = [plan.op(i).name for i in found.writer.tolist()]
    assert dict(zip(names, slot[found.release].tolist(), strict=True)) == {
        "FORWARD 0.0.1": 2,
        "FORWARD 0.0.0": 3,
        "BACKWARD 1.0.1": 4,
        "BACKWARD 1.0.0": 4,
    }


def test_virtual_stages_are_torchs() -> None:
    """Its constructor wants processes, its arithmetic does not."""
    from torch.distributed.pipelining.schedules import ScheduleInterleaved1F1B

    for ranks, each, microbatches in ((2, 2, 4), (4, 2, 8), (4, 3, 2), (3, 4, 12), (8, 2, 16)):
        schedule: Any = object.__new__(ScheduleInterleaved1F1B)
        schedule.pp_group_size, schedule.n_local_stages = ranks, each
        schedule._n_microbatches = microbatches
        schedule.number_of_rounds = max(1, microbatches // ranks)
        schedule.microbatches_per_round = microbatches // schedule.number_of_rounds
        theirs = [schedule._calculate_single_rank_operations(rank) for rank in range(ranks)]
        rows = [[str(action) for action in row if action is not None] for row in theirs]
        assert virtual_stages(ranks, each, microbatches).rows() == rows


# What waiting for memory costs.


def no_time_between_ranks(units: Sequence[Sequence[tuple[int, int, int]]], **changes: Any) -> Costs:
    """Costs of units' (FORWARD, RECOMPUTE, BACKWARD), in ns; nothing else takes any time but for ``changes``."""
    names = ("forward_ns", "recompute_ns", "backward_ns")
    fields: dict[str, Any] = {
        "units": tuple(tuple(UnitCost(**dict(zip(names, unit, strict=True))) for unit in stage) for stage in units),
        "static_bytes": (0,) * len(units),
        "d2h_bandwidth": GB,
        "h2d_bandwidth": GB,
        "memory_bytes": GB,
    }
    return Costs(**fields | changes)


def step_times(plan: Plan, costs: Costs) -> tuple[int, int]:
    """The step's time in ns, and what it would be if no transfer waited for memory."""
    return simulate(plan, costs).step_time_ns, int(find_engine("compiled")(never_waiting(plan), costs).end_ns.max())


DURATIONS = st.sampled_from([1, 2, 3, 7, 20])
UNITS = st.lists(st.tuples(DURATIONS, st.sampled_from([0, 1, 3]), DURATIONS), min_size=1, max_size=3)
RATES = st.sampled_from([GB, GB // 10, GB // 50])


def one_ahead(data: st.DataObject, ranks: int, **changes: Any) -> Policy:
    drawn = data.draw(policies(ranks, most_microbatches=10))
    return replace(drawn, receive_ahead=1, checkpoint=True, **changes)


@thorough
@given(st.data())
def test_one_task_ahead_costs_nothing_where_nothing_is_offloaded(data: st.DataObject) -> None:
    """Whatever the units and their durations, as long as the optimizers take equally long on all ranks."""
    units = data.draw(st.lists(UNITS, min_size=2, max_size=5))
    unit = UnitShape(boundary_bytes=1, gradient_bytes=1)
    workload = Workload(stages=tuple((unit,) * len(stage) for stage in units))
    plan = build_plan(workload, one_ahead(data, len(units), offload=False))
    costs = no_time_between_ranks(units, optimizer_ns=(data.draw(st.sampled_from([0, 9])),) * len(units))
    waiting, never = step_times(plan, costs)
    assert waiting == never


@thorough
@given(st.data())
def test_one_task_ahead_costs_nothing_where_ranks_are_alike(data: st.DataObject) -> None:
    """Whatever is offloaded, over links of any speed; unlike units within a stage are no matter."""
    ranks, stage, nbytes = data.draw(st.integers(2, 5)), data.draw(UNITS), data.draw(st.integers(0, 3))
    unit = UnitShape(boundary_bytes=nbytes, gradient_bytes=1)
    plan = build_plan(Workload(stages=((unit,) * len(stage),) * ranks), one_ahead(data, ranks))
    rates = {"d2h_bandwidth": data.draw(RATES), "h2d_bandwidth": data.draw(RATES)}
    costs = no_time_between_ranks([stage] * ranks, optimizer_ns=(data.draw(st.sampled_from([0, 9])),) * ranks, **rates)
    waiting, never = step_times(plan, costs)
    assert waiting == never


@thorough
@given(st.data())
def test_waiting_never_makes_a_step_shorter(data: st.DataObject) -> None:
    """In any order, any number of tasks ahead."""
    order = data.draw(orders())
    policy = data.draw(policies_for(order))
    plan = build_plan(data.draw(workloads_for(order)), policy)
    changes = {"p2p_latency_ns": 0, "p2p_bandwidth": None, "launch_ns": 0, "launch_by_kind": {}}
    waiting, never = step_times(plan, data.draw(costs_for(plan)).model_copy(update=changes))
    assert waiting >= never


def by_hand(units: Sequence[tuple[int, int, int]], nbytes: Sequence[int], microbatches: int, **policy: Any) -> Plan:
    """A plan of GPipe with one unit a rank."""
    stages = tuple((UnitShape(boundary_bytes=size, gradient_bytes=1),) for size in nbytes)
    fields = {"pipeline": "simple", "ranks": len(units), "microbatches": microbatches, "receive_ahead": 1} | policy
    return build_plan(Workload(stages=stages), Policy(**fields))


def test_a_quick_rank_with_a_long_optimizer_step_ends_later() -> None:
    """Three microbatches; rank 1 is through with its BACKWARDs at 28 ns, and its OPTIMIZER_STEP takes 18 ns.

    Before it stands the RELEASE of the last gradient, which rank 0 takes memory for one task before it reads it: when
    its first BACKWARD has ended, at 31 ns. So the step takes 31 + 18 ns, and not 28 + 18.
    """
    units = [(7, 0, 7), (1, 0, 2)]
    plan = by_hand(units, [1, 1], 3, offload=False)
    costs = no_time_between_ranks([[unit] for unit in units], optimizer_ns=(1, 18))
    assert step_times(plan, costs) == (49, 46)
    ranks = simulate(plan, costs).metrics.ranks
    assert [rank.stalls_ns["send"] for rank in ranks] == [0, 3]
    assert [rank.stalls_ns["release"] for rank in ranks] == [0, 0]


def test_a_rank_held_back_begins_to_load_later() -> None:
    """Eight microbatches, horizon 1; rank 0's eight PREFETCHes of 50 ns each are what the step is made of.

    The first may begin once the last FORWARD but one has ended. Rank 0's take 1 ns each and end at 7 ns, if no
    transfer waits. But before its last FORWARD stands the RELEASE of its sixth output, which rank 1 takes memory for
    when its fourth FORWARD has ended, at 41 ns. The last BACKWARD, of 2 ns, follows the last PREFETCH.
    """
    units = [(1, 0, 2), (10, 0, 20)]
    plan = by_hand(units, [1, 0], 8, horizon=1)
    costs = no_time_between_ranks([[unit] for unit in units], h2d_bandwidth=GB // 50)
    assert step_times(plan, costs) == (41 + 8 * 50 + 2, 7 + 8 * 50 + 2)


@pytest.mark.parametrize("row", [*INTERLEAVED_GRID[:4], *V_GRID[:4]], ids=lambda row: row.name)
def test_the_losses_that_are_printed_are_what_both_engines_say(row: Any) -> None:
    for ahead in (0, 1):
        found = loss(row, ahead)
        for name in ENGINES:
            engine = find_engine(name)
            times = [int(engine(plan, found.costs).end_ns.max()) for plan in (found.plan, never_waiting(found.plan))]
            assert [found.waiting_ns, found.never_ns] == times
        assert found.share == found.waiting_ns / found.never_ns - 1 >= 0


@pytest.mark.parametrize("row", INTERLEAVED_GRID, ids=lambda row: row.name)
def test_interleaving_leaves_its_papers_bubble_where_no_transfer_waits(row: Any) -> None:
    """(p-1)/(v m) of the ideal time; on up to 4 ranks it is no larger where memory is taken one task ahead."""
    ranks, stages, microbatches = row.order.ranks, row.order.stages, row.order.microbatches
    found = loss(row, 1)
    assert found.never_ns == 3 * MS * (stages // ranks * microbatches + ranks - 1)
    assert found.waiting_ns == found.never_ns or ranks > 4


# What stalls and sweeps say.


@thorough
@given(st.data())
def test_nothing_waits_for_an_offload_where_nothing_is_offloaded(data: st.DataObject) -> None:
    workload = data.draw(workloads())
    policy = replace(data.draw(policies(len(workload.stages))), offload=False)
    plan = build_plan(workload, policy)
    metrics: StepMetrics = simulate(plan, data.draw(costs_for(plan))).metrics
    assert metrics.stalls_ns["release"] == metrics.stalls_ns["prefetch"] == 0


@thorough
@given(st.data())
def test_a_sweep_over_receive_ahead_is_that_of_the_plans(data: st.DataObject) -> None:
    """What the evaluation of one leaves behind does not show in the next."""
    workload = data.draw(workloads())
    policy = data.draw(policies(len(workload.stages)))
    costs = data.draw(costs_for(build_plan(workload, policy)))
    many = [replace(policy, receive_ahead=ahead) for ahead in data.draw(st.permutations(range(4)))]
    expected = [SweepRow.of({}, simulate(build_plan(workload, one), costs).metrics) for one in many]
    assert Groups().rows(workload, costs, many, [{}] * len(many)) == expected
