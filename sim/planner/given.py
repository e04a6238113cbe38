"""Decisions that are given: by a user, by a file, or by a search. They are checked against the tasks they are about."""

from __future__ import annotations

import numpy as np

from loadahead.sim.errors import InputError
from loadahead.sim.ir.decisions import KEEP, RECOMPUTE, STAYS, Decisions
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner.horizon import decisions_on
from loadahead.sim.planner.tasks import Tasks


def require_decisions(given: Decisions, tasks: Tasks, checkpoint: bool) -> Decisions:
    """Return the decisions on every boundary, in the tasks' order; one that is not named stays.

    Raise InputError in one line that names the boundary where one does not go with the tasks.
    """
    boundary = _boundaries(given.checked(), tasks)
    _require_mode(given, checkpoint)
    _require_slots(given, tasks, boundary)
    release, acquire = (np.full(tasks.boundaries, STAYS, dtype=np.int64) for _ in range(2))
    release[boundary], acquire[boundary] = given.release, given.acquire
    return decisions_on(tasks, release, acquire, checkpoint)


def _name(given: Decisions, at: int) -> str:
    return f"boundary {given.stage[at]}.{given.unit[at]}.{given.microbatch[at]}"


def _boundaries(given: Decisions, tasks: Tasks) -> Ints:
    """Return the place of each decision's boundary among the tasks'; InputError for one that is not there."""
    units = np.bincount(tasks.stage)
    first = np.cumsum(units) - units
    stage = np.clip(given.stage, 0, len(units) - 1)
    there = (given.stage == stage) & (given.unit >= 0) & (given.unit < units[stage])
    there &= (given.microbatch >= 0) & (given.microbatch < tasks.microbatches)
    if not there.all():
        at = int(np.flatnonzero(~there)[0])
        raise InputError(
            f"decisions: {_name(given, at)} is none of this plan's, which has {len(units)} stages of "
            f"{', '.join(map(str, dict.fromkeys(units.tolist())))} units and {tasks.microbatches} microbatches; names "
            "are stage.unit.microbatch"
        )
    out: Ints = (first[stage] + given.unit) * tasks.microbatches + given.microbatch
    frozen = np.flatnonzero(out < tasks.frozen_boundaries)
    if len(frozen):
        raise InputError(
            f"decisions: {_name(given, int(frozen[0]))} is a frozen unit's, whose FORWARD frees it; leave it out"
        )
    return out


def _require_mode(given: Decisions, checkpoint: bool) -> None:
    other = np.flatnonzero(given.recompute != checkpoint)
    if len(other):
        wanted, found = (RECOMPUTE, KEEP) if checkpoint else (KEEP, RECOMPUTE)
        raise InputError(
            f"decisions: {_name(given, int(other[0]))} has mode {found!r} and checkpoint.enabled is "
            f"{str(checkpoint).lower()}; give {wanted!r} for every boundary, they cannot be mixed yet"
        )
    leaving = np.flatnonzero(given.acquire >= 0)
    if len(leaving) and not checkpoint:
        raise InputError(
            f"decisions: {_name(given, int(leaving[0]))} leaves and checkpoint.enabled is false; without activation "
            "checkpointing boundaries stay"
        )


def _require_slots(given: Decisions, tasks: Tasks, boundary: Ints) -> None:
    """Raise InputError unless each RELEASE follows its FORWARD, and each ACQUIRE its RELEASE and not its BACKWARD."""
    leaves = given.acquire >= 0
    first, last = tasks.forward_at[boundary] + 1, tasks.backward_at[boundary]
    for slot, lowest, highest, what in (
        (given.release, first, last, "release"),
        (given.acquire, np.maximum(given.release, first), last, "acquire"),
    ):
        wrong = np.flatnonzero(leaves & ((slot < lowest) | (slot > highest)))
        if len(wrong):
            at = int(wrong[0])
            raise InputError(
                f"decisions: {_name(given, at)} has {what} {slot[at]}; its FORWARD is task {first[at] - 1} of its rank "
                f"and its BACKWARD task {last[at]}, so it must be a slot from {lowest[at]} to {highest[at]}, or -1 "
                "twice for a boundary that stays"
            )
