"""Leaves out waits that others imply: each costs the host a call, and its event another.

A plan keeps all its edges, so that each read and free has its own reason beside it and none has to be derived.
"""

from __future__ import annotations

from loadahead.sim.ir.plan import OpView, Plan


def needed_waits(plan: Plan, views: list[OpView]) -> list[list[int]]:
    """Return each operation's edges to other queues, without those that its queue and its other edges imply.

    What has ended before an operation starts is known by the last operation of every queue that has: that of the
    operation before on its queue, that of each edge, and the edge itself.
    """
    queues: list[int] = plan.queue_index.tolist()
    before: list[int] = plan.previous_in_queue.tolist()
    ended: list[dict[int, int]] = []  # by operation: the last of each queue that has ended when it starts
    out = []
    for op in views:
        known = dict(ended[before[op.index]]) if before[op.index] >= 0 else {}
        edges = [edge for edge in op.after if queues[edge] != queues[op.index]]
        needed = [
            edge
            for edge in dict.fromkeys(edges)
            if known.get(queues[edge], -1) < edge
            and not any(ended[other].get(queues[edge], -1) >= edge for other in edges if other != edge)
        ]
        # Of several on one queue the last implies the others.
        last = {queue: max(edge for edge in needed if queues[edge] == queue) for queue in {queues[e] for e in needed}}
        needed = [edge for edge in needed if last[queues[edge]] == edge]
        for edge in needed:
            for queue, index in (*ended[edge].items(), (queues[edge], edge)):
                known[queue] = max(known.get(queue, -1), index)
        if before[op.index] >= 0:
            known[queues[op.index]] = before[op.index]
        ended.append(known)
        out.append(needed)
    return out
