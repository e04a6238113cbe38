"""Calibrates: runs a plan made for it (:mod:`loadahead.executor.calibration.plan`) and turns the times into costs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from loadahead.executor.backends import Backend, Measured, make_backend
from loadahead.executor.backends.cuda import CudaBackend
from loadahead.executor.calibration.copies import SIZES
from loadahead.executor.calibration.measurements import Measurements, costs_of, measure_emulated
from loadahead.executor.calibration.on_cuda import measure_on_cuda
from loadahead.executor.calibration.plan import calibration_plan
from loadahead.executor.calibration.samples import workspaces
from loadahead.executor.links import Hardware, Links
from loadahead.executor.machine import machine
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
from loadahead.sim.costs import Costs
from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.workload import Workload

# With this many microbatches a unit runs again after all others have run, as in a real step.
MICROBATCHES = 4


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

            def measured(foreseen_steps: int) -> tuple[StepMeter, Measurements, Ints]:
                operations, warm_ups = _warmed_up(plan, workload, spec, backend, hardware, microbatches, foreseen_steps)
                meter = StepMeter(operations, KEPT.nbytes(backend.device))
                with uncompiled() if compiled_layers(operations.session.model.module) else nullcontext():
                    _step(operations, warm_ups, meter)
                found = _measure(operations, hardware, steps, link_sizes or SIZES)
                return meter, found, meter.static + (microbatches - MICROBATCHES) * _data_bytes(operations)

            try:
                meter, measurements, static = measured(0)
            except InputError:
                # A unit may do in a later step what it has not shown yet.
                meter, measurements, static = measured(steps + 2)
        facts = {"machine": machine() | backend.machine(), "deterministic": deterministic}
    finally:
        backend.close()
    costs = costs_of(plan, measurements, workspaces(plan, meter), static.tolist(), f"calibrated on {device}")
    return costs.model_copy(update={"evidence": facts | costs.evidence})


def _warmed_up(
    plan: Plan, workload: Workload, spec: ModelSpec, backend: Backend, hardware: Hardware, microbatches: int, steps: int
) -> tuple[Operations, int]:
    """Return the plan's operations after a step or two, and how many these were.

    Units show in so many ``steps`` what they draw and change at some time; then all begins anew.
    """
    foreseen: dict[str, Foreseen] = {}
    ranks = tuple(range(len(workload.stages)))
    # The optimizer's first step is not like the others.
    warm_ups = max(1, backend.warm_ups)
    while True:
        session = Session(spec, workload, ranks, backend.device, microbatches, foreseen, in_turns=True)
        operations = Operations(plan, session, backend, Links.of(hardware))
        session.watch(True)
        try:
            for step in range(max(warm_ups, steps)):
                _step(operations, step)
        except Unforeseen as error:
            known = foreseen.get(error.unit, Foreseen())
            if (known | error.what) != known:
                foreseen[error.unit] = known | error.what
                continue
        if steps > warm_ups:
            steps = warm_ups
            continue
        session.watch(False)
        return operations, warm_ups


def _step(operations: Operations, number: int, meter: StepMeter | None = None, timed: bool = True) -> Measured:
    batches = operations.session.batches(number, MICROBATCHES)
    with without_garbage_collection():
        return replay(operations, number, batches, meter, timed).measured


def _measure(operations: Operations, hardware: Hardware, steps: int, link_sizes: Sequence[int]) -> Measurements:
    """Measure ``steps`` steps, in more than one way where the device asks for it."""
    backend = operations.backend

    def run(timed: bool) -> list[Measured]:
        return [_step(operations, step, timed=timed) for step in range(1, steps + 1)]

    if isinstance(backend, CudaBackend):
        found = measure_on_cuda(operations, backend, run, link_sizes)
    else:
        found = measure_emulated(operations.plan, run(True), hardware)
    # What a host may give to slots is nothing to be measured.
    return replace(found, host_memory_bytes=hardware.host_memory_bytes)


def _data_bytes(operations: Operations) -> int:
    """Return the device bytes of one microbatch's data during a whole step; 0 where the device is the host."""
    if operations.backend.emulated:
        return 0
    x, target = operations.session.batches(0, 1)[0]
    return storage_bytes([leaf for leaf in tree_leaves((x, target)) if isinstance(leaf, torch.Tensor)])
