"""The offload pass: which boundaries leave the GPU, when their copy is freed, and when they come back.

Places are *slots*: slot k lies directly before the task at position k of the rank's compute queue, and slot
``len(tasks)`` before the OPTIMIZER_STEP. Within a slot RELEASE comes before ACQUIRE.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sim.planner.policy import Policy
from sim.planner.tasks import BoundaryKey, RankTasks

TOO_SOON = "backward_too_soon"
NO_CHECKPOINTING = "no_checkpointing"
SWITCHED_OFF = "offload_activations_false"


@dataclass(frozen=True, slots=True)
class Offloads:
    """One rank's decisions: the slots of RELEASE and ACQUIRE of each offloaded boundary, and why others stay."""

    release_slot: dict[BoundaryKey, int] = field(default_factory=dict)
    acquire_slot: dict[BoundaryKey, int] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)


def decide(tasks: RankTasks, policy: Policy) -> Offloads:
    """Offload a boundary only if its ACQUIRE comes after its RELEASE; any other would never leave the GPU."""
    out = Offloads()
    if not policy.checkpoint or not policy.offload:
        reason = SWITCHED_OFF if policy.checkpoint else NO_CHECKPOINTING
        out.kept[reason] += len(tasks.backward_at)
        return out
    acquire = _acquire_by_tasks if policy.horizon_unit == "tasks" else _acquire_by_layers
    slots = acquire(tasks, policy)
    for key, made in tasks.forward_at.items():
        if key in slots:
            out.release_slot[key] = made + policy.release_window + 1
            out.acquire_slot[key] = slots[key]
        else:
            out.kept[TOO_SOON] += 1
    return out


def _acquire_by_tasks(tasks: RankTasks, policy: Policy) -> dict[BoundaryKey, int]:
    """smp v1: the ACQUIRE stands directly before task k - h, when k is the BACKWARD that needs the boundary."""
    slots = {}
    for key, made in tasks.forward_at.items():
        slot = tasks.backward_at[key] - policy.horizon
        if slot > made + policy.release_window:
            slots[key] = slot
    return slots


def _acquire_by_layers(tasks: RankTasks, policy: Policy) -> dict[BoundaryKey, int]:
    """SMP v2: at most h offloaded boundaries on the GPU; the next ACQUIRE follows the BACKWARD that frees one.

    The first h are taken before the rank's first BACKWARD.
    """
    slots: dict[BoundaryKey, int] = {}
    needed: list[int] = []  # BACKWARD positions of the offloaded boundaries so far
    first = tasks.backward.index(True)
    for key, at in tasks.backward_at.items():
        slot = first if len(needed) < policy.horizon else needed[-policy.horizon] + 1
        if slot > tasks.forward_at[key] + policy.release_window:
            slots[key] = slot
            needed.append(at)
    return slots


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
