"""Transfers between ranks land in memory that the plan has taken: to the byte, at every horizon, window and distance.

Every plan runs one step with poisoned memory; what each operation of a compute queue holds, what each rank holds at
most, and every gradient, loss and buffer are compared.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from loadahead.executor.backends.cpu import CpuBackend
from loadahead.executor.calibration import calibrate
from loadahead.executor.links import Links
from loadahead.executor.replay.loop import replay
from loadahead.executor.replay.metering import StepMeter
from loadahead.executor.replay.operations import Operations
from loadahead.executor.torch_settings import single_threaded, without_garbage_collection
from loadahead.executor.training.oracle import PlainTraining, pass_orders
from loadahead.executor.training.session import Session
from loadahead.sim.costs import Costs
from loadahead.sim.ir.json_form import plan_to_json
from loadahead.sim.ir.kinds import Queue
from loadahead.sim.ir.plan import Plan
from loadahead.sim.memory import walk
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.models import HARDWARE, tiny_spec, workload_of
from tests.support.orders import INTERLEAVED, V_SHAPED, written
from tests.support.units import compared

SPEC = tiny_spec()  # four units
MICROBATCHES = 4
HORIZONS, WINDOWS, DISTANCES = range(1, 10), (1, 2, 3), (0, 1, 2)


@cache
def workload(stages: int) -> Workload:
    return workload_of(SPEC, stages)


@cache
def costs(stages: int, checkpoint: bool) -> Costs:
    return calibrate(workload(stages), SPEC, hardware=HARDWARE, repeats=1, checkpoint=checkpoint)


class Steps:
    """Runs plans of one order, a step each, beside plain training."""

    def __init__(self, plan: Plan, stages: int) -> None:
        self.backend = CpuBackend(poisoned=True)
        self.session = Session(SPEC, workload(stages), tuple(plan.stage_rank.tolist()), microbatches=MICROBATCHES)
        self.oracle = PlainTraining(self.session, *pass_orders(plan))
        self.number = 0

    def run(self, plan: Plan, known: Costs) -> None:
        """Run a step of the plan, and compare it with what the plan says."""
        operations = Operations(plan, self.session.in_units, self.session, self.backend, Links.of(HARDWARE))
        batches = self.session.batches(self.number, plan.microbatches)
        meter = StepMeter(operations)
        with without_garbage_collection():
            run = replay(operations, self.number, batches, meter)
        assert compared(self.number, self.session, self.oracle, run.losses, batches) == 0.0
        self.number += 1
        expected, found = walk(plan, known), meter.result()
        for rank in range(plan.ranks):
            order = plan.queue_ops(rank, Queue.COMPUTE)
            for name in ("during", "boundary_during"):
                assert np.array_equal(getattr(found, name)[order], getattr(expected, name)[order]), (rank, name)
            assert found.after[order][-1] == meter.static[rank]
        for name in ("peak_device", "peak_boundary", "peak_host"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name


@pytest.fixture(autouse=True)
def as_runs_are() -> Iterator[None]:
    """Plain training has the threads that a run has, so that its sums add up alike.

    Python's threads take turns a hundred times as often as usual, as they may on a busy machine: what one of them
    holds for a moment must not be counted by another rank's meter.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 100)
    try:
        with single_threaded():
            yield
    finally:
        sys.setswitchinterval(usual)


def run_all(stages: int, horizons: Sequence[int] = HORIZONS, **policy: Any) -> None:
    """Run the plans of an order; of those with the same operations, only the first."""
    plans: dict[str, Plan] = {}
    for horizon, window, ahead in product(horizons, WINDOWS, DISTANCES if policy["ranks"] > 1 else (1,)):
        choices = {"horizon": horizon, "release_window": window, "receive_ahead": ahead, "microbatches": MICROBATCHES}
        plan = build_plan(workload(stages), Policy(**choices | policy))
        plans.setdefault(str(plan_to_json(plan)["ops"]), plan)
    assert len(plans) > 2
    steps = Steps(next(iter(plans.values())), stages)
    try:
        for plan in plans.values():
            steps.run(plan, costs(stages, policy.get("checkpoint", True)))
    finally:
        steps.backend.close()


@pytest.mark.parametrize("pipeline", ["interleaved", "simple"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_memory_is_exact(ranks: int, pipeline: str) -> None:
    run_all(ranks, ranks=ranks, pipeline=pipeline)


@pytest.mark.parametrize("rows", [INTERLEAVED, V_SHAPED], ids=["interleaved", "V"])
def test_with_two_stages_a_rank_too(rows: tuple[str, ...]) -> None:
    run_all(4, HORIZONS[::4], ranks=2, order=written(rows))


@pytest.mark.parametrize("pipeline", ["interleaved", "simple"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_without_checkpointing_too(ranks: int, pipeline: str) -> None:
    run_all(ranks, ranks=ranks, pipeline=pipeline, checkpoint=False)
