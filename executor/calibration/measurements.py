"""Holds what a calibration measures on a device, and makes the simulator's costs of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loadahead.executor.backends import Measured
from loadahead.executor.calibration.samples import Key, Samples, key_name, ready_to_end, statistics_of
from loadahead.executor.calibration.ways import UnitKey, WaySamples, chosen, lean_units
from loadahead.executor.links import Hardware
from loadahead.sim.costs import CONFIGURED, CheckpointWay, Costs, OtherWay, SharedLinks, UnitCost, transfer_ns
from loadahead.sim.ir.kinds import SEND_KINDS, TASK_KINDS, Kind, KindName
from loadahead.sim.ir.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """Describes one direction of the link to the host as the simulator charges it: bytes/s, and ns per transfer."""

    bandwidth: int
    latency_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """Holds the times of operations and links that a calibration measured.

    Attributes:
        ways: samples in ns of every task, with units checkpointed one way and, where that was tried, the other.
        leanable: the units that were measured both ways.
        lean: those of them that are quicker the lean way.
        launch_by_kind: host time in ns to launch an operation, by kind's name; empty where launches are off the clock.
        shared: what copies of both directions share; None where they share nothing, or it is not known.
        evidence: counts and spread of all these samples.
    """

    ways: Mapping[CheckpointWay, Samples]
    d2h: Direction
    h2d: Direction
    memory_bytes: int
    leanable: frozenset[UnitKey] = frozenset()
    lean: frozenset[UnitKey] = frozenset()
    host_memory_bytes: int | None = None
    p2p_latency_ns: int = 0
    p2p_bandwidth: int | None = None
    launch_by_kind: dict[KindName, int] = field(default_factory=dict)
    shared: SharedLinks | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def times(self) -> dict[Key, list[int]]:
        """Return the samples of every task as its unit is to be checkpointed."""
        return chosen(self.ways, self.lean)


def latency(
    plan: Plan, times: Samples, kinds: Sequence[Kind], bandwidth: int | None, configured: int
) -> tuple[int, dict[str, Any]]:
    """Return the median time in ns that a transfer takes beyond its bytes at the bandwidth, and the evidence for it.

    Without transfers of these kinds the configured latency comes back.
    """
    nbytes = {(op.rank, op.stage, op.unit, op.kind): op.nbytes for op in plan if op.kind in kinds}
    beyond: list[int] = []
    for key, size in nbytes.items():
        moving = 0 if bandwidth is None else int(transfer_ns(np.asarray([size]), bandwidth)[0])
        beyond += [max(0, time - moving) for time in times[key]]
    if not beyond:
        return configured, {"count": 0, "configured_ns": configured}
    return int(np.median(beyond)), statistics_of(beyond) | {"configured_ns": configured}


def measure_emulated(
    plan: Plan, runs: Mapping[CheckpointWay, Sequence[Measured]], leanable: Collection[UnitKey], hardware: Hardware
) -> Measurements:
    """Return the measurements of a device whose links are emulated at the given bandwidths.

    An operation's time runs from the end of all it waits for to its own end. A link's latency is what its transfers
    take beyond the time that their bytes need. The host has launched a step before its clock starts, so there are no
    launch times.
    """
    ways: dict[CheckpointWay, Samples] = {way: ready_to_end(plan, own) for way, own in runs.items()}
    lean = lean_units({way: WaySamples(samples) for way, samples in ways.items()}, leanable)
    times = chosen(ways, lean)
    d2h, d2h_evidence = latency(plan, times, (Kind.OFFLOAD,), hardware.d2h_bandwidth, hardware.d2h_latency_ns)
    h2d, h2d_evidence = latency(plan, times, (Kind.PREFETCH,), hardware.h2d_bandwidth, hardware.h2d_latency_ns)
    p2p, p2p_evidence = latency(plan, times, tuple(SEND_KINDS), hardware.p2p_bandwidth, hardware.p2p_latency_ns)
    return Measurements(
        ways=ways,
        leanable=frozenset(leanable),
        lean=lean,
        d2h=Direction(bandwidth=hardware.d2h_bandwidth, latency_ns=d2h),
        h2d=Direction(bandwidth=hardware.h2d_bandwidth, latency_ns=h2d),
        p2p_latency_ns=p2p,
        p2p_bandwidth=hardware.p2p_bandwidth,
        memory_bytes=hardware.memory_bytes,
        evidence={
            CONFIGURED: hardware.to_dict(),
            "latencies": {"d2h": d2h_evidence, "h2d": h2d_evidence, "p2p": p2p_evidence},
        },
    )


def costs_of(
    plan: Plan,
    measurements: Measurements,
    held: Mapping[CheckpointWay, Samples],
    static: Sequence[int],
    source: str,
) -> Costs:
    """Return the costs: medians of the times, maxima of the workspaces ``held`` each way, and the evidence for both.

    The plan is a calibration's, in which each stage is a rank of its own; ``static`` holds the bytes of each.
    """
    units: dict[int, list[UnitCost]] = defaultdict(list)
    times, workspace = measurements.times, chosen(held, measurements.lean)
    for stage, unit in sorted({(op.stage, op.unit) for op in plan if op.kind == Kind.FORWARD}):
        units[stage].append(_unit(stage, unit, measurements, held))
    steps = [(stage, -1, -1, Kind.OPTIMIZER_STEP) for stage in sorted(units)]
    return Costs(
        units=tuple(tuple(units[stage]) for stage in sorted(units)),
        static_bytes=tuple(static),
        optimizer_ns=tuple(int(np.median(times[step])) for step in steps),
        optimizer_workspace=tuple(max(0, *workspace[step], 0) for step in steps),
        d2h_latency_ns=measurements.d2h.latency_ns,
        h2d_latency_ns=measurements.h2d.latency_ns,
        p2p_latency_ns=measurements.p2p_latency_ns,
        d2h_bandwidth=measurements.d2h.bandwidth,
        h2d_bandwidth=measurements.h2d.bandwidth,
        p2p_bandwidth=measurements.p2p_bandwidth,
        launch_by_kind=measurements.launch_by_kind,
        memory_bytes=measurements.memory_bytes,
        host_memory_bytes=measurements.host_memory_bytes,
        shared=measurements.shared,
        source=source,
        evidence=measurements.evidence
        | {
            "operations": {key_name(key): statistics_of(times[key]) for key in times if key[3] in TASK_KINDS},
            "workspace_differs": {key_name(key): values for key, values in workspace.items() if len(set(values)) > 1},
        },
    )


def _unit(stage: int, unit: int, measurements: Measurements, held: Mapping[CheckpointWay, Samples]) -> UnitCost:
    """Return a unit's cost as it is to be checkpointed, with what the other way costs where that was measured."""
    ways: tuple[CheckpointWay, CheckpointWay] = ("sparing", "lean")
    way, other = reversed(ways) if (stage, unit) in measurements.lean else ways
    cost = _amounts(stage, unit, measurements.ways[way], held[way])
    found = measurements.ways.get(other)
    if found is None or (stage, unit) not in measurements.leanable:
        return UnitCost.model_validate({**cost, "way": way})
    return UnitCost.model_validate(
        {**cost, "way": way, "other_way": OtherWay(**_amounts(stage, unit, found, held[other]))}
    )


def _amounts(stage: int, unit: int, times: Samples, held: Samples) -> dict[str, int]:
    """Return the durations in ns and the workspaces in bytes, by the names of a cost's fields."""

    def at(source: Samples, kind: Kind) -> Sequence[int]:
        key: Key = (stage, stage, unit, kind)
        return source.get(key, (0,))

    return {
        "forward_ns": int(np.median(at(times, Kind.FORWARD))),
        "recompute_ns": int(np.median(at(times, Kind.RECOMPUTE))),
        "backward_ns": int(np.median(at(times, Kind.BACKWARD))),
        "workspace_forward": max(0, *at(held, Kind.FORWARD)),
        "workspace_recompute": max(0, *at(held, Kind.RECOMPUTE)),
        "workspace_backward": max(0, *at(held, Kind.BACKWARD)),
    }
