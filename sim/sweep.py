"""Many policies over one workload: every combination of the axes is planned, verified and simulated."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loadahead.sim.costs import Costs
from loadahead.sim.engines import DEFAULT_ENGINE, simulate
from loadahead.sim.errors import InputError
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.policy_metrics import Group, figures
from loadahead.sim.verify import check
from loadahead.sim.workload import Workload

# The policy's fields that can be an axis, and their column in a sweep's table.
AXES = ("pipeline", "microbatches", "active_microbatches", "horizon", "horizon_unit", "release_window")
# The engine that does without a plan.
QUICK = "compiled"
_ALWAYS = ("pipeline", "microbatches", "horizon", "horizon_unit", "release_window")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One configuration of a sweep. ``axes`` is what sets it apart."""

    workload: Workload
    costs: Costs
    policy: Policy
    axes: Mapping[str, Any]


def grid(workload: Workload, costs: Costs, base: Policy, axes: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
    """Every combination of the axes' values, the last axis changing fastest; InputError for an unknown axis."""
    for name in axes:
        if name not in AXES:
            raise InputError(f"sweep axis {name!r} is unknown; it must be one of {', '.join(AXES)}")
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        policy = replace(base, **chosen)
        seen = {name: getattr(policy, name) for name in _ALWAYS} | chosen
        yield Point(workload=workload, costs=costs, policy=policy, axes=seen)


def evaluate_point(point: Point, engine: str = DEFAULT_ENGINE) -> dict[str, Any]:
    """The point's row: its axes, then the figures.

    Peaks and stalls are those of the rank that has most of each; ``overlap`` is that of all ranks' copies together.
    Times in ns, sizes in bytes.
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
    """Each point's row, as :func:`evaluate_point` gives it, in the points' order.

    The compiled engine needs no plan for it where links are private (:mod:`loadahead.sim.policy_metrics`).
    """
    out: list[dict[str, Any]] = []
    for _, group in itertools.groupby(points, _alike):
        alike = list(group)
        first = alike[0]
        if engine != QUICK or first.costs.shared is not None:
            out += [evaluate_point(point, engine) for point in alike]
            continue
        rows = figures(Group.of(first.workload, first.costs, first.policy), [point.policy for point in alike])
        out += [dict(point.axes) | row for point, row in zip(alike, rows, strict=True)]
    return out


def _alike(point: Point) -> tuple[Any, ...]:
    """Equal for points whose tasks and costs are the same."""
    policy = point.policy
    choices = (policy.pipeline, policy.ranks, policy.microbatches, policy.active_microbatches, policy.checkpoint)
    return id(point.workload), id(point.costs), *choices
