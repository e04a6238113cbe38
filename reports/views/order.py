"""Shows a plan's order: the passes of each rank, and which leave boundaries that are offloaded. It needs no times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadahead.reports.views.base import Missing
from loadahead.sim.ir.kinds import UNIT_KINDS, Kind, Queue
from loadahead.sim.ir.plan import Ints, Plan

# A RECOMPUTE belongs to the backward pass that needs it.
_PASS_OF = dict.fromkeys(UNIT_KINDS, Kind.BACKWARD) | {
    Kind.FORWARD: Kind.FORWARD,
    Kind.BACKWARD_WEIGHT: Kind.BACKWARD_WEIGHT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Describes a pass: tasks of one stage and microbatch that follow each other on a rank.

    ``place`` counts the rank's passes from 0, ``kind`` is FORWARD, BACKWARD or BACKWARD_WEIGHT. ``offloads`` is how
    many of a forward pass's boundaries leave the device.
    """

    rank: int
    place: int
    kind: Kind
    stage: int
    microbatch: int
    offloads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """Holds the first passes of the first ranks, how many the longest rank has in all, and how many ranks there are."""

    passes: tuple[Pass, ...]
    longest: int
    ranks: int


def order_view(plan: Plan, most_ranks: int, most_passes: int) -> OrderView | Missing:
    """Return at most so many passes each of at most so many ranks."""
    sent = plan.ops.kind == Kind.OFFLOAD
    stages, microbatches = plan.ops.stage[sent].tolist(), plan.ops.microbatch[sent].tolist()
    leaving: dict[tuple[int, int], int] = {}
    for pair in zip(stages, microbatches, strict=True):
        leaving[pair] = leaving.get(pair, 0) + 1
    shown, longest = [], 0
    for rank in range(plan.ranks):
        kinds, first = _firsts(plan, rank)
        longest = max(longest, len(first))
        if rank >= most_ranks:
            continue
        for place, (row, kind) in enumerate(
            zip(first[:most_passes].tolist(), kinds[:most_passes].tolist(), strict=True)
        ):
            stage, microbatch = int(plan.ops.stage[row]), int(plan.ops.microbatch[row])
            offloads = leaving.get((stage, microbatch), 0) if kind == Kind.FORWARD else 0
            shown.append(
                Pass(rank=rank, place=place, kind=Kind(kind), stage=stage, microbatch=microbatch, offloads=offloads)
            )
    if not shown:
        return Missing(title="The order of passes", reason="no rank of the plan computes a unit")
    return OrderView(passes=tuple(shown), longest=longest, ranks=plan.ranks)


def _firsts(plan: Plan, rank: int) -> tuple[Ints, Ints]:
    """Return each pass's kind, and its first task's position."""
    own = plan.queue_ops(rank, Queue.COMPUTE)
    own = own[plan.ops.kind[own] < len(UNIT_KINDS)]
    of_pass = np.asarray([_PASS_OF[kind] for kind in UNIT_KINDS], dtype=np.int64)[plan.ops.kind[own]]
    told = np.stack([of_pass, plan.ops.stage[own], plan.ops.microbatch[own]])
    new = np.ones(len(own), dtype=bool)
    new[1:] = (told[:, 1:] != told[:, :-1]).any(axis=0)
    return of_pass[new], own[new]
