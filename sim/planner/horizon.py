"""A horizon is a maker of decisions: it says which boundaries leave the GPU, and in which slots.

A boundary's RELEASE stands ``release_window`` tasks after its FORWARD, and its ACQUIRE where the horizon says. A
boundary leaves only if its ACQUIRE comes after its RELEASE; any other would never leave the GPU.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from loadahead.sim.compiled import compiled
from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner.policy import Policy
from loadahead.sim.planner.tasks import Tasks

TOO_SOON = "backward_too_soon"
NO_CHECKPOINTING = "no_checkpointing"
SWITCHED_OFF = "offload_activations_false"
AS_GIVEN = "decisions_given"


def horizon_decisions(tasks: Tasks, policy: Policy) -> Decisions:
    """Return the decisions that the policy's horizon and release window make, on every boundary."""
    release, acquire = (np.empty(tasks.boundaries, dtype=np.int64) for _ in range(2))
    offload = policy.offload and policy.checkpoint
    layers = policy.horizon_unit == "layers"
    window = policy.release_window
    decide(tasks.columns(), tasks.microbatches, policy.horizon, layers, window, offload, release, acquire)
    return decisions_on(tasks, release, acquire, policy.checkpoint)


def decisions_on(tasks: Tasks, release: Ints, acquire: Ints, checkpoint: bool) -> Decisions:
    """Return the decisions of these slots, both of shape (boundaries,), on all boundaries but the frozen units'."""
    first = tasks.frozen_boundaries
    unit, microbatch = np.divmod(np.arange(first, tasks.boundaries), tasks.microbatches)
    recompute = np.full(len(unit), checkpoint)
    return Decisions(tasks.stage[unit], tasks.place[unit], microbatch, recompute, release[first:], acquire[first:])


@compiled
def decide(tasks, microbatches, horizon, layers, window, offload, release, acquire):  # type: ignore[no-untyped-def]
    """Fill the slots of every boundary, -1 where it stays, and return how many leave.

    ``tasks`` is what :meth:`loadahead.sim.planner.tasks.Tasks.columns` returns.
    """
    start, unit, microbatch, backward, forward_at, backward_at = tasks
    if offload and not layers:
        return _by_tasks(forward_at, backward_at, horizon, window, release, acquire)
    count = 0
    release[:] = -1
    acquire[:] = -1
    if not offload:
        return count
    for rank in range(len(start) - 1):
        own = slice(start[rank], start[rank + 1])
        columns = (unit[own], microbatch[own], backward[own])
        count += _by_layers(columns, microbatches, forward_at, horizon, window, release, acquire)
    return count


@compiled
def _by_tasks(forward_at, backward_at, horizon, window, release, acquire):  # type: ignore[no-untyped-def]
    """Decide as smp v1: the ACQUIRE stands directly before task k - h, where BACKWARD k needs the boundary."""
    count = 0
    for b in range(len(forward_at)):
        slot, last = backward_at[b] - horizon, forward_at[b] + window
        leaves = slot > last
        release[b], acquire[b] = last + 1 if leaves else -1, slot if leaves else -1
        count += leaves
    return count


@compiled
def _by_layers(tasks, microbatches, forward_at, horizon, window, release, acquire):  # type: ignore[no-untyped-def]
    """Decide as SMP v2: at most h offloaded boundaries are on the GPU; a BACKWARD frees one for the next ACQUIRE.

    The first h are taken before the rank's first BACKWARD.
    """
    unit, microbatch, backward = tasks
    needed = np.empty(len(unit), dtype=np.int64)  # places of the BACKWARDs of the offloaded boundaries so far
    count, first = 0, -1
    for at in range(len(unit)):
        if not backward[at]:
            continue
        if first < 0:
            first = at
        b = unit[at] * microbatches + microbatch[at]
        slot = first if count < horizon else needed[count - horizon] + 1
        if slot > forward_at[b] + window:
            release[b], acquire[b] = forward_at[b] + window + 1, slot
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
        nothing = "Offloading cannot help with these settings, so nothing is offloaded"
        return f"{nothing}: all {total} boundaries stay because {why}."
    return f"{offloaded} of {total} boundaries are offloaded; {kept[TOO_SOON]} stay on the GPU because {why}."
