"""The offload pass decides which boundaries leave the GPU, when their memory is freed, and when they come back.

Places are *slots*: slot k lies directly before the task at place k of the rank's compute queue, and slot
``tasks`` before the OPTIMIZER_STEP. Within a slot RELEASE comes before ACQUIRE.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numba import njit

from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import get, put
from loadahead.sim.planner.policy import Policy

TOO_SOON = "backward_too_soon"
NO_CHECKPOINTING = "no_checkpointing"
SWITCHED_OFF = "offload_activations_false"


@njit(cache=True)
def decide(m, horizon, layers, window, offload):  # type: ignore[no-untyped-def]
    """Set ACQUIRE_SLOT of every boundary, -1 where it stays, and return how many are offloaded.

    A boundary is offloaded only if its ACQUIRE comes after its RELEASE; any other would never leave the GPU.
    """
    m[a.WINDOW] = window
    m[m[a.ACQUIRE_SLOT] : m[a.NEXT_ACQUIRE]] = -1
    if not offload or not m[a.CHECKPOINT]:
        return 0
    if layers:
        count = 0
        for rank in range(m[a.RANKS]):
            count += _by_layers(m, rank, horizon, window)
        return count
    return _by_tasks(m, horizon, window)


@njit(cache=True)
def _by_tasks(m, horizon, window):  # type: ignore[no-untyped-def]
    """Decide as smp v1: the ACQUIRE stands directly before task k - h, where BACKWARD k needs the boundary."""
    count = 0
    for b in range(m[a.UNITS] * m[a.MICROBATCHES]):
        slot = get(m, a.BACKWARD_AT, b) - horizon
        if slot > get(m, a.FORWARD_AT, b) + window:
            put(m, a.ACQUIRE_SLOT, b, slot)
            count += 1
    return count


@njit(cache=True)
def _by_layers(m, rank, horizon, window):  # type: ignore[no-untyped-def]
    """Decide as SMP v2: at most h offloaded boundaries are on the GPU; a BACKWARD frees one for the next ACQUIRE.

    The first h are taken before the rank's first BACKWARD.
    """
    begin, end = get(m, a.TASK_START, rank), get(m, a.TASK_START, rank + 1)
    needed = np.empty(end - begin, dtype=np.int64)  # places of the BACKWARDs of the offloaded boundaries so far
    count, first = 0, -1
    for at in range(end - begin):
        if not get(m, a.TASK_BACKWARD, begin + at):
            continue
        if first < 0:
            first = at
        b = get(m, a.TASK_UNIT, begin + at) * m[a.MICROBATCHES] + get(m, a.TASK_MICROBATCH, begin + at)
        slot = first if count < horizon else needed[count - horizon] + 1
        if slot > get(m, a.FORWARD_AT, b) + window:
            put(m, a.ACQUIRE_SLOT, b, slot)
            needed[count] = at
            count += 1
    return count


def reasons_kept(kept: int, policy: Policy) -> Counter[str]:
    """Return how many boundaries stay on the device for each reason."""
    if not policy.checkpoint:
        return Counter({NO_CHECKPOINTING: kept})
    if not policy.offload:
        return Counter({SWITCHED_OFF: kept})
    return Counter({TOO_SOON: kept}) if kept else Counter()


def outcome_sentence(offloaded: int, kept: Counter[str], policy: Policy) -> str:
    """Return a sentence for people on what the plan offloads and why the rest stays."""
    total = offloaded + kept.total()
    if kept[NO_CHECKPOINTING]:
        return f"Nothing is offloaded: without activation checkpointing the {total} boundaries stay on the GPU."
    if kept[SWITCHED_OFF]:
        return f"Nothing is offloaded: offload_activations is false, the {total} boundaries stay on the GPU."
    if not kept[TOO_SOON]:
        return f"All {total} boundaries are offloaded."
    if policy.horizon_unit == "tasks":
        why = (
            f"their BACKWARD comes within {policy.horizon + policy.release_window} tasks of their FORWARD "
            f"(horizon {policy.horizon} + release window {policy.release_window})"
        )
    else:
        why = (
            f"they would be loaded back before they are released "
            f"(horizon {policy.horizon} layers, release window {policy.release_window})"
        )
    if not offloaded:
        return f"Offloading cannot help here, so nothing is offloaded: all {total} boundaries stay because {why}."
    return f"{offloaded} of {total} boundaries are offloaded; {kept[TOO_SOON]} stay on the GPU because {why}."
