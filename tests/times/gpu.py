"""On a GPU: step times as predicted, and copies at the link's speed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from loadahead.executor.backends import make_backend
from loadahead.executor.backends.cuda import CudaBackend
from loadahead.executor.calibration import calibrate
from loadahead.executor.calibration.copies import LinkBench
from loadahead.executor.execute import execute
from loadahead.sim.costs import Costs
from loadahead.sim.engines import simulate
from loadahead.sim.ir.kinds import Queue
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.workload import Workload
from loadahead.validation.links import slowed
from tests.support.models import BIG, HARDWARE, tiny_spec, workload_of
from tests.times.figure import Figure, predicted_within

SPEC = tiny_spec(python="byte-gpt-cached", options=BIG, autocast="bfloat16")


@cache
def workload() -> Workload:
    return workload_of(SPEC, device="cuda")


def calibrated() -> Costs:
    return calibrate(workload(), SPEC, hardware=HARDWARE, device="cuda", deterministic=False)


def step_times(copies: int) -> Sequence[Figure]:
    """With boundaries copied ``copies`` times, which stands for a slower link."""
    costs = calibrated()
    slower = slowed(costs, copies)
    figures = []
    for horizon in (1, 2, 4):
        plan = build_plan(workload(), Policy(ranks=1, microbatches=4, horizon=horizon, pipeline="simple"))
        run = execute(
            plan, workload(), SPEC, costs=slower, steps=10, device="cuda", check_gradients=False, copies=copies
        )
        predicted = simulate(plan, slower).step_time_ns
        figures.append(predicted_within(f"horizon {horizon}", run.bare_step_times_ns, predicted, 0.06))
    return figures


def large_copies() -> Sequence[Figure]:
    """The largest copy alone comes near the bandwidth that was fitted to all sizes."""
    backend = make_backend("cuda")
    assert isinstance(backend, CudaBackend)
    bench = LinkBench(backend.driver)
    figures = []
    for queue in (Queue.D2H, Queue.H2D):
        fitted, points = bench.alone(queue, pinned=True)
        reached = points[-1]["bytes"] * 1e9 / points[-1]["median_ns"] / fitted.bandwidth
        figures.append(
            Figure(
                name=f"{queue.label}, the largest copy's share of the fitted bandwidth",
                measured=[reached],
                wanted="at least 95 %",
                holds=reached >= 0.95,
                show=lambda share: f"{share:.1%}",
            )
        )
    bench.close()
    backend.close()
    return figures
