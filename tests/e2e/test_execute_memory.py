"""Measured memory is what the plan says, to the byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loadahead.executor.calibration import calibrate
from loadahead.executor.execute import execute
from loadahead.executor.model.spec import ModelSpec
from loadahead.sim.costs import CheckpointWay, load_costs, save_costs
from loadahead.sim.engines import simulate
from loadahead.sim.ir.kinds import Queue
from loadahead.sim.memory import walk
from loadahead.sim.planner import HORIZON_UNITS, Policy, build_plan
from tests.support.models import HARDWARE, link_costs, own_spec, tiny_spec, workload_of
from tests.support.ways import checkpointed

CASES = [
    *({"horizon": horizon, "pipeline": "simple"} for horizon in range(1, 9)),
    *({"horizon": 2, "pipeline": "interleaved", "horizon_unit": unit} for unit in HORIZON_UNITS),
    {"offload": False},
    {"release_window": 2},
]


@pytest.mark.parametrize(("ranks", "cases"), [(1, CASES), (2, CASES[::4])])
def test_measured_peaks_are_the_predicted_ones(ranks: int, cases: list[dict[str, Any]]) -> None:
    spec = tiny_spec()
    workload = workload_of(spec, ranks)
    costs = calibrate(workload, spec, hardware=HARDWARE, repeats=1)
    assert costs.evidence["workspace_differs"] == {}
    for case in cases:
        compare_peaks(ranks, workload, spec, costs, case)


@pytest.mark.parametrize("spec", [tiny_spec(), own_spec("keepers")], ids=["gpt", "keepers"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_without_checkpointing_too(ranks: int, spec: ModelSpec) -> None:
    workload = workload_of(spec, ranks)
    costs = calibrate(workload, spec, hardware=HARDWARE, repeats=1, checkpoint=False)
    for pipeline in ("simple", "interleaved"):
        compare_peaks(ranks, workload, spec, costs, {"checkpoint": False, "pipeline": pipeline})


@pytest.mark.parametrize(("checkpoint", "way"), [(True, "sparing"), (True, "lean"), (False, "sparing")])
def test_what_a_unit_holds_is_no_matter_of_who_sends_to_it(checkpoint: bool, way: CheckpointWay) -> None:
    """Receive buffers are the plan's: they are in no operation's workspace."""
    spec = tiny_spec()

    def workspaces(ranks: int) -> list[tuple[int, int, int]]:
        costs = calibrate(workload_of(spec, ranks), spec, hardware=HARDWARE, repeats=1, checkpoint=checkpoint)
        units = [unit for stage in checkpointed(costs, way).units for unit in stage]
        return [(unit.workspace_forward, unit.workspace_recompute, unit.workspace_backward) for unit in units]

    alone = workspaces(1)
    assert workspaces(2) == workspaces(4) == alone
    assert any(max(unit) for unit in alone)


def compare_peaks(ranks: int, workload: Any, spec: Any, costs: Any, case: dict[str, Any]) -> None:
    plan = build_plan(workload, Policy(**{"ranks": ranks, "microbatches": 6} | case))
    measured = execute(plan, workload, spec, costs=costs, steps=2, check_gradients=False).timeline
    predicted = simulate(plan, costs)
    for name in ("peak_device_bytes", "peak_boundary_bytes", "peak_host_bytes"):
        ours, theirs = ([getattr(rank, name) for rank in side.metrics.ranks] for side in (measured, predicted))
        assert ours == theirs, (case, name)
    for rank in range(ranks):
        mine = measured.memory.device_bytes[measured.memory.rank == rank]
        assert mine.max() == walk(plan, costs).peak_device[rank]


@pytest.mark.parametrize("way", ["sparing", "lean"])
def test_every_operation_holds_what_the_walk_says(way: CheckpointWay) -> None:
    """Not the peaks alone: RECOMPUTE's graph apart, which lives on until its BACKWARD, each operation by itself."""
    from loadahead.executor.backends import make_backend
    from loadahead.executor.links import Links
    from loadahead.executor.replay.loop import replay
    from loadahead.executor.replay.metering import StepMeter
    from loadahead.executor.replay.operations import Operations
    from loadahead.executor.training.session import Session

    spec = tiny_spec()
    workload = workload_of(spec)
    costs = checkpointed(calibrate(workload, spec, hardware=HARDWARE, repeats=1), way)
    plan = build_plan(workload, Policy(ranks=1, microbatches=5, horizon=2, pipeline="simple"))
    backend = make_backend("cpu")
    session = Session(spec, workload, (0,), lean=costs.lean_units)
    assert (len(costs.lean_units) > 0) == (way == "lean")
    operations = Operations(plan, session.in_units, session, backend, Links.of(HARDWARE))
    meter = StepMeter(operations)
    replay(operations, 0, session.batches(0, 5), meter)
    backend.close()
    expected, found = walk(plan, costs), meter.result()
    order = plan.queue_ops(0, Queue.COMPUTE)
    assert len(order) > 50
    assert np.array_equal(found.during[order], expected.during[order])
    assert found.after[order][-1] == costs.static_bytes[0] == meter.static[0]


def test_offloading_takes_the_boundaries_off_the_device() -> None:
    spec = tiny_spec()
    workload = workload_of(spec)

    def peak(**policy: Any) -> int:
        plan = build_plan(workload, Policy(ranks=1, microbatches=8, pipeline="simple", **policy))
        run = execute(plan, workload, spec, costs=link_costs(workload), steps=2, check_gradients=False)
        return run.timeline.metrics.peak_boundary_bytes

    block = workload.stages[0][1].boundary_bytes
    assert peak(offload=False) == sum(unit.boundary_bytes for unit in workload.stages[0]) * 8
    assert peak(horizon=1) <= 3 * block
    assert peak(horizon=2) <= 4 * block


def test_calibrated_costs_survive_their_file(tmp_path: Any) -> None:
    spec = tiny_spec()
    costs = calibrate(workload_of(spec), spec, hardware=HARDWARE, repeats=2)
    save_costs(costs, tmp_path / "costs.json")
    assert load_costs(tmp_path / "costs.json") == costs
    assert costs.source == "calibrated on cpu"
    counts = {name: figure["count"] for name, figure in costs.evidence["operations"].items()}
    assert counts["FORWARD 0.1"] == counts["RECOMPUTE 0.1"] == counts["BACKWARD 0.1"] == 4
    # What belongs to no unit was measured beside either way.
    assert all(unit.other_way is not None for unit in costs.units[0])
    assert counts["OPTIMIZER_STEP rank 0"] == 2
