"""Workloads, costs, policies and plans for tests, by hand and at random."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from math import prod
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


# Strategies are made once: making one takes as long as many a draw.


def digits(base: int, count: int) -> st.SearchStrategy[tuple[int, ...]]:
    """So many numbers below a base, of one draw: most of a property's time goes into draws, not into what it asks."""
    return st.integers(0, base**count - 1).map(lambda number: _digits(number, (base,) * count))


def _digits(number: int, bases: tuple[int, ...]) -> tuple[int, ...]:
    found = []
    for base in bases:
        number, digit = divmod(number, base)
        found.append(digit)
    return tuple(found)


_SIZE = st.integers(0, 5)


def _shape(drawn: tuple[tuple[int, ...], int]) -> UnitShape:
    (boundary, gradient, saved), state = drawn
    return UnitShape(boundary_bytes=boundary, gradient_bytes=gradient, saved_bytes=saved, state_bytes=state)


_SHAPE = st.tuples(digits(6, 3), st.sampled_from([0, 0, 0, 1, 4])).map(_shape)


@cache
def _stages(most_ranks: int, most_units: int, least_ranks: int) -> st.SearchStrategy[list[tuple[UnitShape, ...]]]:
    stage = st.lists(_SHAPE, min_size=1, max_size=most_units).map(tuple)
    return st.lists(stage, min_size=least_ranks, max_size=most_ranks)


@cache
def _frozen_and_passed(units: int) -> st.SearchStrategy[tuple[int, list[PassThrough]]]:
    readers = st.sets(st.integers(0, units - 1), min_size=1, max_size=4).map(sorted).map(tuple)
    passed = st.just([]) | st.lists(st.builds(PassThrough, nbytes=_SIZE, readers=readers), max_size=3)
    return st.tuples(st.just(0) | st.integers(0, units - 1), passed)


@st.composite
def workloads(draw: st.DrawFn, most_ranks: int = 4, most_units: int = 3, least_ranks: int = 1) -> Workload:
    """Stages of differing numbers of units, sizes of 0 to 5 bytes so that equal ones are common.

    Some have a frozen front, module buffers, or tensors that units hand on unchanged.
    """
    stages = tuple(draw(_stages(most_ranks, most_units, least_ranks)))
    frozen, passed = draw(_frozen_and_passed(sum(map(len, stages))))
    return Workload(stages=stages, frozen_units=frozen, passed=tuple(passed))


_MOSTLY = st.sampled_from([True, True, True, False])
_UP_TO_3, _FROM_1_TO_3, _HORIZON = st.integers(0, 3), st.integers(1, 3), st.integers(1, 8)
_PIPELINE, _UNIT = st.sampled_from(sorted(ORDERS)), st.sampled_from(HORIZON_UNITS)
_MIN_BYTES = st.sampled_from([0, 0, 1, 3, 4, 6])


@cache
def _microbatches(most: int) -> tuple[st.SearchStrategy[int], st.SearchStrategy[int | None]]:
    return st.integers(1, most), st.none() | st.integers(1, most)


@st.composite
def policies(draw: st.DrawFn, ranks: int, most_microbatches: int = 6) -> Policy:
    """Any policy, over every registered pipeline order."""
    microbatches, active = _microbatches(most_microbatches)
    return Policy(
        pipeline=draw(_PIPELINE),
        microbatches=draw(microbatches),
        ranks=ranks,
        active_microbatches=draw(active),
        checkpoint=draw(_MOSTLY),
        offload=draw(_MOSTLY),
        horizon=draw(_HORIZON),
        horizon_unit=draw(_UNIT),
        release_window=draw(_FROM_1_TO_3),
        receive_ahead=draw(_UP_TO_3),
        min_bytes=draw(_MIN_BYTES),
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


# Copies are half of it, so that they meet.
_STRAY_KINDS = [*Kind, *sorted(COPY_KINDS) * 6]
_STRAY_BYTES = st.integers(0, 50)
_STRAY_SIZES = st.tuples(st.integers(1, 5), _FROM_1_TO_3, _FROM_1_TO_3)
_below = cache(lambda most: st.integers(0, most - 1))


@st.composite
def stray_plans(draw: st.DrawFn, most_ops: int = 40) -> Plan:
    """A well-formed plan that no planner made: any kinds, any backward edges, copies of any size, no buffers."""
    sizes = draw(_STRAY_SIZES)
    ranks, stages, units = sizes
    of_op = (len(_STRAY_KINDS), *sizes)
    builder = PlanBuilder()
    builder.op(0, Kind.FORWARD, (stages - 1, units - 1, 0))
    for _ in range(draw(_below(most_ops + 1))):
        which, rank, stage, unit = _digits(draw(_below(prod(of_op))), of_op)
        made = len(builder)
        count, *edges = _digits(draw(_below(4 * made**3)), (4, made, made, made))
        kind = _STRAY_KINDS[which]
        nbytes = draw(_STRAY_BYTES) if kind >= Kind.OFFLOAD else 0
        builder.op(rank, kind, (stage, unit, 0), after=[*dict.fromkeys(edges[:count])], nbytes=nbytes)
    return builder.freeze("stray", ranks, 1, {})


_CAP = st.none() | st.sampled_from([1, 7, GB // 7, GB // 2, GB, 14 * GB // 10, 3 * GB, 11 * GB, 2**53])
_WEIGHT = st.sampled_from([1, 1, 2, 7, 1000])
_PER_SWITCH = st.none() | _FROM_1_TO_3


@st.composite
def shared_links(draw: st.DrawFn) -> SharedLinks:
    """Any caps, from never to always in the way of the links of :func:`costs_for`."""
    per_switch = draw(_PER_SWITCH)
    return SharedLinks(
        gpus_per_switch=per_switch,
        uplink_d2h=draw(_CAP) if per_switch else None,
        uplink_h2d=draw(_CAP) if per_switch else None,
        duplex=draw(_CAP),
        host_memory_bandwidth=draw(_CAP),
        d2h_weight=draw(_WEIGHT),
        h2d_weight=draw(_WEIGHT),
    )


# Of two draws: of one, with as many values as six numbers have, Hypothesis would prefer small ones.
_THREE_DURATIONS = digits(21, 3)
_RATE = st.sampled_from([GB, GB // 3, 10 * GB, 100_000_000])
_MAYBE_RATE = st.none() | _RATE
_LAUNCH = st.sampled_from([0, 0, 1, 3, 40])
_BY_KIND = st.just({}) | st.dictionaries(st.sampled_from(get_args(KindName)), st.integers(0, 60))
_SHARED = shared_links()


@st.composite
def costs_for(draw: st.DrawFn, plan: Plan, shared: bool = False) -> Costs:
    """Uneven costs that fit a plan, zero durations included; with shared links if asked for."""
    tasks = plan.ops.kind <= 4

    def unit() -> UnitCost:
        forward, recompute, backward = draw(_THREE_DURATIONS)
        during_forward, during_recompute, during_backward = draw(_THREE_DURATIONS)
        return UnitCost(
            forward_ns=forward,
            recompute_ns=recompute,
            backward_ns=backward,
            workspace_forward=during_forward,
            workspace_recompute=during_recompute,
            workspace_backward=during_backward,
        )

    units, per_stage = [], []
    for stage in range(len(plan.stage_rank)):
        count = int(plan.ops.unit[tasks & (plan.ops.stage == stage)].max(initial=0)) + 1
        units.append(tuple(unit() for _ in range(count)))
        per_stage.append(draw(_THREE_DURATIONS))
    static, optimizer, optimizer_workspace = zip(*per_stage, strict=True)
    d2h_latency, h2d_latency, p2p_latency = draw(_THREE_DURATIONS)
    return Costs(
        units=tuple(units),
        static_bytes=static,
        optimizer_ns=optimizer,
        optimizer_workspace=optimizer_workspace,
        d2h_bandwidth=draw(_RATE),
        h2d_bandwidth=draw(_RATE),
        d2h_latency_ns=d2h_latency,
        h2d_latency_ns=h2d_latency,
        p2p_latency_ns=p2p_latency,
        p2p_bandwidth=draw(_MAYBE_RATE),
        launch_ns=draw(_LAUNCH),
        launch_by_kind=draw(_BY_KIND),
        memory_bytes=GB,
        shared=draw(_SHARED) if shared else None,
    )
