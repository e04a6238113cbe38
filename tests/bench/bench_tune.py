"""What a tuned plan takes, in evaluations of a sweep's point: PYTHONPATH=. python tests/bench/bench_tune.py.

8 ranks, 64 microbatches, 96 layers, in both orders; then a frontier of 50 budgets. All that tuning does counts, the
horizons that it is held against and the bound included; compiling does not.
"""

from __future__ import annotations

import time
from typing import Any

import loadahead as la
from loadahead.jobs import prepared_of
from loadahead.scenarios.prepare import Prepared
from loadahead.sim.planner.goal import Goal
from loadahead.sim.sweep import evaluate_points, grid
from loadahead.sim.tuning import frontier, tune
from loadahead.sim.tuning.tune import Tuner

RANKS, MICROBATCHES, LAYERS = 8, 64, 96
# A copy takes so many FORWARDs each way; the budget is so far from the least that any plan needs to keeping all.
CASES = (("simple", 2, 0.3), ("simple", 2, 0.6), ("interleaved", 5, 0.5), ("interleaved", 5, 0.8))
MOST_EVALUATIONS, MOST_SECONDS = 3000, 120
POINTS, REPEATS = 300, 3


def prepared(pipeline: str, copy: int) -> Prepared:
    """The model, ready to be planned."""
    link = f"{1000 // copy} MB/s"
    content: dict[str, Any] = {
        "name": "bench",
        "model": {
            "kind": "uniform",
            "units_per_stage": LAYERS // RANKS,
            "forward": "1 ms",
            "recompute": "1 ms",
            "backward": "2 ms",
            "boundary": "1 MB",
        },
        "hardware": {"d2h": link, "h2d": link, "memory": "80 GiB", "p2p": "50 us"},
        "parallel": {"microbatches": MICROBATCHES, "pipeline_parallel_degree": RANKS, "pipeline": pipeline},
    }
    return prepared_of(la.load(content))


def evaluation(of: Prepared) -> float:
    """Seconds of one point of a sweep over horizons, the least of some sweeps."""
    assert of.costs is not None
    points = list(grid(of.workload, of.costs, of.policy, {"horizon": list(range(1, POINTS + 1))}))
    evaluate_points(points, "compiled")
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        evaluate_points(points, "compiled")
        taken.append(time.perf_counter() - began)
    return min(taken) / POINTS


def main() -> None:
    """Print each case's time and its ratio to a sweep's point."""
    for pipeline, copy, share in CASES:
        of = prepared(pipeline, copy)
        assert of.costs is not None
        tuner = Tuner(of.workload, of.costs, of.policy)
        least, most = (one.row.peak_boundary_bytes for one in (tuner.solver.leave_all(), tuner.keep_all))
        goal = Goal(boundary_memory=int(least + share * (most - least)))
        tune(of.workload, of.costs, of.policy, goal)  # compiles
        ratios, seconds = [], []
        for _ in range(REPEATS):
            one = evaluation(of)
            began = time.perf_counter()
            found = tune(of.workload, of.costs, of.policy, goal)
            seconds.append(time.perf_counter() - began)
            ratios.append(seconds[-1] / one)
        horizon = "none" if found.horizon is None else f"{found.horizon.row.step_time_ns / 1e6:.1f} ms"
        print(
            f"{pipeline}, copy {copy}, budget {share:.0%}: a plan in {min(seconds):.2f} s, {min(ratios):.0f} to "
            f"{max(ratios):.0f} evaluations of a point (at most {MOST_EVALUATIONS}); step "
            f"{found.chosen.row.step_time_ns / 1e6:.1f} ms, best horizon {horizon}, gap to the bound {found.gap:.2%}"
        )
    for pipeline, copy in (("simple", 2), ("interleaved", 5)):
        of = prepared(pipeline, copy)
        assert of.costs is not None
        began = time.perf_counter()
        made = frontier(of.workload, of.costs, of.policy, Goal(boundary_memory=0))
        taken = time.perf_counter() - began
        budgets = f"a frontier of {len(made.points)} budgets in {taken:.0f} s"
        print(f"{pipeline}, copy {copy}: {budgets} (at most {MOST_SECONDS} s)")


if __name__ == "__main__":
    main()
