"""Makes the result of a run of several steps: the step of median time as a timeline, its memory, and warnings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loadahead.executor.backends import Backend, Measured
from loadahead.executor.links import Hardware, Links
from loadahead.executor.machine import machine
from loadahead.executor.plan_match import unheld_workspaces
from loadahead.sim.costs import Costs
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.memory import MemoryWalk, samples
from loadahead.sim.metrics import step_metrics
from loadahead.sim.timeline import MemorySamples, Timeline
from loadahead.sim.units import counted, format_bytes, format_duration

# Timed steps that differ by more than this share of their median cannot support a comparison within 10 %.
UNSTABLE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """Holds what a run measured.

    Attributes:
        timeline: the step of median time, with the memory that the metered step held.
        losses: one per step, the mean over its microbatches.
        max_grad_error: largest difference of any gradient in any step from plain training's; None if not checked.
        machine: the machine and the device, for evidence.
        step_times_ns: of the timed steps, in order.
        bare_step_times_ns: of steps whose operations were not timed one by one; empty where timing them costs nothing.
        warnings: what makes these numbers less reliable, a sentence each.
    """

    timeline: Timeline
    losses: list[float]
    max_grad_error: float | None
    machine: dict[str, Any]
    step_times_ns: list[int]
    bare_step_times_ns: list[int]
    warnings: list[str]


@dataclass(slots=True)
class StepRecords:
    """Collects what the steps of a run leave behind.

    Attributes:
        timed, bare: times of steps whose operations were timed one by one, and of steps timed as a whole.
        error: largest difference of a gradient from plain training's so far; None where it is not checked.
    """

    losses: list[float] = field(default_factory=list)
    timed: list[Measured] = field(default_factory=list)
    bare: list[Measured] = field(default_factory=list)
    memory: MemoryWalk | None = None
    allocator: dict[str, Any] = field(default_factory=dict)
    error: float | None = None


def result_of(plan: Plan, costs: Costs, backend: Backend, records: StepRecords) -> ExecutionResult:
    """Return the result that these records make."""
    assert records.memory is not None
    times = [measured.step_time_ns for measured in records.timed]
    median = records.timed[int(np.argsort(times, kind="stable")[(len(times) - 1) // 2])]
    start, end = median.start_ns - median.start_ns.min(), median.end_ns - median.start_ns.min()
    levels = samples(plan, records.memory.during, records.memory.after, start, end)
    bare = [measured.step_time_ns for measured in records.bare]
    warnings = [*backend.warnings, *_warnings_of(plan, bare or times, records.memory, costs)]
    machine_facts = machine() | backend.machine()
    launches = {} if median.issue_ns is None else {"issue_ns": median.issue_ns.tolist()}
    header = {
        "summary": _summary(plan, backend.name, start, end, median.issue_ns, levels, records.memory),
        "capacity_bytes": costs.memory_bytes,
        "machine": machine_facts,
        "step_times_ns": times,
        "timed_steps": _timed_steps(backend, records),
        "link": f"{backend.link_note} Here: {Links.of(Hardware.of(costs))}." if backend.emulated else backend.link_note,
        "warnings": warnings,
        **launches,
        **({"bare_step_times_ns": bare} if bare else {}),
        **({"allocator": records.allocator} if records.allocator else {}),
    }
    timeline = Timeline.of_plan(plan, backend.name, start, end, levels, **header)
    return ExecutionResult(
        timeline=timeline,
        losses=records.losses,
        max_grad_error=records.error,
        machine=machine_facts,
        step_times_ns=times,
        bare_step_times_ns=bare,
        warnings=warnings,
    )


def _timed_steps(backend: Backend, records: StepRecords) -> str:
    """Return a sentence for the header about which steps were timed."""
    timed, steps = len(records.timed), len(records.losses)
    if not backend.warm_ups:
        return (
            f"{timed} of {steps} steps were timed, the median is shown; the first warmed up and was metered for "
            "memory. Issuing a step and zeroing gradients is outside the clock."
        )
    return (
        f"{timed} of {steps} steps were timed operation by operation, the median is shown, and {len(records.bare)} as "
        "a whole; before them one warmed up and one was metered for memory. Issuing is inside the clock, zeroing "
        "gradients is not."
    )


def _summary(
    plan: Plan, source: str, start: Ints, end: Ints, issue: Ints | None, levels: MemorySamples, memory: MemoryWalk
) -> dict[str, Any]:
    """Return the measured summary, by the keys of the command line's JSON (DESIGN, section 4)."""
    bare = Timeline.of_plan(plan, source, start, end, levels)
    return step_metrics(plan, bare, memory, issue).to_dict()


def _warnings_of(plan: Plan, times: list[int], memory: MemoryWalk, costs: Costs) -> list[str]:
    """Return a sentence for each reason not to trust the measured times, or not to run the plan elsewhere."""
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
    unheld, nbytes = unheld_workspaces(plan)
    if unheld:
        buffers = counted(unheld, "workspace buffer")
        out.append(
            f"the plan has {buffers} of {format_bytes(nbytes)} in all that a run does not hold yet: predicted peaks "
            "count them and may be higher than measured ones"
        )
    for rank, peak in enumerate(memory.peak_device.tolist()):
        if peak > costs.memory_bytes:
            out.append(
                f"rank {rank} held {format_bytes(peak)}, more than the device's {format_bytes(costs.memory_bytes)}: on "
                "a real device this plan runs out of memory"
            )
    return out
