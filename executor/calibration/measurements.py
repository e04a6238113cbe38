"""What a calibration has found, by whatever way the device allows; and the costs it makes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loadahead.executor.calibration.samples import Key, Samples, evidence, name_of
from loadahead.sim.costs import Costs, SharedLinks, UnitCost, transfer_ns
from loadahead.sim.ir.kinds import TASK_KINDS, Kind, KindName
from loadahead.sim.ir.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction of the link to the host as the simulator charges it: bytes/s, and ns per transfer."""

    bandwidth: int
    latency_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Times of operations and links.

    Attributes:
        times: samples in ns of every task.
        launch_by_kind: host time in ns to issue an operation, by the kind's name; empty where issuing is off the clock.
        shared: what copies of both directions share; None: nothing, or not known.
        evidence: counts and spread of all this.
    """

    times: Samples
    d2h: Direction
    h2d: Direction
    memory_bytes: int
    p2p_latency_ns: int = 0
    p2p_bandwidth: int | None = None
    launch_by_kind: dict[KindName, int] = field(default_factory=dict)
    shared: SharedLinks | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


def latency(
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
    return int(np.median(rest)), evidence(rest) | {"configured_ns": configured}


def costs_of(
    plan: Plan, stage_rank: tuple[int, ...], found: Found, held: Samples, static: Sequence[int], source: str
) -> Costs:
    """Medians of the times, maxima of the workspaces ``held``, and the evidence for both."""
    units: dict[int, list[UnitCost]] = defaultdict(list)
    for stage, unit in sorted({(op.stage, op.unit) for op in plan if op.kind == Kind.FORWARD}):
        units[stage].append(_unit(stage_rank[stage], stage, unit, found.times, held))
    steps = [(rank, -1, -1, Kind.OPTIMIZER_STEP) for rank in range(plan.ranks)]
    return Costs(
        units=tuple(tuple(units[stage]) for stage in sorted(units)),
        static_bytes=tuple(static),
        optimizer_ns=tuple(int(np.median(found.times[step])) for step in steps),
        optimizer_workspace=tuple(max(0, *held[step], 0) for step in steps),
        d2h_latency_ns=found.d2h.latency_ns,
        h2d_latency_ns=found.h2d.latency_ns,
        p2p_latency_ns=found.p2p_latency_ns,
        d2h_bandwidth=found.d2h.bandwidth,
        h2d_bandwidth=found.h2d.bandwidth,
        p2p_bandwidth=found.p2p_bandwidth,
        launch_by_kind=found.launch_by_kind,
        memory_bytes=found.memory_bytes,
        shared=found.shared,
        source=source,
        evidence=found.evidence
        | {
            "operations": {name_of(key): evidence(found.times[key]) for key in found.times if key[3] in TASK_KINDS},
            "workspace_differs": {name_of(key): values for key, values in held.items() if len(set(values)) > 1},
        },
    )


def _unit(rank: int, stage: int, unit: int, times: Samples, held: Samples) -> UnitCost:
    def at(source: Samples, kind: Kind) -> Sequence[int]:
        key: Key = (rank, stage, unit, kind)
        return source.get(key, (0,))

    return UnitCost(
        forward_ns=int(np.median(at(times, Kind.FORWARD))),
        recompute_ns=int(np.median(at(times, Kind.RECOMPUTE))),
        backward_ns=int(np.median(at(times, Kind.BACKWARD))),
        workspace_forward=max(0, *at(held, Kind.FORWARD)),
        workspace_recompute=max(0, *at(held, Kind.RECOMPUTE)),
        workspace_backward=max(0, *at(held, Kind.BACKWARD)),
    )
