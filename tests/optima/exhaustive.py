"""The best plan of a tiny instance by trying every decision, with the compiled walk of the planner as the judge.

Left out are only decisions that are no better than another: a RELEASE and an ACQUIRE in one slot, between which a
boundary is away during no task, cost two copies and free nothing while any task runs. And as what a rank holds depends
on its own decisions alone, those of a rank that hold more than the cap are not combined with other ranks'.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

import numpy as np

from loadahead.sim.clock import step_time
from loadahead.sim.ir.decisions import STAYS
from loadahead.sim.ir.kinds import QUEUES_PER_RANK
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import UnitSizes
from loadahead.sim.planner.lower import lower_without_rows
from loadahead.sim.policy_metrics import Group
from tests.optima.layout import Boundary, layout_of
from tests.optima.problem import Instance

# More would take longer than a test may.
MOST_TRIED = 200_000
_Slots = tuple[int, int]


def least_step_ns(instance: Instance) -> int:
    """The least step time in ns of any decisions that keep the cap; ValueError for an instance that is not tiny."""
    layout = layout_of(instance)
    ranks = [_kept_by_cap(own, layout.held(rank), instance.cap_bytes) for rank, own in enumerate(layout.boundaries)]
    if prod(map(len, ranks)) > MOST_TRIED:
        raise ValueError(f"{instance.name} has {prod(map(len, ranks))} decisions; at most {MOST_TRIED} are tried")
    places = [
        np.asarray([b.unit * instance.microbatches + b.microbatch for b in own], dtype=np.int64)
        for own in layout.boundaries
    ]
    judge = _Judge(instance)
    best = None
    for chosen in product(*ranks):
        for place, (release, acquire) in zip(places, chosen, strict=True):
            judge.release[place], judge.acquire[place] = release, acquire
        step_ns, peak = judge()
        if peak > instance.cap_bytes:
            raise AssertionError(f"{instance.name}: the walk holds {peak} bytes where the cap is kept")
        best = step_ns if best is None else min(best, step_ns)
    if best is None:
        raise ValueError(f"{instance.name}: no decisions keep the cap")
    return best


def decisions_of_rank(boundaries: tuple[Boundary, ...]) -> int:
    """How many decisions a rank has, whatever the cap."""
    return prod(len(_options(b)) for b in boundaries)


def _options(boundary: Boundary) -> list[_Slots]:
    slots = range(boundary.forward + 1, boundary.backward + 1)
    return [(STAYS, STAYS), *((release, acquire) for release in slots for acquire in slots if release < acquire)]


def _kept_by_cap(boundaries: tuple[Boundary, ...], held: list[int], cap: int) -> list[tuple[list[int], list[int]]]:
    """The releases and acquires of all decisions of one rank that hold at most the cap during each task."""
    if decisions_of_rank(boundaries) > MOST_TRIED:
        raise ValueError(f"a rank has {decisions_of_rank(boundaries)} decisions; at most {MOST_TRIED} are tried")
    return [
        ([release for release, _ in chosen], [acquire for _, acquire in chosen])
        for chosen in product(*map(_options, boundaries))
        if max(_held(boundaries, chosen, held)) <= cap
    ]


def _held(boundaries: tuple[Boundary, ...], chosen: tuple[_Slots, ...], held: list[int]) -> Iterator[int]:
    away = [(release, acquire, b.nbytes) for b, (release, acquire) in zip(boundaries, chosen, strict=True)]
    for place, every in enumerate(held):
        yield every - sum(nbytes for release, acquire, nbytes in away if release <= place < acquire)


class _Judge:
    """Times the decisions in ``release`` and ``acquire``, of every boundary in the planner's order."""

    def __init__(self, instance: Instance) -> None:
        workload, costs, policy = instance.problem()
        sizes = UnitSizes.of(workload)
        self.group = Group.of(workload, policy, sizes)
        assert self.group.put(sizes, costs.table(), costs), "a tiny step fits 64 bits"
        self.memory = self.group.arena.memory
        self.memory[a.RECEIVE_AHEAD] = instance.receive_ahead
        self.ranks = self.group.arena.view(a.RANK_ROWS)
        self.release, self.acquire = self.group.slots

    def __call__(self) -> tuple[int, int]:
        """The step time in ns, and the largest peak of boundary bytes."""
        assert lower_without_rows(self.memory, self.release, self.acquire) < 0, "the orders do not deadlock"
        last = int(self.ranks[:, a.R_QUEUE_END : a.R_QUEUE_END + QUEUES_PER_RANK].max())
        return int(step_time(self.memory[a.FIRST_START], last)), int(self.ranks[:, a.R_BOUNDARY_PEAK].max())
