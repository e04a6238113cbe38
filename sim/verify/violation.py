"""A violation of a rule is shown with the operations concerned, marked in their queues."""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.sim.ir.kinds import QUEUES_PER_RANK, Queue
from loadahead.sim.ir.plan import Plan

# This many neighbours are shown on either side of a marked operation.
_NEIGHBOURS = 2


@dataclass(frozen=True, slots=True)
class Violation:
    """Holds a rule's name, one line about what breaks it, and the positions of the operations concerned."""

    rule: str
    message: str
    ops: tuple[int, ...]


def title(plan: Plan, op: int) -> str:
    """Return an operation's name and place, e.g. ``PREFETCH 0.1.3 (operation 17, rank 0 h2d)``."""
    view = plan.op(op)
    return f"{view.name} (operation {plan.op_id(op)}, rank {view.rank} {view.queue.label})"


def explain(plan: Plan, violation: Violation) -> str:
    """Return the message, then an excerpt of each queue concerned with the operations marked ``>...<``."""
    lines = [f"{violation.rule}: {violation.message}"]
    for number in sorted({int(plan.queue_index[op]) for op in violation.ops}):
        rank, queue = divmod(number, QUEUES_PER_RANK)
        lines.append(f"  rank {rank} {Queue(queue).label:8}{_excerpt(plan, rank, Queue(queue), violation.ops)}")
    return "\n".join(lines)


def _excerpt(plan: Plan, rank: int, queue: Queue, marked: tuple[int, ...]) -> str:
    order = plan.queue_ops(rank, queue).tolist()
    near = {
        index
        for op in marked
        if op in order
        for index in range(order.index(op) - _NEIGHBOURS, order.index(op) + _NEIGHBOURS + 1)
    }
    words, last = [], -1
    for index in sorted(i for i in near if 0 <= i < len(order)):
        if index != last + 1:
            words.append("...")
        op = order[index]
        text = f"{plan.op_id(op)}:{plan.op(op).name}"
        words.append(f">{text}<" if op in marked else text)
        last = index
    return " | ".join(words + (["..."] if last + 1 < len(order) else []))
