"""Everything that is compiled is compiled at once, on tiny plans, so that a long run's first part takes no longer.

numba compiles a function when it is first called, and anew for other types of arguments. So what follows goes the ways
that commands go, rather than to list functions and types.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from loadahead.sim import compiled
from loadahead.sim.advice import advise
from loadahead.sim.costs import Costs, SharedLinks, UnitCost
from loadahead.sim.cuts import even_cuts
from loadahead.sim.engines import simulate
from loadahead.sim.engines.fluid import carried_by
from loadahead.sim.ir.plan import Plan
from loadahead.sim.jitter import Spread, step_times
from loadahead.sim.links import link_of
from loadahead.sim.planner import HORIZON_UNITS, ORDERS, Policy, build_plan
from loadahead.sim.planner.goal import Goal
from loadahead.sim.routes import LinkTable
from loadahead.sim.sweep import Point, evaluate_points
from loadahead.sim.timeline import Timeline
from loadahead.sim.tuning import tune
from loadahead.sim.verify import check
from loadahead.sim.verify.happens_before import HappensBefore
from loadahead.sim.workload import UnitShape, Workload

_RANKS, _UNITS = 2, 2
_MS, _MB, _GB = 10**6, 10**6, 10**9


def warm_up() -> None:
    """Compile all that a run needs, and remember that it was."""
    even_cuts([1, 2, 3], 2)
    workload, own = _workload(), _costs()
    # Links so slow that copies meet, which makes the engine follow their flows.
    shared = own.model_copy(update={"shared": SharedLinks(host_memory_bandwidth=_GB // 10)})
    for policy in _policies():
        plan = build_plan(workload, policy)
        check(plan)
        _exact_order(plan)
        for costs in (own, shared):
            _flows(plan, costs, simulate(plan, costs, "compiled"))
            step_times(plan, costs, Spread(compute=0.1, copies=0.1, draws=1))
        evaluate_points([Point(workload=workload, costs=own, policy=policy, axes={})], "compiled")
    for costs in (own, shared):
        advise(workload, costs, next(_policies()))
    compiled.mark_warm()


def warm_up_tuning() -> None:
    """Compile what tuning needs beside that, and remember that it was."""
    workload, policy = _workload(), next(_policies())
    # On links so slow that no horizon is as fast as the bound, with more memory than some plan needs: a search.
    costs = _costs().model_copy(update={"d2h_bandwidth": _GB // 8, "h2d_bandwidth": _GB // 8})
    found = tune(workload, costs, policy, Goal(boundary_memory=(_UNITS + 1) * _MB))
    assert found.gap or not found.chosen.by_horizon, "a search was made"
    compiled.mark_warm(compiled.TUNING)


def _policies() -> Iterator[Policy]:
    for pipeline in ORDERS:
        for unit in HORIZON_UNITS:
            offloading = Policy(pipeline=pipeline, microbatches=4, ranks=_RANKS, horizon=1, horizon_unit=unit)
            yield offloading
            yield replace(offloading, offload=False)
            yield replace(offloading, checkpoint=False)


def _flows(plan: Plan, costs: Costs, step: Timeline) -> None:
    """Ask what links carry, as a figure of their use does."""
    table = LinkTable.of_plan(costs, plan)
    link = link_of(plan, table)
    at = np.flatnonzero(link >= 0)
    carried_by(table, link[at], step.start_ns[at], step.end_ns[at], np.asarray([0, step.step_time_ns]))


def _exact_order(plan: Plan) -> None:
    """Ask about operations of two ranks, as a plan that the planner made gives no reason to."""
    last = len(plan) - 1
    other = int(np.flatnonzero(plan.ops.rank != plan.ops.rank[last])[0])
    HappensBefore(plan).ordered(np.asarray([other]), np.asarray([last]))


def _workload() -> Workload:
    unit = UnitShape(boundary_bytes=_MB, gradient_bytes=_MB)
    return Workload(stages=((unit,) * _UNITS,) * _RANKS)


def _costs() -> Costs:
    unit = UnitCost(forward_ns=_MS, recompute_ns=_MS, backward_ns=2 * _MS)
    return Costs(
        units=((unit,) * _UNITS,) * _RANKS,
        static_bytes=(0,) * _RANKS,
        d2h_bandwidth=_GB,
        h2d_bandwidth=_GB,
        launch_ns=1,
        memory_bytes=_GB,
    )
