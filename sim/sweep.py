"""A sweep plans, verifies and simulates every combination of its axes over one workload."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loadahead.sim.costs import Costs
from loadahead.sim.engines import DEFAULT_ENGINE, simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import AUTO, Policy, build_plan
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.routes import are_private
from loadahead.sim.step_metrics import DECISIONS, ROOM_COLUMNS, Room, SweepRow
from loadahead.sim.tuning import Candidate, tune
from loadahead.sim.verify import check
from loadahead.sim.work import NOT_COUNTED, Work
from loadahead.sim.workload import Workload

# These fields of the policy can be an axis; each is a column of a sweep's table.
AXES = (
    "pipeline",
    "microbatches",
    "active_microbatches",
    "horizon",
    "horizon_unit",
    "release_window",
    "receive_ahead",
    "decisions",
)
# This engine's rows can be computed without making plans.
PLANLESS_ENGINE = "compiled"
_ALWAYS_SHOWN = ("pipeline", "microbatches", "horizon", "horizon_unit", "release_window")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Holds one configuration of a sweep; ``axes`` holds the values that set it apart.

    ``tensor_parallel_degree`` is the number of GPUs that share the work of a rank, ``work`` what a microbatch is.
    """

    workload: Workload
    costs: Costs
    policy: Policy
    axes: Mapping[str, Any]
    tensor_parallel_degree: int = 1
    work: Work = NOT_COUNTED

    @property
    def room(self) -> Room:
        """Return what the step has to fit into, and how many GPUs it takes."""
        return Room(
            capacity_bytes=self.costs.memory_bytes,
            host_capacity_bytes=self.costs.host_memory_bytes,
            gpus=self.policy.ranks * self.tensor_parallel_degree,
            replicas=self.costs.placement.data,
        )

    def with_speed(self, row: SweepRow) -> SweepRow:
        """Return the point's row with how fast the step is, as far as it is known what a microbatch is."""
        if self.work == NOT_COUNTED:
            return row
        step, room = (row.step_time_ns, self.policy.microbatches), self.room
        assert room.gpus is not None and room.replicas is not None, "a point's room is known"
        return replace(
            row, tokens_per_s=self.work.tokens_per_s(*step, room.replicas), mfu=self.work.mfu(*step, room.gpus)
        )


def grid(
    workload: Workload,
    costs: Costs,
    base: Policy,
    axes: Mapping[str, Sequence[Any]],
    own: Mapping[str, Any] | None = None,
    tensor_parallel_degree: int = 1,
    work: Work = NOT_COUNTED,
) -> Iterator[Point]:
    """Yield every combination of the axes' values, the last axis fastest; raise InputError for an unknown axis.

    ``own`` holds columns of all these points beside the policy's, ``tensor_parallel_degree`` and ``work`` theirs.
    """
    for name in axes:
        if name not in AXES:
            raise InputError(f"sweep axis {name!r} is unknown; it must be one of {', '.join(AXES)}")
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        policy = base.choosing(**chosen) if chosen else base
        said = {DECISIONS: policy.decisions} if policy.decisions == AUTO or DECISIONS in axes else {}
        columns = {name: getattr(policy, name) for name in _ALWAYS_SHOWN} | said | chosen | dict(own or {})
        yield Point(
            workload=workload,
            costs=costs,
            policy=policy,
            axes=columns,
            tensor_parallel_degree=tensor_parallel_degree,
            work=work,
        )


def evaluate_point(point: Point, engine: str = DEFAULT_ENGINE, prove: bool = True) -> SweepRow:
    """Return the point's row; raise CheckFailed when the plan cannot be proven safe, where that is wanted.

    Where tuning decides, it is the row of the plan that it chose: where none keeps the budget, of the nearest.
    """
    plan = plan_of_point(point)
    if prove:
        check(plan)
    return point.with_speed(SweepRow.of(point.axes, simulate(plan, point.costs, engine).metrics, point.room))


def plan_of_point(point: Point) -> Plan:
    """Return the point's plan, which is not proven yet; where tuning decides, the one that it chose."""
    if not point.policy.is_tuned:
        return build_plan(point.workload, point.policy)
    return build_plan(point.workload, point.policy, decisions=_tuned(point).decisions)


def _tuned(point: Point) -> Candidate:
    return tune(point.workload, point.costs, point.policy.by_horizon(), point.policy.goal).chosen


def evaluate_points(
    points: Sequence[Point], engine: str = DEFAULT_ENGINE, groups: Groups | None = None, prove: bool = True
) -> list[SweepRow]:
    """Return each point's row, as :func:`evaluate_point` makes it, in the points' order.

    The compiled engine needs no plan for it where links are private (:mod:`loadahead.sim.policy_metrics`). ``groups``
    is what earlier points of the sweep left to be used again.
    """
    out: list[SweepRow] = []
    groups = groups or Groups()
    for _, run in itertools.groupby(points, _group_key):
        alike = list(run)
        first = alike[0]
        if first.policy.is_tuned:
            out += [_tuned_row(point, engine, groups, prove) for point in alike]
            continue
        rows = None
        if engine == PLANLESS_ENGINE and are_private(first.costs, first.policy.ranks, first.policy.stage_rank):
            policies, axes = [point.policy for point in alike], [point.axes for point in alike]
            rows = groups.rows(first.workload, first.costs, policies, axes, first.room)
        if rows is None:
            out += [evaluate_point(point, engine, prove) for point in alike]
        else:
            out += [point.with_speed(row) for point, row in zip(alike, rows, strict=True)]
    return out


def _tuned_row(point: Point, engine: str, groups: Groups, prove: bool) -> SweepRow:
    """Return the row of a point whose decisions tuning makes; points that differ in a horizon alone are tuned once."""
    policy = point.policy
    # To them these are nothing.
    alike = replace(policy, horizon=1, horizon_unit="tasks", release_window=1)
    key = (id(point.workload), id(point.costs), alike, point.room, engine)

    def row() -> SweepRow:
        if engine != PLANLESS_ENGINE:
            return evaluate_point(point, engine, prove)
        return replace(_tuned(point).row, **{name: getattr(point.room, name) for name in ROOM_COLUMNS})

    return replace(point.with_speed(groups.tuned(key, row, (point.workload, point.costs))), axes=point.axes)


def _group_key(point: Point) -> tuple[Any, ...]:
    """Return a key that is equal for points whose tasks, costs and room are the same."""
    policy = point.policy
    choices = (policy.pipeline, policy.ranks, policy.microbatches, policy.active_microbatches, policy.checkpoint)
    whose = (id(point.workload), id(point.costs), id(policy.order), point.tensor_parallel_degree, policy.is_tuned)
    return *whose, *choices
