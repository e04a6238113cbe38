"""A plan run on real tensors for several optimizer steps: what it took, and whether it trained as it should."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from executor.backends import Backend, Measured, make_backend
from executor.fitting import stage_ranks
from executor.links import Hardware, Links
from executor.machine import machine
from executor.metering import StepMeter
from executor.operations import Operations
from executor.oracle import PlainTraining, backward_order
from executor.replay import replay
from executor.session import Session
from executor.spec import ModelSpec
from executor.surroundings import single_threaded, without_garbage_collection
from sim.costs import Costs
from sim.errors import InputError
from sim.ir.kinds import Kind
from sim.ir.plan import Plan
from sim.memory import MemoryWalk, samples
from sim.metrics import step_metrics
from sim.timeline import MemorySamples, Timeline
from sim.units import format_bytes, format_duration
from sim.verify import check
from sim.verify.rules import well_formed
from sim.workload import Workload

# The first step is for warming up and for the meter, which slows it down.
FEWEST_STEPS = 2
# Timed steps further apart than this are no ground for a comparison within 10 %.
UNSTABLE = 0.2

OnStep = Callable[[int, float], None]  # (step, loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """What a run measured.

    Attributes:
        timeline: the step of median time, with the memory that the metered step held.
        losses: one per step, the mean over its microbatches.
        max_grad_error: largest difference of any gradient in any step from plain training's; None if not checked.
        step_times_ns: of the timed steps, in order.
    """

    timeline: Timeline
    losses: list[float]
    max_grad_error: float | None
    machine: dict[str, Any]
    step_times_ns: list[int]
    warnings: list[str]


@dataclass(slots=True)
class _Log:
    """What the steps leave behind."""

    losses: list[float] = field(default_factory=list)
    timed: list[Measured] = field(default_factory=list)
    memory: MemoryWalk | None = None
    error: float | None = None


def execute(
    plan: Plan,
    workload: Workload,
    spec: ModelSpec,
    *,
    costs: Costs,
    steps: int = 6,
    device: str = "cpu",
    delays_seed: int | None = None,
    poison: bool = False,
    check_gradients: bool = True,
    verify: bool = True,
    on_step: OnStep | None = None,
) -> ExecutionResult:
    """Train for ``steps`` optimizer steps as the plan says. The first is not timed: it warms up and is metered.

    Args:
        workload: says which layers each unit holds.
        costs: the links' bandwidths and latencies, and the device's capacity; nothing else of them is used.
        delays_seed: put random delays before all operations; times then mean nothing.
        poison: fill memory with NaN when it is taken, freed or emptied.
        check_gradients: train a copy plainly, and compare every gradient of every step with it.
        verify: prove the plan first; only a test of what an unproven plan does switches this off.

    Raises InputError where plan, model and device do not go together, and CheckFailed for a plan with a race. A failed
    step leaves nothing running.
    """
    if steps < FEWEST_STEPS:
        raise InputError(f"steps is {steps}; at least {FEWEST_STEPS} are needed, as the first is not timed")
    for violation in [] if verify else well_formed(plan):
        raise InputError(f"plan {plan.name!r} is malformed: {violation.rule}: {violation.message}")
    if verify:
        check(plan)
    backend = make_backend(device, delays=delays_seed, poisoned=poison)
    try:
        with single_threaded():
            session = Session(spec, workload, stage_ranks(plan, workload), device)
            oracle = PlainTraining(session, backward_order(plan)) if check_gradients else None
            operations = Operations(plan, session, backend, Links.of(Hardware.of(costs)))
            log = _train(operations, oracle, steps, on_step)
    finally:
        backend.close()
    return _result(plan, costs, backend, log)


def _train(operations: Operations, oracle: PlainTraining | None, steps: int, on_step: OnStep | None) -> _Log:
    log = _Log()
    for step in range(steps):
        batches = operations.session.batches(step, operations.plan.microbatches)
        meter = StepMeter(operations) if step == 0 else None
        with without_garbage_collection():
            run = replay(operations, step, batches, meter)
        if meter is None:
            log.timed.append(run.measured)
        else:
            log.memory = meter.result()
        if not math.isfinite(run.loss):
            rate = operations.session.spec.learning_rate
            raise InputError(f"the loss of step {step} is {run.loss}; use a model.learning_rate below {rate}")
        if oracle is not None:
            oracle.train(step, batches)
            log.error = max(log.error or 0.0, oracle.max_error(step))
        log.losses.append(run.loss)
        if on_step is not None:
            on_step(step, run.loss)
    return log


def _result(plan: Plan, costs: Costs, backend: Backend, log: _Log) -> ExecutionResult:
    assert log.memory is not None
    times = [measured.step_time_ns for measured in log.timed]
    median = log.timed[int(np.argsort(times, kind="stable")[(len(times) - 1) // 2])]
    start, end = median.start_ns - median.start_ns.min(), median.end_ns - median.start_ns.min()
    levels = samples(plan, log.memory.during, log.memory.after, start, end)
    warnings = _doubts(plan, times, log.memory, costs)
    found = machine()
    header = {
        "summary": _summary(plan, backend.name, start, end, levels, log.memory),
        "capacity_bytes": costs.memory_bytes,
        "machine": found,
        "step_times_ns": times,
        "timed_steps": f"{len(times)} of {len(log.losses)} steps were timed, the median is shown; the first warmed up "
        "and was metered for memory. Issuing a step and zeroing gradients is outside the clock.",
        "link": f"{backend.link_note} Here: {Links.of(Hardware.of(costs))}.",
        "warnings": warnings,
    }
    timeline = Timeline.of_plan(plan, backend.name, start, end, levels, **header)
    return ExecutionResult(
        timeline=timeline, losses=log.losses, max_grad_error=log.error, machine=found, step_times_ns=times,
        warnings=warnings,
    )  # fmt: skip


def _summary(
    plan: Plan, source: str, start: Any, end: Any, levels: MemorySamples, memory: MemoryWalk
) -> dict[str, Any]:
    """The keys of ``simulate --json``'s summary, measured."""
    offloaded = int((plan.ops.kind == Kind.OFFLOAD).sum())
    counts = {"offloaded": offloaded, "kept": int((plan.ops.kind == Kind.FORWARD).sum()) - offloaded}
    bare = Timeline.of_plan(plan, source, start, end, levels)
    return step_metrics(plan, bare, memory).to_dict() | counts


def _doubts(plan: Plan, times: list[int], memory: MemoryWalk, costs: Costs) -> list[str]:
    out = []
    median = float(np.median(times))
    if max(times) - min(times) > UNSTABLE * median:
        out.append(
            f"the {len(times)} timed steps took {format_duration(min(times))} to {format_duration(max(times))}: the "
            "machine was busy or unsteady, times may not be repeatable; run more steps on an idle machine"
        )
    cores = os.cpu_count() or 1
    if plan.ranks > cores:
        out.append(
            f"the plan's {plan.ranks} ranks ran as threads on {cores} cores and slowed each other down: its times are "
            "longer than those of as many devices; compare memory and gradients, not times"
        )
    elif plan.ranks > 1:
        out.append(
            f"the plan's {plan.ranks} ranks ran as threads of one process, which share its interpreter and its memory "
            "bandwidth, and each was calibrated alone: measured times may be longer than predicted"
        )
    for rank, peak in enumerate(memory.peak_device.tolist()):
        if peak > costs.memory_bytes:
            out.append(
                f"rank {rank} held {format_bytes(peak)}, more than the device's {format_bytes(costs.memory_bytes)}: on "
                "a real device this plan runs out of memory"
            )
    return out
