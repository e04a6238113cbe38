"""Says what operations, buffers, tracks and waits are called in what is exported."""

from __future__ import annotations

from loadahead.reports.stalls import STALL_LOOKS
from loadahead.sim.ir.kinds import COPY_KINDS, RECV_KINDS, SEND_KINDS, TASK_KINDS, Kind, Queue

STALLS_TRACK = "stalls"
# A rank has these tracks, in this order: its queues, then what its compute queue waits for.
TRACKS = (*(queue.label for queue in Queue), STALLS_TRACK)
STALLS_PLACE = len(Queue)
STALL_NAMES = {stall: f"stall: {look.title}" for stall, look in STALL_LOOKS.items()}
_CATEGORIES = (("compute", TASK_KINDS), ("copy", COPY_KINDS), ("transfer", SEND_KINDS | RECV_KINDS))
CATEGORY_OF = [next((name for name, kinds in _CATEGORIES if kind in kinds), "memory") for kind in Kind]
STALL_CATEGORY = "stall"


def place_name(stage: int, unit: int, microbatch: int) -> str:
    """Return ``s0.u1 m3``; what is not of a unit or of a microbatch goes without."""
    of_unit = f"s{stage}.u{unit}" if min(stage, unit) >= 0 else ""
    return f"{of_unit} m{microbatch}".strip() if microbatch >= 0 else of_unit


def operation_name(kind: int, stage: int, unit: int, microbatch: int) -> str:
    """Return ``FORWARD s0.u1 m3``, or the kind alone where there is no microbatch."""
    return Kind(kind).name if microbatch < 0 else f"{Kind(kind).name} {place_name(stage, unit, microbatch)}"
