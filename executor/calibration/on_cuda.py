"""Measures costs on CUDA: the device's time, the host's launch time, and the link, each where it shows by itself.

The device's time for an operation shows only while the host is ahead of it; the host's time shows only while no queue
is full. So a calibration plan is run in several ways: as a run would, with and without times of operations; with the
host waiting after each operation; and with each operation held back on its stream until the host has launched it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
import torch

from loadahead.executor.backends import Measured
from loadahead.executor.backends.cuda import CudaBackend
from loadahead.executor.calibration.copies import DIRECTIONS, LinkBench, Load, duplex
from loadahead.executor.calibration.measurements import Direction, Measurements, latency
from loadahead.executor.calibration.samples import (
    FREE_KINDS,
    Key,
    Samples,
    launch_times,
    ready_to_end,
    start_to_end,
    statistics_of,
)
from loadahead.executor.calibration.ways import UnitKey, WaySamples, chosen, lean_units
from loadahead.executor.model.in_units import ModelInUnits
from loadahead.executor.replay.operations import Operations
from loadahead.executor.tensors.values import Value
from loadahead.sim.costs import CheckpointWay, SharedLinks
from loadahead.sim.ir.kinds import COPY_KINDS, Kind, KindName, Queue
from loadahead.sim.ir.plan import Plan

# The host stays ahead of an operation that takes longer than this many times its launch.
AHEAD = 2.0
# A step that takes no longer than this many times its launches waited for the host throughout.
HOST_BOUND = 1.02
# The stream is held for this much longer than the longest launch that was seen, so that the host is surely ahead.
MARGIN_NS = 20_000
# Copies are measured beside a load of this many FORWARDs of the largest unit.
LOAD_REPEATS = 4

Run = Callable[[bool], list[Measured]]  # the argument says whether each operation is timed by itself


def measure_on_cuda(
    operations: Operations,
    backend: CudaBackend,
    runs: Mapping[CheckpointWay, Run],
    leanable: Collection[UnitKey],
    link_sizes: Sequence[int],
) -> Measurements:
    """Return all measurements; ``runs`` run the calibration's steps with units checkpointed one way or the other."""
    plan = operations.plan
    backend.try_spin()
    found: dict[CheckpointWay, WaySamples] = {}
    held: dict[CheckpointWay, Samples] = {}
    for way, run in runs.items():
        found[way], held[way] = _tasks(plan, backend, run)
    lean = lean_units(found, leanable)
    ways: dict[CheckpointWay, Samples] = {way: samples.times for way, samples in found.items()}
    launches = chosen({way: samples.launches for way, samples in found.items()}, lean)
    operations.model.use_lean(lean)
    bandwidth, shared, links = _links(operations.model, backend, chosen(ways, lean), link_sizes)
    directions, latencies = {}, {}
    for queue, kind in ((Queue.D2H, Kind.OFFLOAD), (Queue.H2D, Kind.PREFETCH)):
        pinned_latency_ns = links[queue.label]["pinned"]["latency_ns"]
        ns, latencies[queue.label] = latency(plan, chosen(held, lean), (kind,), bandwidth[queue], pinned_latency_ns)
        directions[queue] = Direction(bandwidth=bandwidth[queue], latency_ns=ns)
    return Measurements(
        ways=ways,
        leanable=frozenset(leanable),
        lean=lean,
        d2h=directions[Queue.D2H],
        h2d=directions[Queue.H2D],
        memory_bytes=backend.driver.memory_bytes(),
        launch_by_kind=_by_kind(launches),
        shared=shared,
        evidence={"links": links, "latencies": latencies, "issue": _launch_evidence(launches)},
    )


def _tasks(plan: Plan, backend: CudaBackend, run: Run) -> tuple[WaySamples, Samples]:
    """Return the device's and the host's times of all operations, and their times in steps that were held back."""
    usual = run(True)
    backend.paced = True
    launches = launch_times(plan, run(False))
    backend.paced = False
    bare = run(False)
    if _host_bound(bare):
        launches = launch_times(plan, bare)
    backend.held_ns = [2 * max(launches[op.rank, op.stage, op.unit, op.kind]) + MARGIN_NS for op in plan]
    held = start_to_end(plan, run(True))
    backend.held_ns = ()
    return WaySamples(_device_times(ready_to_end(plan, usual), held, launches), launches), held


def _host_bound(runs: Sequence[Measured]) -> bool:
    """Return whether the device was done as soon as the host: such a run shows the launch times best."""
    return all(run.issue_ns is not None and run.step_time_ns <= HOST_BOUND * int(run.issue_ns.sum()) for run in runs)


def _device_times(usual: Samples, held: Samples, launches: Samples) -> dict[Key, Sequence[int]]:
    """Return times from a usual run where the host is ahead of the device in it, else those of a held run."""
    out: dict[Key, Sequence[int]] = {}
    for key, times in usual.items():
        if key[3] in FREE_KINDS or key[3] in COPY_KINDS:
            continue
        ahead = float(np.median(times)) > AHEAD * float(np.median(launches[key]))
        out[key] = times if ahead else held[key]
    return out


def _by_kind(launches: Samples) -> dict[KindName, int]:
    """Return the mean launch time of each kind over its operations' medians, so that a step's sum is right."""
    medians: dict[Kind, list[float]] = defaultdict(list)
    for key, samples in launches.items():
        medians[key[3]].append(float(np.median(samples)))
    names = {kind.name: kind for kind in medians}
    return {name: round(float(np.mean(medians[names[name]]))) for name in get_args(KindName) if name in names}


def _launch_evidence(launches: Samples) -> dict[str, Any]:
    samples: dict[Kind, list[int]] = defaultdict(list)
    for key, values in launches.items():
        samples[key[3]] += values
    return {kind.name: statistics_of(values) for kind, values in sorted(samples.items())}


def _links(
    model: ModelInUnits, backend: CudaBackend, times: Samples, sizes: Sequence[int]
) -> tuple[dict[Queue, int], SharedLinks | None, dict[str, Any]]:
    """Return bytes/s beside compute by direction, what both directions share, and the evidence."""
    bench = LinkBench(backend.driver, sizes)
    try:
        return _measured_links(bench, _load(model, backend, times))
    finally:
        bench.close()


def _measured_links(bench: LinkBench, load: Load | None) -> tuple[dict[Queue, int], SharedLinks | None, dict[str, Any]]:
    alone, measured = {}, {}
    for queue in DIRECTIONS:
        kinds = {}
        for pinned in (True, False) if bench.pinned else (False,):
            fitted, points = bench.alone(queue, pinned=pinned)
            kinds["pinned" if pinned else "pageable"] = asdict(fitted) | {"points": points}
        if not bench.pinned:
            kinds["pinned"] = kinds["pageable"] | {"note": "host memory could not be pinned"}
        alone[queue] = kinds["pinned"]["bandwidth"]
        measured[queue.label] = kinds
    kept = bench.both()
    for queue in DIRECTIONS:
        measured[queue.label]["both_at_once"] = {"keeps": round(kept[queue], 4)}
    bandwidth = dict(alone)
    if load is not None:
        alone_ns = bench.load_alone(load)
        for queue in DIRECTIONS:
            keeps, compute_keeps = bench.beside(queue, load, alone_ns)
            measured[queue.label]["while_computing"] = {
                "keeps": round(keeps, 4),
                "compute_keeps": round(compute_keeps, 4),
            }
            bandwidth[queue] = round(alone[queue] * min(1.0, keeps))
    return bandwidth, duplex(alone, kept), measured


def _load(model: ModelInUnits, backend: CudaBackend, times: Samples) -> Load | None:
    """Return a load of FORWARDs of the slowest unit; None where no unit but the last reads floating-point numbers."""
    candidates = [
        key
        for key, form in model.forms.items()
        if key not in (model.last, *model.frozen) and form.single and form.layouts[0].dtype.is_floating_point
    ]
    if not candidates:
        return None
    largest = max(candidates, key=lambda key: float(np.median(times[model.stage_rank[key[0]], *key, Kind.FORWARD])))
    unit, layout = model.units[largest], model.forms[largest].layouts[0]
    with torch.no_grad(), backend.driver.using(backend.driver.stream(Queue.COMPUTE)):
        x = Value((layout.empty(backend.device).normal_(),))

    def load() -> None:
        for _ in range(LOAD_REPEATS):
            unit.forward(0, x, 0, None)

    return load
