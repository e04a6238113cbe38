"""Turns measured runs of a calibration plan into samples: a list for each unit and kind of operation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loadahead.executor.backends import Measured
from loadahead.executor.replay.metering import StepMeter
from loadahead.sim.ir.kinds import RECV_KINDS, Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.memory import walk_bytes

# The simulator gives these no time of their own: it charges what they take to the operation that follows.
FREE_KINDS = frozenset({Kind.RELEASE, Kind.ACQUIRE, *RECV_KINDS})

Key = tuple[int, int, int, Kind]  # rank, stage, unit, kind; stage and unit are -1 for operations of a whole rank
Samples = Mapping[Key, Sequence[int]]


def ready_to_end(plan: Plan, runs: Sequence[Measured]) -> dict[Key, list[int]]:
    """Return each operation's times in ns, from the end of all it waits for to its own end.

    This is what the simulator has to charge: a sample holds all that a real run adds, such as waking a thread, taking
    and freeing memory, or waiting for an event.
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


def start_to_end(plan: Plan, runs: Sequence[Measured]) -> dict[Key, list[int]]:
    """Return each operation's own times in ns, without what it waited for."""
    return _by_key(plan, [(run.end_ns - run.start_ns).tolist() for run in runs])


def launch_times(plan: Plan, runs: Sequence[Measured]) -> dict[Key, list[int]]:
    """Return the host's times in ns to launch each operation."""
    return _by_key(plan, [run.issue_ns.tolist() for run in runs if run.issue_ns is not None])


def _by_key(plan: Plan, rows: Sequence[Sequence[int]]) -> dict[Key, list[int]]:
    out: dict[Key, list[int]] = defaultdict(list)
    for row in rows:
        for op in plan:
            out[op.rank, op.stage, op.unit, op.kind].append(row[op.index])
    return out


def workspaces(plan: Plan, meter: StepMeter) -> dict[Key, list[int]]:
    """Return the bytes that each operation held beyond the plan's buffers, one entry per microbatch."""
    held = meter.result().during - walk_bytes(plan, np.zeros(len(plan), dtype=np.int64), meter.static).during
    return _by_key(plan, [held.tolist()])


def statistics_of(samples: Sequence[int]) -> dict[str, Any]:
    """Return count, median in ns, and spread, (third - first quartile) / median, of the samples."""
    median, (low, high) = int(np.median(samples)), np.percentile(samples, (25, 75))
    return {"count": len(samples), "median_ns": median, "spread": round(float((high - low) / max(median, 1)), 4)}


def key_name(key: Key) -> str:
    """Return the operation's name as the evidence writes it, such as ``FORWARD 0.1``."""
    rank, stage, unit, kind = key
    return f"{kind.name} rank {rank}" if stage < 0 else f"{kind.name} {stage}.{unit}"
