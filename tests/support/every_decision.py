"""The best plan of a tiny order by trying every decision, with the planner's own walk as the judge."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

import numpy as np

from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner import arena as a
from loadahead.sim.tuning.limits import Limits
from loadahead.sim.tuning.trial import Trial

# How many plans are timed at most; so many take some seconds.
MOST_TRIED = 20_000
_Slots = tuple[int, int]


def least_step_ns(trial: Trial, limits: Limits, most: int = MOST_TRIED) -> int | None:
    """The least step time in ns of any decisions that keep the limits of the device.

    None where none keep them. ValueError where more than ``most`` would have to be timed.

    A RELEASE and an ACQUIRE in one slot are left out: between them the boundary is away during no task, so that keeping
    it holds as much, and is no slower. What a rank holds depends on its own decisions alone, so that those of a rank
    that hold too much are not combined with other ranks'.
    """
    own = [list(_kept(trial, limits, rank, most)) for rank in range(trial.tasks.ranks)]
    if prod(map(len, own)) > most:
        raise ValueError(f"{prod(map(len, own))} decisions keep the limits; at most {most} are timed")
    steps = [step for step, _, _ in every_plan(trial, own)]
    return min(steps, default=None)


def every_plan(trial: Trial, own: list[list[tuple[Ints, list[_Slots]]]]) -> Iterator[tuple[int, Ints, Ints]]:
    """The step time in ns and the slots of each combination of the ranks' decisions."""
    release, acquire = trial.slots_of_nothing()
    for chosen in product(*own):
        for boundaries, slots in chosen:
            release[boundaries], acquire[boundaries] = zip(*slots, strict=True)
        yield trial.candidate(release, acquire).row.step_time_ns, release, acquire


def _kept(trial: Trial, limits: Limits, rank: int, most: int) -> Iterator[tuple[Ints, list[_Slots]]]:
    """The decisions on a rank's boundaries with which it keeps the limits."""
    tasks = trial.tasks
    units = np.flatnonzero(tasks.rank == rank)
    units = units[units >= tasks.frozen_units]
    boundaries = (units[:, None] * tasks.microbatches + np.arange(tasks.microbatches)).ravel()
    if not len(boundaries):
        return
    options = [_options(int(tasks.forward_at[b]), int(tasks.backward_at[b])) for b in boundaries]
    if prod(map(len, options)) > most:
        raise ValueError(f"rank {rank} has {prod(map(len, options))} decisions; at most {most} are looked at")
    release, acquire = trial.slots_of_nothing()
    rows, row = trial.group.arena.view(a.RANK_ROWS), trial.group
    for slots in product(*options):
        release[boundaries], acquire[boundaries] = zip(*slots, strict=True)
        row.row_of_slots(release, acquire, trial.costs.placement, trial.room, trial.policy.receive_ahead)
        held = (
            (int(rows[rank, a.R_PEAK]), limits.device_bytes),
            (int(rows[rank, a.R_BOUNDARY_PEAK]), limits.boundary_bytes),
        )
        if all(limit is None or peak <= limit for peak, limit in held):
            yield boundaries, list(slots)


def _options(forward: int, backward: int) -> list[_Slots]:
    slots = range(forward + 1, backward + 1)
    return [(-1, -1), *((release, acquire) for release in slots for acquire in slots if release < acquire)]
