"""What every operation of a workload costs on this machine, measured through the same replay loop as a run.

A calibration plan (:mod:`executor.calibration_plan`) is run several times. An operation's cost is the time from the
moment at which the simulator would start it - the end of all it waits for - to its end. So the cost holds all that a
real run adds: waking a thread, taking and freeing memory, a sleep that lasts longer than asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from executor.backends import Measured, make_backend
from executor.calibration_plan import calibration_plan
from executor.links import CONFIGURED, Hardware, Links
from executor.machine import machine
from executor.metering import StepMeter
from executor.operations import Operations
from executor.replay import replay
from executor.session import Session
from executor.spec import ModelSpec
from executor.surroundings import single_threaded, without_garbage_collection
from sim.costs import Costs, UnitCost, transfer_ns
from sim.errors import InputError
from sim.ir.kinds import RECV_KINDS, SEND_KINDS, Kind
from sim.ir.plan import Plan
from sim.memory import walk_bytes
from sim.workload import Workload

# Enough microbatches for a unit to follow itself after all others, as in a real step.
MICROBATCHES = 4
# The simulator gives these no time of their own: what they take is part of what follows.
FREE_KINDS = frozenset({Kind.RELEASE, Kind.ACQUIRE, *RECV_KINDS})

Key = tuple[int, int, int, Kind]  # rank, stage, unit, kind; stage and unit are -1 for what is the rank's
Samples = Mapping[Key, Sequence[int]]


def calibrate(
    workload: Workload,
    spec: ModelSpec,
    *,
    hardware: Hardware,
    device: str = "cpu",
    stage_rank: Sequence[int] | None = None,
    repeats: int = 12,
    checkpoint: bool = True,
) -> Costs:
    """Costs of the workload's units, per (stage, unit), and of each rank's optimizer step.

    ``evidence`` holds sample counts and spread ((third - first quartile) / median) of every figure, and the machine.

    Args:
        stage_rank: the rank that runs each stage; None: stage s on rank s.
        repeats: timed runs of each operation, at least.
        checkpoint: whether the plans to come recompute; costs of one kind do not fit the other.
    """
    if repeats < 1:
        raise InputError(f"repeats is {repeats}; it must be at least 1")
    ranks = tuple(range(len(workload.stages)) if stage_rank is None else stage_rank)
    plan = calibration_plan(workload, ranks, MICROBATCHES, checkpoint)
    backend = make_backend(device)
    try:
        with single_threaded():
            session = Session(spec, workload, ranks, device)
            operations = Operations(plan, session, backend, Links.of(hardware))
            meter = StepMeter(operations)
            replay(operations, 0, session.batches(0, MICROBATCHES), meter)
            runs = _timed(operations, -(-repeats // MICROBATCHES))
    finally:
        backend.close()
    return _costs(plan, ranks, hardware, _times(plan, runs), meter, device)


def _timed(operations: Operations, steps: int) -> list[Measured]:
    runs = []
    for step in range(1, steps + 1):
        batches = operations.session.batches(step, MICROBATCHES)
        with without_garbage_collection():
            runs.append(replay(operations, step, batches).measured)
    return runs


def _times(plan: Plan, runs: Sequence[Measured]) -> dict[Key, list[int]]:
    """Every operation's costs in ns, one per run and microbatch, as the simulator has to charge them.

    Transfers are without the time that their bytes take at the link's bandwidth: see :func:`_latency`.
    """
    out: dict[Key, list[int]] = defaultdict(list)
    before = plan.previous_in_queue.tolist()
    for run in runs:
        measured = run.end_ns.tolist()
        end = [0] * len(plan)
        for op in plan:
            waits_for = [end[edge] for edge in op.after]
            if before[op.index] >= 0:
                waits_for.append(end[before[op.index]])
            ready = max(waits_for, default=0)
            if op.kind in FREE_KINDS:
                end[op.index] = ready
                continue
            end[op.index] = measured[op.index]
            out[op.rank, op.stage, op.unit, op.kind].append(max(0, measured[op.index] - ready))
    return out


def _workspaces(plan: Plan, meter: StepMeter) -> dict[Key, list[int]]:
    """What each operation held beyond the plan's buffers, in bytes, one entry per microbatch."""
    held = meter.result().during - walk_bytes(plan, np.zeros(len(plan), dtype=np.int64), meter.static).during
    out: dict[Key, list[int]] = defaultdict(list)
    for op in plan:
        out[op.rank, op.stage, op.unit, op.kind].append(int(held[op.index]))
    return out


def _latency(
    plan: Plan, times: Samples, kinds: Sequence[Kind], bandwidth: int | None, configured: int
) -> tuple[int, dict[str, Any]]:
    """What a transfer takes beyond its bytes at the bandwidth, and the evidence; as configured without transfers."""
    nbytes = {(op.rank, op.stage, op.unit, op.kind): op.nbytes for op in plan if op.kind in kinds}
    rest: list[int] = []
    for key, size in nbytes.items():
        moving = 0 if bandwidth is None else int(transfer_ns(np.asarray([size]), bandwidth)[0])
        rest += [max(0, time - moving) for time in times[key]]
    if not rest:
        return configured, {"count": 0, "configured_ns": configured}
    return int(np.median(rest)), _evidence(rest) | {"configured_ns": configured}


def _evidence(samples: Sequence[int]) -> dict[str, Any]:
    median, (low, high) = int(np.median(samples)), np.percentile(samples, (25, 75))
    return {"count": len(samples), "median_ns": median, "spread": round(float((high - low) / max(median, 1)), 4)}


def _costs(
    plan: Plan, ranks: tuple[int, ...], hardware: Hardware, times: Samples, meter: StepMeter, device: str
) -> Costs:
    held = _workspaces(plan, meter)
    units: dict[int, list[UnitCost]] = defaultdict(list)
    for stage, unit in sorted({(op.stage, op.unit) for op in plan if op.kind == Kind.FORWARD}):
        units[stage].append(_unit(ranks[stage], stage, unit, times, held))
    steps = [(rank, -1, -1, Kind.OPTIMIZER_STEP) for rank in range(plan.ranks)]
    d2h, d2h_evidence = _latency(plan, times, (Kind.OFFLOAD,), hardware.d2h_bandwidth, hardware.d2h_latency_ns)
    h2d, h2d_evidence = _latency(plan, times, (Kind.PREFETCH,), hardware.h2d_bandwidth, hardware.h2d_latency_ns)
    p2p, p2p_evidence = _latency(plan, times, tuple(SEND_KINDS), hardware.p2p_bandwidth, hardware.p2p_latency_ns)
    return Costs(
        units=tuple(tuple(units[stage]) for stage in sorted(units)),
        static_bytes=tuple(meter.static.tolist()),
        optimizer_ns=tuple(int(np.median(times[step])) for step in steps),
        optimizer_workspace=tuple(max(0, *held[step], 0) for step in steps),
        d2h_latency_ns=d2h,
        h2d_latency_ns=h2d,
        p2p_latency_ns=p2p,
        d2h_bandwidth=hardware.d2h_bandwidth,
        h2d_bandwidth=hardware.h2d_bandwidth,
        p2p_bandwidth=hardware.p2p_bandwidth,
        memory_bytes=hardware.memory_bytes,
        source=f"calibrated on {device}",
        evidence={
            CONFIGURED: hardware.to_dict(),
            "machine": machine(),
            "operations": {_name(key): _evidence(values) for key, values in times.items() if key[3] in _NAMED},
            "latencies": {"d2h": d2h_evidence, "h2d": h2d_evidence, "p2p": p2p_evidence},
            "workspace_differs": {_name(key): values for key, values in held.items() if len(set(values)) > 1},
        },
    )


_NAMED = frozenset({Kind.FORWARD, Kind.RECOMPUTE, Kind.BACKWARD, Kind.OPTIMIZER_STEP})


def _name(key: Key) -> str:
    rank, stage, unit, kind = key
    return f"{kind.name} rank {rank}" if stage < 0 else f"{kind.name} {stage}.{unit}"


def _unit(rank: int, stage: int, unit: int, times: Samples, held: Samples) -> UnitCost:
    def at(source: Samples, kind: Kind) -> Sequence[int]:
        return source.get((rank, stage, unit, kind), (0,))

    return UnitCost(
        forward_ns=int(np.median(at(times, Kind.FORWARD))),
        recompute_ns=int(np.median(at(times, Kind.RECOMPUTE))),
        backward_ns=int(np.median(at(times, Kind.BACKWARD))),
        workspace_forward=max(0, *at(held, Kind.FORWARD)),
        workspace_recompute=max(0, *at(held, Kind.RECOMPUTE)),
        workspace_backward=max(0, *at(held, Kind.BACKWARD)),
    )
