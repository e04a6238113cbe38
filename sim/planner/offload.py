"""The offload pass: which boundaries leave the GPU, when their copy is freed, and when they come back.

Places are *slots*: slot k lies directly before the task at place k of the rank's compute queue, and slot
``tasks`` before the OPTIMIZER_STEP. Within a slot RELEASE comes before ACQUIRE.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numba import njit

from sim.ir.plan import Ints
from sim.planner.policy import Policy
from sim.planner.tasks import Tasks

TOO_SOON = "backward_too_soon"
NO_CHECKPOINTING = "no_checkpointing"
SWITCHED_OFF = "offload_activations_false"


@dataclass(frozen=True, slots=True)
class Offloads:
    """Decisions: the slot of each boundary's ACQUIRE, or -1 where it stays, shape (boundaries,); why others stay."""

    acquire_slot: Ints
    kept: Counter[str]


def decide(tasks: Tasks, policy: Policy) -> Offloads:
    """Offload a boundary only if its ACQUIRE comes after its RELEASE; any other would never leave the GPU."""
    slots = np.full(tasks.boundaries, -1, dtype=np.int64)
    if not policy.checkpoint or not policy.offload:
        reason = SWITCHED_OFF if policy.checkpoint else NO_CHECKPOINTING
        return Offloads(slots, Counter({reason: tasks.boundaries}))
    arrays = (tasks.start, tasks.unit, tasks.microbatch, tasks.backward, tasks.forward_at, tasks.backward_at)
    layers = policy.horizon_unit == "layers"
    decide_into(slots, *arrays, tasks.microbatches, policy.horizon, layers, policy.release_window)
    stay = int((slots < 0).sum())
    return Offloads(slots, Counter({TOO_SOON: stay}) if stay else Counter())


@njit(cache=True)
def decide_into(  # type: ignore[no-untyped-def]
    slots, start, unit, microbatch, backward, forward_at, backward_at, microbatches, horizon, layers, window
):
    """Fill ``slots``, in one of the horizon's two meanings."""
    if layers:
        for rank in range(len(start) - 1):
            _by_layers(
                slots, unit, microbatch, backward, forward_at, microbatches, horizon, window, start[rank], start[rank + 1]
            )
        return
    # smp v1: the ACQUIRE stands directly before task k - h, when k is the BACKWARD that needs the boundary.
    for b in range(len(slots)):
        slot = backward_at[b] - horizon
        slots[b] = slot if slot > forward_at[b] + window else -1


@njit(cache=True)
def _by_layers(slots, unit, microbatch, backward, forward_at, microbatches, horizon, window, begin, end):  # type: ignore[no-untyped-def]
    """SMP v2: at most h offloaded boundaries on the GPU; the next ACQUIRE follows the BACKWARD that frees one.

    The first h are taken before the rank's first BACKWARD.
    """
    needed = np.empty(end - begin, dtype=np.int64)  # places of the BACKWARDs of the offloaded boundaries so far
    count, first = 0, -1
    for at in range(end - begin):
        if not backward[begin + at]:
            continue
        if first < 0:
            first = at
        b = unit[begin + at] * microbatches + microbatch[begin + at]
        slot = first if count < horizon else needed[count - horizon] + 1
        if slot > forward_at[b] + window:
            slots[b] = slot
            needed[count] = at
            count += 1
        else:
            slots[b] = -1


def sentence(offloaded: int, kept: Counter[str], policy: Policy) -> str:
    """What the plan offloads and why the rest stays, for the command line."""
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
