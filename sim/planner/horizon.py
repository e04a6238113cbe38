"""A horizon is a maker of decisions: it says which boundaries leave the GPU, and in which slots.

A boundary's RELEASE stands ``release_window`` tasks after its FORWARD, and its ACQUIRE where the horizon says. A
boundary leaves only if its ACQUIRE comes after its RELEASE; any other would never leave the GPU. One with fewer bytes
than ``min_bytes`` stays whatever the horizon, and takes no place among the boundaries that a horizon in layers counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from loadahead.sim.compiled import compiled
from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner.policy import Policy
from loadahead.sim.planner.tasks import Tasks
from loadahead.sim.units import bytes_apart

TOO_SOON = "backward_too_soon"
TOO_SMALL = "smaller_than_min_bytes"
NO_CHECKPOINTING = "no_checkpointing"
SWITCHED_OFF = "offload_activations_false"
AS_GIVEN = "decisions_given"
AS_TUNED = "decisions_tuned"


def horizon_decisions(tasks: Tasks, sizes: Ints, policy: Policy) -> Decisions:
    """Return the decisions that the policy's horizon, release window and least size make, on every boundary.

    ``sizes`` is what :meth:`loadahead.sim.workload.Workload.boundary_bytes` returns.
    """
    release, acquire = (np.empty(tasks.boundaries, dtype=np.int64) for _ in range(2))
    offload = policy.offload and policy.checkpoint
    settings = (policy.horizon, policy.horizon_unit == "layers", policy.release_window, policy.min_bytes, offload)
    decide(tasks.columns(), sizes, tasks.microbatches, *settings, release, acquire)
    return decisions_on(tasks, release, acquire, policy.checkpoint)


def too_small(tasks: Tasks, sizes: Ints, policy: Policy) -> list[int]:
    """Return the bytes of each boundary that stays for its size alone, where boundaries may leave; ascending."""
    if not policy.offload or not policy.checkpoint:
        return []
    trained = sizes[tasks.frozen_units :]
    out: list[int] = np.sort(np.repeat(trained[trained < policy.min_bytes], tasks.microbatches)).tolist()
    return out


def decisions_on(tasks: Tasks, release: Ints, acquire: Ints, checkpoint: bool) -> Decisions:
    """Return the decisions of these slots, both of shape (boundaries,), on all boundaries but the frozen units'."""
    first = tasks.frozen_boundaries
    unit, microbatch = np.divmod(np.arange(first, tasks.boundaries), tasks.microbatches)
    recompute = np.full(len(unit), checkpoint)
    return Decisions(tasks.stage[unit], tasks.place[unit], microbatch, recompute, release[first:], acquire[first:])


@compiled
def decide(tasks, sizes, microbatches, horizon, layers, window, least, offload, release, acquire):  # type: ignore[no-untyped-def]
    """Fill the slots of every boundary, -1 where it stays, and return how many leave.

    ``tasks`` is what :meth:`loadahead.sim.planner.tasks.Tasks.columns` returns, ``sizes`` each unit's boundary bytes
    and ``least`` the fewest with which a boundary may leave.
    """
    start, unit, microbatch, backward, forward_at, backward_at = tasks
    count = 0
    release[:] = -1
    acquire[:] = -1
    if not offload:
        return count
    if not layers:
        for u in range(len(sizes)):
            if sizes[u] >= least:
                own = slice(u * microbatches, (u + 1) * microbatches)
                places = (forward_at[own], backward_at[own])
                count += _by_tasks(places, horizon, window, release[own], acquire[own])
        return count
    for rank in range(len(start) - 1):
        own = slice(start[rank], start[rank + 1])
        columns = (unit[own], microbatch[own], backward[own])
        count += _by_layers(columns, sizes, microbatches, forward_at, horizon, window, least, release, acquire)
    return count


@compiled
def _by_tasks(places, horizon, window, release, acquire):  # type: ignore[no-untyped-def]
    """Decide as smp v1: the ACQUIRE stands directly before task k - h, where BACKWARD k needs the boundary."""
    forward_at, backward_at = places
    count = 0
    for b in range(len(forward_at)):
        slot, last = backward_at[b] - horizon, forward_at[b] + window
        if slot > last:
            release[b], acquire[b] = last + 1, slot
            count += 1
    return count


@compiled
def _by_layers(tasks, sizes, microbatches, forward_at, horizon, window, least, release, acquire):  # type: ignore[no-untyped-def]
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
        if sizes[unit[at]] >= least and slot > forward_at[b] + window:
            release[b], acquire[b] = forward_at[b] + window + 1, slot
            needed[count] = at
            count += 1
    return count


def reasons_kept(kept: int, small: int, policy: Policy) -> Counter[str]:
    """Return how many boundaries stay on the device for each reason; ``small`` of them for their size alone."""
    if not policy.checkpoint:
        return Counter({NO_CHECKPOINTING: kept})
    if not policy.offload:
        return Counter({SWITCHED_OFF: kept})
    return +Counter({TOO_SOON: kept - small, TOO_SMALL: small})


def outcome_sentence(offloaded: int, kept: Counter[str], policy: Policy, small: Sequence[int] = ()) -> str:
    """Return a sentence for people on what the plan offloads and why the rest stays.

    ``small`` holds the bytes of each boundary that stays for its size alone, in ascending order.
    """
    total = offloaded + kept.total()
    if kept[NO_CHECKPOINTING]:
        stay = "boundary stays" if total == 1 else f"{total} boundaries stay"
        return f"Nothing is offloaded: no unit is recomputed from its boundary, and the {stay} on the GPU."
    if kept[SWITCHED_OFF]:
        return f"Nothing is offloaded: offload_activations is false, the {total} boundaries stay on the GPU."
    if not kept.total():
        return f"All {total} boundaries are offloaded."
    if not offloaded and not small:
        nothing = "Offloading cannot help with these settings, so nothing is offloaded"
        return f"{nothing}: all {total} boundaries stay because {_too_soon(policy)}."
    why = _why(kept[TOO_SOON], policy, small)
    if offloaded:
        return f"{offloaded} of {total} boundaries are offloaded; {why}."
    return f"Nothing is offloaded: {f'of {total} boundaries ' if kept[TOO_SOON] else ''}{why}."


def _why(soon: int, policy: Policy, small: Sequence[int]) -> str:
    """Return how many boundaries stay because they are needed too soon, how many for their size, and why."""
    first = f"{soon} {'stays' if soon == 1 else 'stay'} on the GPU because {_too_soon(policy, soon == 1)}"
    if not small:
        return first
    least, most, limit = bytes_apart(small[0], small[-1], policy.min_bytes)
    sizes, one = least if least == most else f"{least} to {most}", len(small) == 1
    reason = f"because {'it is' if one else 'they are'} smaller than offload.min_bytes ({limit})"
    if soon:
        return f"{first}, and {len(small)} of {sizes} {reason}"
    stay = "1 boundary of {} stays" if one else f"{len(small)} boundaries of {{}} stay"
    return f"{stay.format(sizes)} on the GPU {reason}"


def _too_soon(policy: Policy, one: bool = False) -> str:
    own = "its" if one else "their"
    if policy.horizon_unit == "tasks":
        return (
            f"{own} BACKWARD comes within {policy.horizon + policy.release_window} tasks of {own} FORWARD "
            f"(horizon {policy.horizon} + release window {policy.release_window})"
        )
    return (
        f"{'it' if one else 'they'} would be loaded back before {'it is' if one else 'they are'} released "
        f"(horizon {policy.horizon} layers, release window {policy.release_window})"
    )
