"""Steps on this machine's CPU: times, copies and the order of horizons, predicted beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from loadahead.executor.calibration import calibrate
from loadahead.executor.execute import execute
from loadahead.executor.links import Hardware
from loadahead.executor.training.results import ExecutionResult
from loadahead.reports.statistics import order_disagreements
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.models import GB, TINY, tiny_spec, workload_of
from tests.times.figure import Figure, predicted_within

SPEC = tiny_spec(options=TINY | {"width": 128, "context": 64, "batch": 4})
# Boundaries of 131 kB take 1.3 ms: about as long as a unit runs, so that horizons matter.
SLOW = Hardware(d2h_bandwidth=GB // 10, h2d_bandwidth=GB // 10, memory_bytes=GB, d2h_latency_ns=20_000)
# Coming back takes so long that a horizon of 1 pays for it.
SLOWER = replace(SLOW, h2d_bandwidth=GB // 40)
STEPS = 7  # the first is not timed


@cache
def workload() -> Workload:
    return workload_of(SPEC)


def plan_of(horizon: int) -> Plan:
    return build_plan(workload(), Policy(ranks=1, microbatches=8, horizon=horizon, pipeline="simple"))


def calibrated(hardware: Hardware) -> Costs:
    return calibrate(workload(), SPEC, hardware=hardware, repeats=20)


def measured(plan: Plan, costs: Costs) -> ExecutionResult:
    return execute(plan, workload(), SPEC, costs=costs, steps=STEPS, check_gradients=False)


def step_time(horizon: int) -> Sequence[Figure]:
    """The predicted step time is within a tenth."""
    costs, plan = calibrated(SLOW), plan_of(horizon)
    predicted = simulate(plan, costs).step_time_ns
    return [predicted_within(f"horizon {horizon}", measured(plan, costs).step_times_ns, predicted, 0.10)]


def order_of_horizons() -> Sequence[Figure]:
    """Horizons that are predicted more than a tenth apart are measured in the predicted order."""
    costs = calibrated(SLOWER)
    horizons = (1, 2, 3, 4, 8)
    plans = [plan_of(horizon) for horizon in horizons]
    ours = [simulate(plan, costs).step_time_ns for plan in plans]
    runs = [measured(plan, costs) for plan in plans]
    figures = [
        Figure(name=f"horizon {horizon}", measured=run.step_times_ns, predicted=own)
        for horizon, run, own in zip(horizons, runs, ours, strict=True)
    ]
    wrong = len(order_disagreements(ours, [run.timeline.step_time_ns for run in runs]))
    apart = max(ours) / min(ours) - 1
    return [
        *figures,
        Figure(
            name="largest predicted difference",
            measured=[apart],
            wanted="more than 10 %, or there is no order to speak of",
            holds=apart > 0.10,
            show=lambda share: f"{share:.1%}",
        ),
        Figure(
            name="pairs of horizons in the other order",
            measured=[wrong],
            wanted="none",
            holds=wrong == 0,
            show=lambda count: f"{count:.0f}",
        ),
    ]


def copies() -> Sequence[Figure]:
    """The time of all copies, and how much of it lies under compute."""
    costs, plan = calibrated(SLOW), plan_of(2)
    (ours,) = simulate(plan, costs).metrics.ranks
    runs = [measured(plan, costs).timeline.metrics.ranks[0] for _ in range(3)]
    overlap = Figure(
        name="overlap",
        measured=[run.overlap for run in runs],
        predicted=ours.overlap,
        show=lambda share: f"{share:.1%}",
    )
    near = abs(ours.overlap - overlap.median) <= 0.15
    return [
        predicted_within("time of all copies", [run.copy_ns for run in runs], ours.copy_ns, 0.25),
        replace(overlap, wanted="within 15 points", holds=near),
    ]
