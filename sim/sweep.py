"""A sweep plans, verifies and simulates every combination of its axes over one workload."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loadahead.sim.costs import Costs
from loadahead.sim.engines import DEFAULT_ENGINE, simulate
from loadahead.sim.errors import InputError
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.policy_metrics import PolicyGroup, metrics_rows
from loadahead.sim.verify import check
from loadahead.sim.workload import Workload

# These fields of the policy can be an axis; each is a column of a sweep's table.
AXES = ("pipeline", "microbatches", "active_microbatches", "horizon", "horizon_unit", "release_window")
# This engine's rows can be computed without making plans.
PLANLESS_ENGINE = "compiled"
_ALWAYS_SHOWN = ("pipeline", "microbatches", "horizon", "horizon_unit", "release_window")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Holds one configuration of a sweep; ``axes`` holds the values that set it apart."""

    workload: Workload
    costs: Costs
    policy: Policy
    axes: Mapping[str, Any]


def grid(workload: Workload, costs: Costs, base: Policy, axes: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
    """Yield every combination of the axes' values, the last axis fastest; raise InputError for an unknown axis."""
    for name in axes:
        if name not in AXES:
            raise InputError(f"sweep axis {name!r} is unknown; it must be one of {', '.join(AXES)}")
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        policy = replace(base, **chosen)
        columns = {name: getattr(policy, name) for name in _ALWAYS_SHOWN} | chosen
        yield Point(workload=workload, costs=costs, policy=policy, axes=columns)


def evaluate_point(point: Point, engine: str = DEFAULT_ENGINE) -> dict[str, Any]:
    """Return the point's row: its axes, then its metrics.

    Peaks and stalls are those of the rank that has most of each; ``overlap`` is that of all ranks' copies together.
    Times are in ns, sizes in bytes. Raise CheckFailed when the plan cannot be proven safe.
    """
    plan = build_plan(point.workload, point.policy)
    check(plan)
    summary = simulate(plan, point.costs, engine).header["summary"]
    ranks = summary["ranks"]
    copying = sum(rank["copy_ns"] for rank in ranks)
    hidden = sum(rank["overlap"] * rank["copy_ns"] for rank in ranks)
    most = {
        key: max(rank[key] for rank in ranks)
        for key in (
            "peak_device_bytes",
            "peak_boundary_bytes",
            "peak_host_bytes",
            "stall_release_ns",
            "stall_prefetch_ns",
            "stall_recv_ns",
        )
    }
    return dict(point.axes) | {
        "step_time_ns": summary["step_time_ns"],
        **most,
        "overlap": hidden / copying if copying else 0.0,
        "offloaded": summary["offloaded"],
        "kept": summary["kept"],
    }


def evaluate_points(points: Sequence[Point], engine: str = DEFAULT_ENGINE) -> list[dict[str, Any]]:
    """Return each point's row, as :func:`evaluate_point` makes it, in the points' order.

    The compiled engine needs no plan for it where links are private (:mod:`loadahead.sim.policy_metrics`).
    """
    out: list[dict[str, Any]] = []
    for _, run in itertools.groupby(points, _group_key):
        alike = list(run)
        first = alike[0]
        if engine != PLANLESS_ENGINE or first.costs.shared is not None:
            out += [evaluate_point(point, engine) for point in alike]
            continue
        group = PolicyGroup.of(first.workload, first.costs, first.policy)
        rows = metrics_rows(group, [point.policy for point in alike])
        out += [dict(point.axes) | row for point, row in zip(alike, rows, strict=True)]
    return out


def _group_key(point: Point) -> tuple[Any, ...]:
    """Return a key that is equal for points whose tasks and costs are the same."""
    policy = point.policy
    choices = (policy.pipeline, policy.ranks, policy.microbatches, policy.active_microbatches, policy.checkpoint)
    return id(point.workload), id(point.costs), *choices
