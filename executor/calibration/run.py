"""Calibrates: runs a plan made for it (:mod:`loadahead.executor.calibration.plan`) and turns the times into costs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from loadahead.executor.backends import Backend, Measured, make_backend
from loadahead.executor.backends.cuda import CudaBackend
from loadahead.executor.calibration.copies import SIZES
from loadahead.executor.calibration.measurements import Measurements, costs_of, measure_emulated
from loadahead.executor.calibration.on_cuda import measure_on_cuda
from loadahead.executor.calibration.plan import calibration_plan
from loadahead.executor.calibration.samples import Samples, workspaces
from loadahead.executor.links import Hardware, Links
from loadahead.executor.machine import machine
from loadahead.executor.model.in_units import UnitKey
from loadahead.executor.model.spec import ModelSpec
from loadahead.executor.model.unit import Foreseen, Unforeseen
from loadahead.executor.replay.loop import replay
from loadahead.executor.replay.metering import StepMeter
from loadahead.executor.replay.operations import Operations
from loadahead.executor.shipped_models.kept import KEPT
from loadahead.executor.tensors.meter import storage_bytes
from loadahead.executor.tensors.randomness import states_of_threads
from loadahead.executor.torch_settings import (
    compiled_layers,
    on_device,
    single_threaded,
    uncompiled,
    without_garbage_collection,
)
from loadahead.executor.training.session import Session
from loadahead.executor.user_code import importable_from
from loadahead.sim.costs import CheckpointWay, Costs
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.workload import Workload

# With this many microbatches a unit runs again after all others have run, as in a real step.
MICROBATCHES = 4


@dataclass(frozen=True, slots=True)
class _Bound:
    """Holds a calibration's plan bound to a model.

    Attributes:
        ways: how its units can be checkpointed.
    """

    session: Session
    operations: Operations

    @property
    def leanable(self) -> list[UnitKey]:
        """Return the units that can be checkpointed the lean way, and are checkpointed at all."""
        recomputed = {(op.stage, op.unit) for op in self.operations.views if op.kind == Kind.RECOMPUTE}
        return [key for key, unit in self.session.in_units.units.items() if unit.leanable and key in recomputed]

    @property
    def ways(self) -> tuple[CheckpointWay, ...]:
        """Return the ways in which units can be checkpointed."""
        return ("sparing", "lean") if self.leanable else ("sparing",)

    def use(self, way: CheckpointWay) -> None:
        """Checkpoint units this way, as far as they can be."""
        self.session.in_units.use_lean(self.leanable if way == "lean" else ())

    def step(self, number: int, meter: StepMeter | None = None, timed: bool = True) -> Measured:
        """Run one step, and return its times."""
        batches = self.session.batches(number, MICROBATCHES)
        with without_garbage_collection():
            return replay(self.operations, number, batches, meter, timed).measured


def calibrate(
    workload: Workload,
    spec: ModelSpec,
    *,
    hardware: Hardware,
    device: str = "cpu",
    repeats: int = 12,
    checkpoint: bool = True,
    deterministic: bool = True,
    microbatches: int = MICROBATCHES,
    link_sizes: Sequence[int] | None = None,
    **backend_settings: Any,
) -> Costs:
    """Return the measured costs of every unit, of each stage's optimizer step, and of the links.

    ``evidence`` holds the sample counts and the spread, (third - first quartile) / median, of every number, and the
    machine. Raises InputError for a bad argument, or where model, workload and device do not go together.

    Args:
        hardware: the links where they are emulated; real links are measured.
        repeats: timed runs of each operation, at least.
        checkpoint: whether the plans to come recompute; costs of one kind do not fit the other.
        deterministic: measure the deterministic kernels, which runs use whose gradients are checked.
        microbatches: how many the plans to come have, which the data is asked for; a device that is not the host holds
            the data of them all.
        link_sizes: bytes of the copies by which a real link is measured; None: from 4 KiB to 256 MiB.
        backend_settings: keyword arguments of the backend's class.
    """
    if repeats < 1:
        raise InputError(f"repeats is {repeats}; it must be at least 1")
    plan = calibration_plan(workload, MICROBATCHES, checkpoint)
    backend = make_backend(device, **backend_settings)
    try:
        threads = states_of_threads() if plan.ranks > 1 else nullcontext()
        with single_threaded(), on_device(backend.device, deterministic), importable_from(spec.search_path), threads:
            steps = -(-repeats // MICROBATCHES)

            def measured(foreseen_steps: int) -> tuple[dict[CheckpointWay, Samples], Measurements, Ints]:
                bound, warm_ups = _warmed_up(plan, workload, spec, backend, hardware, microbatches, foreseen_steps)
                held, static = _metered(bound, warm_ups)
                found = _measure(bound, hardware, steps, link_sizes or SIZES)
                return held, found, static + (microbatches - MICROBATCHES) * _data_bytes(bound)

            try:
                held, measurements, static = measured(0)
            except (InputError, Unforeseen):
                # A unit may do in a later step what it has not shown yet.
                held, measurements, static = measured(steps + 2)
        facts = {"machine": machine() | backend.machine(), "deterministic": deterministic}
    finally:
        backend.close()
    costs = costs_of(plan, measurements, held, static.tolist(), f"calibrated on {device}")
    return costs.model_copy(update={"evidence": facts | costs.evidence})


def _warmed_up(
    plan: Plan, workload: Workload, spec: ModelSpec, backend: Backend, hardware: Hardware, microbatches: int, steps: int
) -> tuple[_Bound, int]:
    """Return the plan bound to a model after a step or two, and how many these were.

    Units show in so many ``steps`` what they draw and change at some time; then all begins anew.
    """
    foreseen: dict[str, Foreseen] = {}
    ranks = tuple(range(len(workload.stages)))
    # The optimizer's first step is not like the others.
    warm_ups = max(1, backend.warm_ups)
    while True:
        units = [(stage, unit) for stage, own in enumerate(workload.stages) for unit in range(len(own))]
        session = Session(spec, workload, ranks, backend.device, microbatches, foreseen, units, in_turns=True)
        session.in_units.use_lean(())
        bound = _Bound(session, Operations(plan, session.in_units, session, backend, Links.of(hardware)))
        session.in_units.watch(True)
        try:
            for step in range(max(warm_ups, steps)):
                bound.step(step)
        except Unforeseen as error:
            known = foreseen.get(error.unit, Foreseen())
            if (known | error.what) != known:
                foreseen[error.unit] = known | error.what
                continue
        if steps > warm_ups:
            steps = warm_ups
            continue
        session.in_units.watch(False)
        return bound, warm_ups


def _metered(bound: _Bound, step: int) -> tuple[dict[CheckpointWay, Samples], Ints]:
    """Return the workspaces with units checkpointed each way, and the bytes that each rank holds throughout."""
    held: dict[CheckpointWay, Samples] = {}
    with uncompiled() if compiled_layers(bound.session.model.module) else nullcontext():
        for way in bound.ways:
            bound.use(way)
            if (
                way == "lean" and bound.operations.backend.warm_ups
            ):  # what libraries take for kernels that ran for the first time is no workspace
                bound.step(step)
            meter = StepMeter(bound.operations, KEPT.nbytes(bound.operations.backend.device))
            bound.step(step, meter)
            held[way] = workspaces(bound.operations.plan, meter)
    return held, meter.static


def _measure(bound: _Bound, hardware: Hardware, steps: int, link_sizes: Sequence[int]) -> Measurements:
    """Measure ``steps`` steps each way, in more than one manner where the device asks for it."""
    operations, leanable = bound.operations, bound.leanable
    backend = operations.backend

    def run(way: CheckpointWay, timed: bool) -> list[Measured]:
        bound.use(way)
        return [bound.step(step, timed=timed) for step in range(1, steps + 1)]

    if isinstance(backend, CudaBackend):
        runs = {way: partial(run, way) for way in bound.ways}
        found = measure_on_cuda(operations, backend, runs, leanable, link_sizes)
    else:
        # In turns, so that a machine that becomes slower favours neither.
        taken: dict[CheckpointWay, list[Measured]] = {way: [] for way in bound.ways}
        for step in range(1, steps + 1):
            for way, own in taken.items():
                bound.use(way)
                own.append(bound.step(step))
        found = measure_emulated(operations.plan, taken, leanable, hardware)
    # What a host may give to slots is nothing to be measured.
    return replace(found, host_memory_bytes=hardware.host_memory_bytes)


def _data_bytes(bound: _Bound) -> int:
    """Return the device bytes of one microbatch's data during a whole step; 0 where the device is the host."""
    if bound.operations.backend.emulated:
        return 0
    x, target = bound.session.batches(0, 1)[0]
    return storage_bytes([leaf for leaf in tree_leaves((x, target)) if isinstance(leaf, torch.Tensor)])
