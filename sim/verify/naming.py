"""Rules find operations by their kinds, and name buffers for people."""

from __future__ import annotations

import numpy as np

from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.verify.happens_before import Flags


def is_kind(plan: Plan, *kinds: Kind) -> Flags:
    """Return whether each operation is of one of these kinds; shape (operations,)."""
    table = np.zeros(len(Kind), dtype=np.bool_)
    table[list(kinds)] = True
    out: Flags = table[plan.ops.kind]
    return out


def buffer_name(plan: Plan, buffer: int) -> str:
    """Return a buffer's space, role and place, e.g. ``device boundary 0.1.3 (buffer 7)``."""
    view = plan.buffer(buffer)
    where = f"{view.space.label} {view.role.label}"
    return f"{where} {view.stage}.{view.unit}.{view.microbatch} (buffer {plan.buffer_id(buffer)})"
