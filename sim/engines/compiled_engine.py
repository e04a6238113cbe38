"""The compiled engine makes one pass over the plan's columns, in numba.

With fixed durations, FIFO queues and static edges, an operation's times follow from those of operations listed before
it (:mod:`loadahead.sim.clock`), so that list order visits every one of them first.

Where copies share links, that pass takes each copy at its own link's bandwidth. If nothing shared was then ever asked
for more than it has, every copy gets its whole link, and the result stands; otherwise the flows are followed event by
event (:mod:`loadahead.sim.engines.fluid`).
"""

from __future__ import annotations

import numpy as np

from loadahead.sim.clock import finish, host_times, later
from loadahead.sim.compiled import compiled
from loadahead.sim.costs import NANOSECONDS_PER_SECOND, Costs
from loadahead.sim.engines.base import Times
from loadahead.sim.ir.kinds import QUEUES_PER_RANK
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.links import before_flow, contended, link_of, require_fits
from loadahead.sim.routes import LinkTable


@compiled
def _forward(duration, queue_index, starts, values, allowed, issued, queue_end, start, end):  # type: ignore[no-untyped-def]
    """Fill ``start`` and ``end``; ``queue_end`` holds when each queue is free."""
    for i in range(len(duration)):
        at = later(allowed[i], queue_end[queue_index[i]])
        for e in range(starts[i], starts[i + 1]):
            at = later(at, end[values[e]])
        start[i] = at
        end[i] = queue_end[queue_index[i]] = finish(at, duration[i], issued[i])


def forward(plan: Plan, durations: Ints, allowed: tuple[Ints, Ints]) -> Times:
    """Return the times with fixed durations; arrays have shape (operations,) and are in ns.

    ``allowed`` is what :func:`loadahead.sim.clock.host_times` returns.
    """
    start, end = np.empty(len(plan), dtype=np.int64), np.empty(len(plan), dtype=np.int64)
    queue_end = np.zeros(plan.ranks * QUEUES_PER_RANK, dtype=np.int64)
    after = plan.ops.after
    _forward(durations, plan.queue_index, after.starts, after.values, *allowed, queue_end, start, end)
    return Times(start, end)


def run_alone(plan: Plan, costs: Costs) -> Times:
    """Return the times of every operation where no transfer slows another down."""
    return forward(plan, costs.durations(plan), host_times(plan, costs.launches(plan)))


def run(plan: Plan, costs: Costs) -> Times:
    """Return the times of every operation, as :class:`loadahead.sim.engines.base.Engine` describes."""
    durations = costs.durations(plan)
    times = forward(plan, durations, host_times(plan, costs.launches(plan)))
    table = LinkTable.of_plan(costs, plan)
    if not table.names:
        return times
    require_fits(plan, table, durations)
    link = link_of(plan, table)
    before = before_flow(plan, costs, link, durations)
    if not contended(table, link, times.start_ns + before, times.end_ns):
        return times
    return _shared(plan, costs, table, link, before)


def _shared(plan: Plan, costs: Costs, table: LinkTable, link: Ints, before: Ints) -> Times:
    """Return the times where copies slow each other down."""
    from loadahead.sim.engines.fluid import run_flows, too_large, waiting

    nbytes = np.where(link >= 0, plan.ops.nbytes, 0)
    reason = too_large(int(nbytes.max(initial=0)) * NANOSECONDS_PER_SECOND, table)
    if reason is not None:
        from loadahead.sim.engines.simpy_engine import run as reference

        times = reference(plan, costs)
        return Times(times.start_ns, times.end_ns, f"times are the reference engine's (simpy): {reason}")
    work, allowed = nbytes * NANOSECONDS_PER_SECOND, host_times(plan, costs.launches(plan))
    return Times(*run_flows(plan, table, link, before, work, allowed, waiting(plan)))
