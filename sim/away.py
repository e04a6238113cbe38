"""How long the memory of what leaves a device is free follows from a plan and any timeline of it."""

from __future__ import annotations

import numpy as np

from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.ir.kinds import Kind, Role, Space
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.timeline import Timeline


def away_ns(plan: Plan, step: Timeline) -> Ints:
    """Return how long each boundary's memory is free, from the end of its RELEASE to the start of its ACQUIRE.

    The order is that of the plan's decisions; a boundary that stays has -1. The timeline's rows are the plan's.
    """
    decisions = Decisions.of(plan)
    released, acquired = _copies(plan, Kind.OFFLOAD), _copies(plan, Kind.PREFETCH)
    out = np.full(len(decisions), -1, dtype=np.int64)
    names = zip(decisions.stage.tolist(), decisions.unit.tolist(), decisions.microbatch.tolist(), strict=True)
    for place, name in enumerate(names):
        if name in released and name in acquired:
            out[place] = step.start_ns[acquired[name]] - step.end_ns[released[name]]
    return out


def _copies(plan: Plan, kind: Kind) -> dict[tuple[int, int, int], int]:
    """Return the RELEASE of each boundary that an OFFLOAD copied, or the ACQUIRE of each that a PREFETCH fills."""
    ops, buffers = plan.ops, plan.buffers
    copied, column = (ops.reads, ops.frees) if kind == Kind.OFFLOAD else (ops.writes, ops.allocs)
    by_buffer = np.full(len(buffers), -1, dtype=np.int64)
    by_buffer[column.values] = column.rows()
    rows, values = copied.rows(), copied.values
    own = (ops.kind[rows] == kind) & (buffers.space[values] == Space.DEVICE) & (buffers.role[values] == Role.BOUNDARY)
    rows, places = rows[own], by_buffer[values[own]]
    names = zip(*(column[rows].tolist() for column in (ops.stage, ops.unit, ops.microbatch)), strict=True)
    return dict(zip(names, places.tolist(), strict=True))
