"""Operations per second of planner, verifier and engines, on growing plans: python tests/bench/bench_engines.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sim.costs import Costs, UnitCost
from sim.engines import ENGINES, simulate
from sim.planner import Policy, build_plan
from sim.verify import check
from sim.workload import UnitShape, Workload

MS, MB, GB = 1_000_000, 1_000_000, 1_000_000_000
RANKS, UNITS = 8, 4
MICROBATCHES = (8, 32, 128)
ROUNDS = 3


def workload() -> Workload:
    """Every unit alike."""
    unit = UnitShape(boundary_bytes=MB, gradient_bytes=MB)
    return Workload(stages=((unit,) * UNITS,) * RANKS)


def costs() -> Costs:
    """Links that need about as long as a unit's FORWARD."""
    unit = UnitCost(forward_ns=MS, recompute_ns=MS, backward_ns=2 * MS)
    return Costs(
        units=((unit,) * UNITS,) * RANKS, static_bytes=(0,) * RANKS, d2h_bandwidth=GB, h2d_bandwidth=GB,
        memory_bytes=80 * 2**30,
    )  # fmt: skip


def best_of(rounds: int, work: Callable[[], Any]) -> float:
    """Seconds of the quickest round."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    figures = costs()
    names = ["plan", "verify", *ENGINES]
    print(f"{RANKS} ranks, {UNITS} units per rank; thousand operations per second, best of {ROUNDS}")
    print("  ".join(["operations".rjust(10), *(name.rjust(9) for name in names)]))
    for microbatches in MICROBATCHES:
        policy = Policy(microbatches=microbatches, ranks=RANKS)
        plan = build_plan(workload(), policy)
        works: dict[str, Callable[[], Any]] = {
            "plan": lambda policy=policy: build_plan(workload(), policy),  # type: ignore[misc]
            "verify": lambda plan=plan: check(plan),  # type: ignore[misc]
        }
        works |= {name: lambda plan=plan, name=name: simulate(plan, figures, name) for name in ENGINES}  # type: ignore[misc]
        rates = [len(plan) / best_of(ROUNDS, works[name]) / 1000 for name in names]
        print("  ".join([str(len(plan)).rjust(10), *(f"{rate:.0f}".rjust(9) for rate in rates)]))


if __name__ == "__main__":
    main()
