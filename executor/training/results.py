"""Makes the result of a run of several steps: the step of median time as a timeline, its memory, and warnings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loadahead.executor.backends import Backend, Measured
from loadahead.executor.links import Hardware, Links
from loadahead.executor.machine import machine
from loadahead.executor.replay.metering import StepMeter
from loadahead.executor.replay.plan_match import unheld_workspaces
from loadahead.executor.training.differences import Differences
from loadahead.sim.costs import Costs
from loadahead.sim.host_memory import HostMemory
from loadahead.sim.ir.kinds import Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.memory import MemoryWalk, samples, walk_bytes
from loadahead.sim.metrics import step_metrics
from loadahead.sim.placement import Placement
from loadahead.sim.step_metrics import CAPACITY, HOST_CAPACITY
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
        max_grad_error: largest difference of any gradient, loss or buffer in any step from plain training's; None if
            not checked.
        grad_error_allowed: how large it may be: 0, or what rounding explains where units share a weight.
        differences: what differs, in a sentence; None where nothing does or nothing was checked.
        weights: the state dictionaries of the trained ``model`` and, one for each stage, of its ``optimizer``.
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
    grad_error_allowed: float = 0.0
    differences: str | None = None
    weights: dict[str, Any] = field(default_factory=dict)


def save_weights(weights: dict[str, Any], path: Path) -> None:
    """Write state dictionaries, to be read by ``torch.load``."""
    torch.save(weights, path)


@dataclass(slots=True)
class StepRecords:
    """Collects what the steps of a run leave behind.

    Attributes:
        timed, bare: times of steps whose operations were timed one by one, and of steps timed as a whole.
        memory: the most that any metered step held, at every operation.
        peaks: every step's peak on each rank, in bytes.
        warnings: how the steps were run, where that matters.
        unlike_runs: whether the losses of two runs from one start differ.
        differences: what differs from plain training; None where it is not checked.
        weights: the trained weights and optimizer state.
    """

    losses: list[float] = field(default_factory=list)
    timed: list[Measured] = field(default_factory=list)
    bare: list[Measured] = field(default_factory=list)
    memory: MemoryWalk | None = None
    allocator: dict[str, Any] = field(default_factory=dict)
    peaks: list[list[int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unlike_runs: bool = False
    differences: Differences | None = None
    weights: dict[str, Any] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget all, as the steps are taken anew."""
        fresh = StepRecords()
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def metered(self, meter: StepMeter) -> None:
        """Note what a metered step held."""
        walk = meter.result()
        self.allocator = self.allocator or meter.allocator()
        self.peaks.append(walk.peak_device.tolist())
        self.memory = walk if self.memory is None else self.memory.joined(walk)


def result_of(plan: Plan, costs: Costs, backend: Backend, records: StepRecords) -> ExecutionResult:
    """Return the result that these records make."""
    assert records.memory is not None
    peak = np.maximum(records.memory.peak_device, np.max(np.asarray(records.peaks, dtype=np.int64), axis=0))
    records.memory = replace(records.memory, peak_device=peak)
    times = [measured.step_time_ns for measured in records.timed]
    median = records.timed[int(np.argsort(times, kind="stable")[(len(times) - 1) // 2])]
    start, end = median.start_ns - median.start_ns.min(), median.end_ns - median.start_ns.min()
    levels = samples(plan, records.memory.during, records.memory.after, start, end)
    bare = [measured.step_time_ns for measured in records.bare]
    warnings = [
        *backend.warnings,
        *records.warnings,
        *_warnings_of(plan, bare or times, records.memory, costs),
        *_unlike(records.peaks if not backend.metering_is_free else records.peaks[1:]),
    ]
    machine_facts, links = machine() | backend.machine(), Links.of(Hardware.of(costs))
    launches = {} if median.issue_ns is None else {"issue_ns": median.issue_ns.tolist()}
    header = {
        "summary": summary_of(plan, costs.placement, backend.name, start, end, median.issue_ns, levels, records.memory),
        CAPACITY: costs.memory_bytes,
        HOST_CAPACITY: costs.host_memory_bytes,
        "machine": machine_facts,
        "step_times_ns": times,
        "timed_steps": _timed_steps(backend, records),
        "link": backend.link_note + (f" Here: {links.in_words(plan.ranks)}." if backend.emulated else ""),
        "warnings": warnings,
        **launches,
        **({"bare_step_times_ns": bare} if bare else {}),
        **({"allocator": records.allocator} if records.allocator else {}),
    }
    timeline = Timeline.of_plan(plan, backend.name, start, end, levels, **header)
    return ExecutionResult(
        timeline=timeline,
        losses=records.losses,
        max_grad_error=None if records.differences is None else records.differences.worst,
        grad_error_allowed=0.0 if records.differences is None else records.differences.allowed_now,
        differences=None if records.differences is None else records.differences.sentence,
        weights=records.weights,
        machine=machine_facts,
        step_times_ns=times,
        bare_step_times_ns=bare,
        warnings=warnings,
    )


def _timed_steps(backend: Backend, records: StepRecords) -> str:
    """Return a sentence for the header about which steps were timed."""
    timed, steps = len(records.timed), len(records.losses)
    if not backend.metering_is_free:
        return (
            f"The {steps} steps ran twice from the same start: once with memory metered in every step, and once timed; "
            f"{timed} steps were timed after one to warm up, and the median is shown. Issuing a step and zeroing "
            "gradients is outside the clock."
        )
    return (
        f"{timed} of {steps} steps were timed operation by operation, the median is shown, and {len(records.bare)} as "
        "a whole; before them one warmed up and one was metered for memory. Issuing is inside the clock, zeroing "
        "gradients is not."
    )


def summary_of(
    plan: Plan,
    placement: Placement,
    source: str,
    start: Ints,
    end: Ints,
    issue: Ints | None,
    levels: MemorySamples,
    memory: MemoryWalk,
) -> dict[str, Any]:
    """Return the measured summary, by the keys of the command line's JSON (DESIGN, section 4)."""
    bare = Timeline.of_plan(plan, source, start, end, levels)
    return step_metrics(plan, bare, memory, placement, issue).to_dict()


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
    out += _held_beside(plan, memory)
    for rank, peak in enumerate(memory.peak_device.tolist()):
        if peak > costs.memory_bytes:
            out.append(
                f"rank {rank} held {format_bytes(peak)}, more than the device's {format_bytes(costs.memory_bytes)}: on "
                "a real device this plan runs out of memory"
            )
    of_host = HostMemory.of(memory.peak_host, costs.placement).shortage(costs.host_memory_bytes)
    return out if of_host is None else [*out, of_host]


def _held_beside(plan: Plan, memory: MemoryWalk) -> list[str]:
    """Return a warning about the unit that keeps most memory from its FORWARD on that the plan does not know."""
    nothing = np.zeros(len(plan), dtype=np.int64)
    beside = memory.after - walk_bytes(plan, nothing, np.zeros(plan.ranks, dtype=np.int64)).after
    kept: dict[tuple[int, int], int] = {}
    computes = [op for op in plan if op.queue == Queue.COMPUTE]
    before = {rank: min([int(beside[op.index]) for op in computes if op.rank == rank]) for rank in range(plan.ranks)}
    for op in computes:
        level = int(beside[op.index])
        more, before[op.rank] = level - before[op.rank], level
        # What a graph or a module holds of a boundary shows once the plan has freed that.
        if op.kind in (Kind.FORWARD, Kind.RELEASE) and more > 0:
            kept[op.stage, op.unit] = kept.get((op.stage, op.unit), 0) + more
    if not kept:
        return []
    (stage, unit), most = max(kept.items(), key=lambda item: item[1])
    others = f", the most of {len(kept)} such units" if len(kept) > 1 else ""
    return [
        f"unit {stage}.{unit} keeps {format_bytes(most)} from its FORWARDs on that the plan does not know{others}: as "
        "attributes of its modules, or on the ctx of an autograd function, beside save_for_backward; predicted peaks "
        "do not count all of it"
    ]


def _unlike(peaks: list[list[int]]) -> list[str]:
    """Return a warning for each rank whose peak is not the same in all steps."""
    out = []
    for rank, own in enumerate(zip(*peaks, strict=True)):
        least, most = min(own), max(own)
        if least != most:
            out.append(
                f"rank {rank} held {format_bytes(least)} at its peak in one step and {format_bytes(most)} in another: "
                "what the model keeps depends on its data or on the step, and is predicted from a few microbatches"
            )
    return out
