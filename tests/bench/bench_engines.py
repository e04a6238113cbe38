"""Planner, verifier, engines and sweeps against each other, in one run: python tests/bench/bench_engines.py.

Seconds are those of this process's CPU, best of a few rounds, so that a busy machine disturbs little; ratios say more
than either of their sides. What is compiled was compiled before.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadahead.sim.clock import host_times
from loadahead.sim.costs import Costs, UnitCost
from loadahead.sim.engines import find_engine, simulate
from loadahead.sim.engines.compiled_engine import forward
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.sweep import evaluate_points, grid
from loadahead.sim.verify import check
from loadahead.sim.workload import UnitShape, Workload

ROOT = Path(__file__).parents[2]
MS, MB, GB = 1_000_000, 1_000_000, 1_000_000_000
RANKS = 8
ROUNDS = 5
# 4 units a rank and this many microbatches make a plan of a little over a million operations.
LARGE_UNITS, LARGE_MICROBATCHES = 4, 3700


def workload(units: int) -> Workload:
    """Every unit alike."""
    unit = UnitShape(boundary_bytes=MB, gradient_bytes=MB)
    return Workload(stages=((unit,) * units,) * RANKS)


def costs(units: int) -> Costs:
    """Links that need about as long as a unit's FORWARD."""
    unit = UnitCost(forward_ns=MS, recompute_ns=MS, backward_ns=2 * MS)
    return Costs(
        units=((unit,) * units,) * RANKS,
        static_bytes=(0,) * RANKS,
        d2h_bandwidth=GB,
        h2d_bandwidth=GB,
        memory_bytes=80 * 2**30,
    )


def best(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """CPU seconds of the quickest round."""
    work()
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def engines() -> None:
    """Operations per second: the reference, one compiled pass, and all that a single plan needs."""
    units = 1
    policy = Policy(pipeline="interleaved", microbatches=32, ranks=RANKS, horizon=2)
    figures, plan = costs(units), build_plan(workload(units), policy)
    durations, allowed = figures.durations(plan), host_times(plan, figures.launches(plan))

    def everything() -> None:
        made = build_plan(workload(units), policy)
        check(made)
        simulate(made, figures, "compiled")

    rates = {
        "simpy": len(plan) / best(lambda: find_engine("simpy")(plan, figures), 3),
        "compiled, evaluation alone": 200 * len(plan) / best(lambda: _often(plan, durations, allowed), 3),
        "compiled, build + verify + evaluate": len(plan) / best(everything),
    }
    print(f"{RANKS} ranks, 32 microbatches, {units} unit: a plan of {len(plan)} operations")
    for name, rate in rates.items():
        print(f"  {name:38} {rate:14,.0f} operations/s   {rate / rates['simpy']:8.1f} times simpy")


def _often(plan: Plan, durations: Any, allowed: Any) -> None:
    for _ in range(200):
        forward(plan, durations, allowed)


def sweep() -> None:
    """Configurations per second, peak memory, overlap and stalls included, through the sweep's own function."""
    units, axes = 1, {"horizon": list(range(1, 33)), "release_window": list(range(1, 9))}
    for pipeline in ("interleaved", "simple"):
        base = Policy(pipeline=pipeline, microbatches=32, ranks=RANKS)
        points = list(grid(workload(units), costs(units), base, axes))
        quick = len(points) / best(lambda points=points: evaluate_points(points, "compiled"))  # type: ignore[misc]
        few = points[:: len(points) // 8]
        slow = len(few) / best(lambda few=few: evaluate_points(few, "simpy"), 1)  # type: ignore[misc]
        print(f"sweep, {pipeline:11} {quick:10,.0f} configurations/s, {quick / slow:6.0f} times simpy with its plans")


def large() -> None:
    """A plan of a million operations in a process of its own, since memory is its peak."""
    policy = Policy(pipeline="interleaved", microbatches=8, ranks=RANKS, horizon=2)
    figures, shapes = costs(LARGE_UNITS), workload(LARGE_UNITS)
    for microbatches in (8, LARGE_MICROBATCHES):  # the first warms up
        began = time.perf_counter()
        plan = build_plan(shapes, replace(policy, microbatches=microbatches))
        built = time.perf_counter()
        check(plan)
        proven = time.perf_counter()
        simulate(plan, figures, "compiled")
        ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(plan):,} operations: built in {built - began:.2f} s, verified in {proven - built:.2f} s, simulated in "
        f"{ended - proven:.2f} s, together {ended - began:.2f} s; peak memory of the process {peak:.2f} GiB"
    )


def main() -> None:
    if sys.argv[1:] == ["large"]:
        large()
        return
    engines()
    sweep()
    subprocess.run([sys.executable, __file__, "large"], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True)


if __name__ == "__main__":
    main()
