"""Workloads, costs, policies and plans for tests, by hand and at random."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, get_args

from hypothesis import strategies as st

from loadahead.sim.costs import Costs, SharedLinks, UnitCost
from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.kinds import COPY_KINDS, SEND_KINDS, Kind, KindName
from loadahead.sim.ir.plan import OpView, Plan
from loadahead.sim.planner import HORIZON_UNITS, ORDERS, Policy, build_plan
from loadahead.sim.workload import PassThrough, UnitShape, Workload

MS, MB, GB = 1_000_000, 1_000_000, 1_000_000_000


def uniform_workload(ranks: int, units: int = 1, nbytes: int = MB, **fields: int) -> Workload:
    """Every unit alike."""
    unit = UnitShape(boundary_bytes=nbytes, gradient_bytes=nbytes, **fields)
    return Workload(stages=((unit,) * units,) * ranks)


def uniform_costs(ranks: int, units: int = 1, **changes: Any) -> Costs:
    """FORWARD 1 ms, BACKWARD 2 ms, no RECOMPUTE time, links of 1 GB/s."""
    unit = UnitCost(forward_ns=MS, recompute_ns=0, backward_ns=2 * MS)
    fields: dict[str, Any] = {
        "units": ((unit,) * units,) * ranks,
        "static_bytes": (0,) * ranks,
        "d2h_bandwidth": GB,
        "h2d_bandwidth": GB,
        "memory_bytes": 80 * 2**30,
    }
    return Costs(**fields | changes)


def uniform_plan(ranks: int = 1, units: int = 1, microbatches: int = 4, **policy: Any) -> Plan:
    """A plan over :func:`uniform_workload`."""
    fields = {"pipeline": "simple", "microbatches": microbatches, "ranks": ranks} | policy
    return build_plan(uniform_workload(ranks, units), Policy(**fields))


@st.composite
def workloads(draw: st.DrawFn, most_ranks: int = 4, most_units: int = 3, least_ranks: int = 1) -> Workload:
    """Stages of differing numbers of units, sizes of 0 to 5 bytes so that equal ones are common.

    Some have a frozen front, module buffers, or tensors that units hand on unchanged.
    """
    size = st.integers(0, 5)
    unit = st.builds(
        UnitShape,
        boundary_bytes=size,
        gradient_bytes=size,
        saved_bytes=size,
        state_bytes=st.sampled_from([0, 0, 0, 1, 4]),
    )
    stage = st.lists(unit, min_size=1, max_size=most_units).map(tuple)
    stages = tuple(draw(st.lists(stage, min_size=least_ranks, max_size=most_ranks)))
    units = sum(map(len, stages))
    readers = st.sets(st.integers(0, units - 1), min_size=1, max_size=4).map(sorted).map(tuple)
    return Workload(
        stages=stages,
        frozen_units=draw(st.just(0) | st.integers(0, units - 1)),
        passed=tuple(draw(st.just([]) | st.lists(st.builds(PassThrough, nbytes=size, readers=readers), max_size=3))),
    )


@st.composite
def policies(draw: st.DrawFn, ranks: int, most_microbatches: int = 6) -> Policy:
    """Any policy, over every registered pipeline order."""
    return Policy(
        pipeline=draw(st.sampled_from(sorted(ORDERS))),
        microbatches=draw(st.integers(1, most_microbatches)),
        ranks=ranks,
        active_microbatches=draw(st.none() | st.integers(1, most_microbatches)),
        checkpoint=draw(st.sampled_from([True, True, True, False])),
        offload=draw(st.sampled_from([True, True, True, False])),
        horizon=draw(st.integers(1, 8)),
        horizon_unit=draw(st.sampled_from(HORIZON_UNITS)),
        release_window=draw(st.integers(1, 3)),
        receive_ahead=draw(st.integers(0, 3)),
        min_bytes=draw(st.sampled_from([0, 0, 1, 3, 4, 6])),
    )


@st.composite
def plans(draw: st.DrawFn, **limits: int) -> Plan:
    """A plan that the planner makes."""
    workload = draw(workloads(**limits))
    return build_plan(workload, draw(policies(len(workload.stages))))


def never_waiting(plan: Plan) -> Plan:
    """The same operations, but that nothing of a transfer waits for memory; no valid plan, it is only to be timed.

    A SEND stands directly behind the task that wrote what it sends and waits for that alone, and the RELEASE of what
    was sent waits for nothing.
    """
    sends: dict[int, list[int]] = defaultdict(list)
    rest = []
    for op in plan:
        if op.kind in SEND_KINDS:
            sends[_writer(plan, op)].append(op.index)
        else:
            rest.append(op.index)
    order = [index for task in rest for index in (task, *sends[task])]
    place = {index: at for at, index in enumerate(order)}
    builder = PlanBuilder()
    for op in map(plan.op, order):
        after = [_writer(plan, op)] if op.kind in SEND_KINDS else list(op.after)
        if op.kind == Kind.RELEASE:
            after = [edge for edge in after if plan.op(edge).kind not in SEND_KINDS]
        key = (op.stage, op.unit, op.microbatch)
        builder.op(op.rank, op.kind, key, after=[place[edge] for edge in after], nbytes=op.nbytes)
    return builder.freeze(plan.name, plan.ranks, plan.microbatches, {}, frozen_units=plan.frozen_units)


def _writer(plan: Plan, send: OpView) -> int:
    (writer,) = (edge for edge in send.after if plan.op(edge).kind != Kind.ACQUIRE)
    return writer


@st.composite
def stray_plans(draw: st.DrawFn, most_ops: int = 40) -> Plan:
    """A well-formed plan that no planner made: any kinds, any backward edges, copies of any size, no buffers."""
    ranks, stages, units = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    builder = PlanBuilder()
    builder.op(0, Kind.FORWARD, (stages - 1, units - 1, 0))
    # Copies are half of it, so that they meet.
    kinds = st.sampled_from([*Kind, *sorted(COPY_KINDS) * 6])
    for _ in range(draw(st.integers(0, most_ops))):
        kind = draw(kinds)
        key = (draw(st.integers(0, stages - 1)), draw(st.integers(0, units - 1)), 0)
        after = draw(st.lists(st.integers(0, len(builder) - 1), max_size=3, unique=True))
        nbytes = draw(st.integers(0, 50)) if kind >= Kind.OFFLOAD else 0
        builder.op(draw(st.integers(0, ranks - 1)), kind, key, after=after, nbytes=nbytes)
    return builder.freeze("stray", ranks, 1, {})


@st.composite
def shared_links(draw: st.DrawFn) -> SharedLinks:
    """Any caps, from never to always in the way of the links of :func:`costs_for`."""
    cap = st.none() | st.sampled_from([1, 7, GB // 7, GB // 2, GB, 14 * GB // 10, 3 * GB, 11 * GB, 2**53])
    per_switch = draw(st.none() | st.integers(1, 3))
    weight = st.sampled_from([1, 1, 2, 7, 1000])
    return SharedLinks(
        gpus_per_switch=per_switch,
        uplink_d2h=draw(cap) if per_switch else None,
        uplink_h2d=draw(cap) if per_switch else None,
        duplex=draw(cap),
        host_memory_bandwidth=draw(cap),
        d2h_weight=draw(weight),
        h2d_weight=draw(weight),
    )


@st.composite
def costs_for(draw: st.DrawFn, plan: Plan, shared: bool = False) -> Costs:
    """Uneven costs that fit a plan, zero durations included; with shared links if asked for."""
    tasks = plan.ops.kind <= 4
    stages = len(plan.stage_rank)
    duration = st.integers(0, 20)
    unit = st.builds(
        UnitCost,
        forward_ns=duration,
        recompute_ns=duration,
        backward_ns=duration,
        workspace_forward=duration,
        workspace_recompute=duration,
        workspace_backward=duration,
    )
    units = []
    for stage in range(stages):
        count = int(plan.ops.unit[tasks & (plan.ops.stage == stage)].max(initial=0)) + 1
        units.append(tuple(draw(st.lists(unit, min_size=count, max_size=count))))
    per_stage = st.lists(duration, min_size=stages, max_size=stages).map(tuple)
    rate = st.sampled_from([GB, GB // 3, 10 * GB, 100_000_000])
    return Costs(
        units=tuple(units),
        static_bytes=draw(per_stage),
        optimizer_ns=draw(per_stage),
        optimizer_workspace=draw(per_stage),
        d2h_bandwidth=draw(rate),
        h2d_bandwidth=draw(rate),
        d2h_latency_ns=draw(duration),
        h2d_latency_ns=draw(duration),
        p2p_latency_ns=draw(duration),
        p2p_bandwidth=draw(st.none() | rate),
        launch_ns=draw(st.sampled_from([0, 0, 1, 3, 40])),
        launch_by_kind=draw(st.just({}) | st.dictionaries(st.sampled_from(get_args(KindName)), st.integers(0, 60))),
        memory_bytes=GB,
        shared=draw(shared_links()) if shared else None,
    )
