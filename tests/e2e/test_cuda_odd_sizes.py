"""Peak memory of a model none of whose sizes suits an allocator, at every horizon, on the stand-in for a GPU.

The stand-in has the rules of torch's allocator, and counts what tensors ask for, the blocks they get, and what is
reserved. A plan knows of the first alone.
"""

from __future__ import annotations

from functools import cache

import pytest

from loadahead.executor.backends.cuda import CudaBackend
from loadahead.executor.calibration import calibrate
from loadahead.executor.links import Links
from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.replay.loop import replay
from loadahead.executor.replay.metering import StepMeter
from loadahead.executor.replay.operations import Operations
from loadahead.executor.replay.plan_match import stage_ranks
from loadahead.executor.training.session import Session
from loadahead.sim.costs import CheckpointWay, Costs
from loadahead.sim.engines import simulate
from loadahead.sim.ir.plan import Plan
from loadahead.sim.planner import HORIZON_UNITS, Policy, build_plan
from loadahead.sim.workload import Workload
from tests.support.fake_allocator import GRAIN, SMALL
from tests.support.fake_cuda import FakeCuda
from tests.support.models import HARDWARE, own_spec, workload_of
from tests.support.ways import checkpointed

MICROBATCHES = 2


@cache
def spec() -> ModelSpec:
    return own_spec("odd_sizes", input_shape=None, data="tests.support.models:odd_batch", loss="cross_entropy")


@cache
def workload() -> Workload:
    return workload_of(spec())


@cache
def costs() -> Costs:
    sizes = (1 << 12, 1 << 16)
    more = {"repeats": 1, "microbatches": MICROBATCHES, "link_sizes": sizes}
    return calibrate(workload(), spec(), hardware=HARDWARE, device="cuda", driver=FakeCuda(), **more)  # type: ignore[arg-type]


def plans(pipeline: str, unit: str) -> dict[int, Plan]:
    """One for each horizon up to where all tasks, or layers, are ahead."""
    policy = {"ranks": 1, "microbatches": MICROBATCHES, "pipeline": pipeline, "horizon_unit": unit}
    units = len(workload().stages[0])
    most = units if unit == "layers" else 2 * units * MICROBATCHES
    return {horizon: build_plan(workload(), Policy(**policy, horizon=horizon)) for horizon in range(1, most + 1)}  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", HORIZON_UNITS)
@pytest.mark.parametrize(("pipeline", "way"), [("simple", "sparing"), ("interleaved", "sparing"), ("simple", "lean")])
def test_the_peak_is_predicted_to_the_byte_at_every_horizon(pipeline: str, way: CheckpointWay, unit: str) -> None:
    fake, made, known = FakeCuda(), plans(pipeline, unit), checkpointed(costs(), way)
    assert (len(known.lean_units) > 0) == (way == "lean")
    backend, ranks = CudaBackend(driver=fake), stage_ranks(made[1], workload())
    session = Session(spec(), workload(), ranks, microbatches=MICROBATCHES, lean=known.lean_units)
    seen: set[tuple[bytes, ...]] = set()
    over: list[int] = []
    for step, (horizon, plan) in enumerate([(0, made[1]), *made.items()]):  # the first to warm up
        rows = tuple(column.tobytes() for column in (plan.ops.kind, plan.ops.unit, plan.ops.microbatch, plan.ops.queue))
        if rows in seen:  # another horizon has the same plan
            continue
        operations = Operations(plan, session.in_units, session, backend, Links.of(HARDWARE))
        batches = session.batches(step, MICROBATCHES)
        meter = StepMeter(operations)
        replay(operations, step, batches, meter)
        walk = meter.result()
        if horizon == 0:
            continue
        peak, predicted = int(walk.peak_device[0]), simulate(plan, known).metrics.ranks[0]
        assert peak == predicted.peak_device_bytes, horizon
        assert int(walk.peak_boundary[0]) == predicted.peak_boundary_bytes, horizon
        seen.add(rows)
        figures = meter.allocator()
        assert max(figures["max_requested"]) == peak
        over += [a - b for a, b in zip(figures["memory_allocated"], figures["requested"], strict=True)]
        assert max(figures["max_memory_allocated"]) > peak
    assert len(seen) > 2  # the horizons differ
    # Or else this would show nothing: what the allocator hands out is more, by amounts that rounding does not explain.
    assert min(over) > 0 and max(over) - min(over) > 500 * GRAIN


def test_sizes_are_odd() -> None:
    unit = workload().stages[0]
    sizes = [unit.boundary_bytes for unit in unit] + [unit.saved_bytes for unit in unit]
    assert all(size % GRAIN for size in sizes if size)
    assert any(size > SMALL for size in [shape.boundary_bytes for shape in unit])
