"""The reference engine is a discrete-event simulation on SimPy.

Every queue is a process and every link a resource. An operation waits for the operation before it on its queue, for
all its edges, for its host and for its link (:mod:`loadahead.sim.clock`). Where links are shared, a copy under way is a
flow that learns of every change of its bandwidth (:mod:`loadahead.sim.links`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import simpy

from loadahead.sim.clock import finish, host_times, later
from loadahead.sim.costs import NANOSECONDS_PER_SECOND, Costs
from loadahead.sim.engines.base import Times
from loadahead.sim.ir.kinds import COPY_KINDS, SEND_KINDS, Queue, Space
from loadahead.sim.ir.plan import Ints, Plan
from loadahead.sim.links import before_flow, link_of, max_min, require_fits
from loadahead.sim.memory import level_after, level_during, row_sums
from loadahead.sim.routes import LinkTable

_Steps = Generator[simpy.Event, Any, None]


class SharedBandwidth:
    """Holds the flows under way, each with the work left at the last change and its rate."""

    def __init__(self, env: simpy.Environment, table: LinkTable) -> None:
        self._env = env
        self._table = table
        self._left: dict[int, int] = {}
        self._rate: dict[int, int] = {}
        self._known: dict[tuple[int, ...], dict[int, int]] = {}
        self._since = 0
        self._changed = env.event()

    def flow(self, link: int, nbytes: int) -> _Steps:
        """Move bytes over a link, at the rate it gets at each moment, until all have moved."""
        self._advance()
        self._left[link] = nbytes * NANOSECONDS_PER_SECOND
        self._share()
        while self._left[link] > 0:
            yield self._env.timeout(-(-self._left[link] // self._rate[link])) | self._changed
            self._advance()
        del self._left[link]
        self._share()

    def _advance(self) -> None:
        now = int(self._env.now)
        for link, rate in self._rate.items():
            self._left[link] -= rate * (now - self._since)
        self._since = now

    def _share(self) -> None:
        flowing = tuple(sorted(self._left))
        if flowing not in self._known:
            self._known[flowing] = max_min(self._table, flowing)
        self._rate = self._known[flowing]
        changed, self._changed = self._changed, self._env.event()
        changed.succeed()


class Simulation:
    """Runs one step of a plan on a clock of its own. Call :meth:`run` once.

    ``device_bytes`` and ``peak_device`` change as operations start and end, which checks the walk of
    :mod:`loadahead.sim.memory`, which needs no clock.
    """

    def __init__(self, plan: Plan, costs: Costs) -> None:
        self.env = simpy.Environment()
        self._plan = plan
        self._allowed, self._issued = (times.tolist() for times in host_times(plan, costs.launches(plan)))
        self._link_of = np.full(len(plan), -1)
        durations = costs.durations(plan)
        self._duration = durations.tolist()
        self._shared = self._make_shared(plan, costs, durations)
        self._edges = plan.ops.after.to_lists()
        self._start, self._end = [0] * len(plan), [0] * len(plan)
        self._done = [self.env.event() for _ in range(len(plan))]
        self._links = self._make_links(plan)
        self._rank = plan.ops.rank.tolist()
        self._taken, self._freed, self._workspace = self._memory(plan, costs)
        self.device_bytes = costs.static(plan.stage_rank, plan.ranks).tolist()
        self.peak_device = list(self.device_bytes)

    def _make_links(self, plan: Plan) -> list[simpy.Resource | None]:
        """Return the link each operation occupies. PCIe is full duplex: a rank has one link per direction."""
        using = {int(kind) for kind in COPY_KINDS | SEND_KINDS}
        queues = plan.queue_index.tolist()
        links = {number: simpy.Resource(self.env, capacity=1) for number in set(queues)}
        kinds = plan.ops.kind.tolist()
        return [links[q] if kind in using else None for q, kind in zip(queues, kinds, strict=True)]

    def _make_shared(self, plan: Plan, costs: Costs, durations: Ints) -> SharedBandwidth | None:
        """Return the shared bandwidth, or None without any; with it, a flow's duration is its latency alone."""
        table = LinkTable.of_plan(costs, plan)
        if costs.shared is None and not table.names:
            return None
        require_fits(plan, table, durations)
        self._link_of = link_of(plan, table)
        self._duration = before_flow(plan, costs, self._link_of, durations).tolist()
        return SharedBandwidth(self.env, table)

    @staticmethod
    def _memory(plan: Plan, costs: Costs) -> tuple[list[int], list[int], list[int]]:
        device: Ints = np.where(plan.buffers.space == Space.DEVICE, plan.buffers.nbytes, 0)
        taken, freed = row_sums(plan.ops.allocs, device), row_sums(plan.ops.frees, device)
        return taken.tolist(), freed.tolist(), costs.workspace(plan).tolist()

    def run(self) -> Times:
        """Run to the end and return the times of every operation."""
        for rank in range(self._plan.ranks):
            for queue in Queue:
                order = self._plan.queue_ops(rank, queue).tolist()
                if order:
                    self.env.process(self._queue(order))
        self.env.run()
        assert all(event.processed for event in self._done), "a well-formed plan cannot deadlock"
        return Times(np.asarray(self._start, dtype=np.int64), np.asarray(self._end, dtype=np.int64))

    def _queue(self, order: list[int]) -> _Steps:
        for op in order:
            for edge in self._edges[op]:
                if not self._done[edge].processed:
                    yield self._done[edge]
            yield from self._until(later(self._allowed[op], self.env.now))
            link = self._links[op]
            if link is None:
                yield from self._occupy(op)
                continue
            with link.request() as granted:
                yield granted
                yield from self._occupy(op)

    def _until(self, time: int) -> _Steps:
        if time > self.env.now:
            yield self.env.timeout(time - int(self.env.now))

    def _occupy(self, op: int) -> _Steps:
        """Run one operation: the memory it takes counts from its start, what it frees until its end."""
        rank, start = self._rank[op], int(self.env.now)
        level = self.device_bytes[rank]
        during = level_during(level, self._taken[op], self._workspace[op])
        self.device_bytes[rank] = during
        self.peak_device[rank] = max(self.peak_device[rank], during)
        if self._shared is not None and self._link_of[op] >= 0:
            yield from self._until(start + self._duration[op])
            yield from self._shared.flow(int(self._link_of[op]), int(self._plan.ops.nbytes[op]))
        else:
            yield from self._until(finish(start, self._duration[op], self._issued[op]))
        self._start[op], self._end[op] = start, int(self.env.now)
        self.device_bytes[rank] += level_after(level, self._taken[op], self._freed[op]) - during
        self._done[op].succeed()


def run(plan: Plan, costs: Costs) -> Times:
    """Return the times of every operation, as :class:`loadahead.sim.engines.base.Engine` describes."""
    return Simulation(plan, costs).run()
