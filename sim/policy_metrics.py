"""A sweep computes a step's metrics for many policies here, without making their plans.

The planner's own walk runs with a clock and writes no rows (:mod:`loadahead.sim.planner.lower`), so that the metrics
are those of the plan that would be built, as the engines simulate it. Tasks and their arena are made once for all
points that differ in costs and sizes, or in what is offloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loadahead.sim.clock import step_time
from loadahead.sim.compiled import compiled
from loadahead.sim.costs import Costs
from loadahead.sim.ir.kinds import QUEUES_PER_RANK
from loadahead.sim.ir.plan import Ints
from loadahead.sim.overlap import copying_and_hidden, overlap
from loadahead.sim.placement import Placement
from loadahead.sim.planner import Order, Policy
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import Arena, UnitSizes
from loadahead.sim.planner.build import order_for
from loadahead.sim.planner.columns import few, operations_of, require_no_deadlock
from loadahead.sim.planner.horizon import decide
from loadahead.sim.planner.lower import lower_without_rows
from loadahead.sim.planner.tasks import Tasks, tasks_of, units_of
from loadahead.sim.step_metrics import METRIC_COLUMNS, NOT_KNOWN, ROOM_COLUMNS, STALLS, Room, SweepRow, stall_field
from loadahead.sim.workload import Workload

# A row's integer metrics, in the order in which the compiled walk writes them; ``overlap``, a float, comes beside them.
_INTEGERS = [name for name in METRIC_COLUMNS if name not in ("overlap", "kept", *ROOM_COLUMNS)]
_STALLS = len(STALLS)
_FIRST_STALL, _OFFLOADED, _HOST = 4, 4 + _STALLS, 5 + _STALLS
assert _INTEGERS[_FIRST_STALL:_HOST] == [*map(stall_field, STALLS), "offloaded"], "the walk writes peaks, then these"
assert len(_INTEGERS) == _HOST + 1, "and then what the fullest host needs"
# What is kept beyond these is thrown away, the oldest first: a sweep of a million models must not fill the memory.
_MOST_KEPT = 64
_MOST_BYTES = 2**28


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Holds what points share whose order, checkpointing and numbers of units are the same.

    ``slots`` is where the decisions of one policy after the other are written, (release, acquire).
    """

    order: Order
    tasks: Tasks
    arena: Arena
    slots: tuple[Ints, Ints]

    @classmethod
    def of(cls, workload: Workload, policy: Policy, sizes: UnitSizes) -> Group:
        """Return the group of a point; raise InputError where workload and policy do not match."""
        order = order_for(workload, policy)
        tasks = tasks_of(units_of(workload, order), order, workload.frozen_units)
        operations = operations_of(tasks, policy.checkpoint, tasks.boundaries if policy.checkpoint else 0)
        arena = Arena(tasks, sizes, operations, checkpoint=policy.checkpoint, recording=False)
        slots = (np.empty(tasks.boundaries, dtype=np.int64), np.empty(tasks.boundaries, dtype=np.int64))
        return cls(order=order, tasks=tasks, arena=arena, slots=slots)

    def put(self, sizes: UnitSizes, table: Ints, costs: Costs) -> bool:
        """Take a point's sizes and costs, and return whether its step is sure to fit 64 bits."""
        self.arena.put_sizes(sizes, self.tasks)
        return self.arena.put_costs(costs, table, sizes, self.tasks)

    def rows(
        self,
        policies: Sequence[Policy],
        axes: Sequence[Mapping[str, Any]],
        placement: Placement,
        room: Room = NOT_KNOWN,
    ) -> list[SweepRow]:
        """Return the row of each policy, with its axes and the room that all have; raise InputError for a deadlock."""
        settings = np.asarray(
            [
                (
                    p.horizon,
                    p.horizon_unit == "layers",
                    p.release_window,
                    p.min_bytes,
                    p.offload,
                    few(p.receive_ahead),
                )
                for p in policies
            ],
            dtype=np.int64,
        ).reshape(len(policies), 6)
        sizes = self.arena.view(a.UNIT_ROWS)[:, a.U_BOUNDARY].copy()
        ints, shares = np.empty((len(policies), len(_INTEGERS)), dtype=np.int64), np.empty(len(policies))
        hosts = placement.occupancy(self.tasks.ranks)
        stuck = int(
            _evaluate(self.arena.memory, self.tasks.columns(), sizes, *self.slots, settings, hosts, ints, shares)
        )
        require_no_deadlock(self.arena, stuck, self.tasks, self.order)
        self.arena.require_room()
        rows = zip(axes, ints.tolist(), shares.tolist(), strict=True)
        known = {name: getattr(room, name) for name in ROOM_COLUMNS}
        return [self._row(own, values, share, known) for own, values, share in rows]

    def row_of_slots(
        self, release: Ints, acquire: Ints, placement: Placement, room: Room, receive_ahead: int
    ) -> SweepRow:
        """Return the row of the plan with these slots, both of shape (boundaries,), -1 where a boundary stays.

        Its axes are empty. Raise InputError for an order that deadlocks.
        """
        self.arena.memory[a.RECEIVE_AHEAD] = few(receive_ahead)
        ints, hosts = np.zeros(len(_INTEGERS), dtype=np.int64), placement.occupancy(self.tasks.ranks)
        stuck = int(lower_without_rows(self.arena.memory, release, acquire))
        require_no_deadlock(self.arena, stuck, self.tasks, self.order)
        self.arena.require_room()
        share = float(_summary(self.arena.memory, hosts, ints))
        ints[_OFFLOADED] = int((acquire >= 0).sum())
        return self._row({}, ints.tolist(), share, {name: getattr(room, name) for name in ROOM_COLUMNS})

    def _row(self, axes: Mapping[str, Any], values: list[int], share: float, room: Mapping[str, Any]) -> SweepRow:
        metrics: dict[str, Any] = dict(zip(_INTEGERS, values, strict=True))
        kept = self.tasks.boundaries - self.tasks.frozen_boundaries - values[_OFFLOADED]
        return SweepRow(axes=axes, overlap=share, kept=kept, **metrics, **room)


@dataclass(slots=True)
class Groups:
    """Keeps the groups, sizes and cost tables of the points of one sweep, to be used again."""

    _groups: dict[Hashable, Group] = field(default_factory=dict)
    # By identity; the objects are kept too, so that no other one gets theirs.
    _sizes: dict[int, tuple[Workload, UnitSizes]] = field(default_factory=dict)
    _tables: dict[int, tuple[Any, Ints]] = field(default_factory=dict)
    # Rows that took a search, with the objects whose identities stand in their keys.
    _tuned: dict[Hashable, tuple[SweepRow, object]] = field(default_factory=dict)

    def rows(
        self,
        workload: Workload,
        costs: Costs,
        policies: Sequence[Policy],
        axes: Sequence[Mapping[str, Any]],
        room: Room = NOT_KNOWN,
    ) -> list[SweepRow] | None:
        """Return the rows of policies that differ only in what is offloaded, and when, and have the same room.

        Their horizons and horizon units, ``release_window``, ``min_bytes``, ``receive_ahead`` and whether they offload
        may differ. None comes back where a sum might leave 64 bits: a plan's own sums say whether it does. Raise
        InputError where workload, costs and policies do not match, and for an order that deadlocks.
        """
        group = self._group(workload, costs, policies[0])
        return None if group is None else group.rows(policies, axes, costs.placement, room)

    def tuned(self, key: Hashable, row: Callable[[], SweepRow], alive: object) -> SweepRow:
        """Return a row that took a search, made once for each key, whose identities are those of ``alive``."""
        if key not in self._tuned:
            _make_room(self._tuned)
            self._tuned[key] = row(), alive
        return self._tuned[key][0]

    def with_peaks(self, workload: Workload, costs: Costs, policy: Policy) -> tuple[SweepRow, Ints] | None:
        """Return one policy's row, and each rank's peak of device memory in bytes, shape (ranks,); or None.

        When None comes back, and what is raised, is as in :meth:`rows`.
        """
        group = self._group(workload, costs, policy)
        if group is None:
            return None
        (row,) = group.rows([policy], [{}], costs.placement)
        return row, group.arena.view(a.RANK_ROWS)[:, a.R_PEAK].copy()

    def _group(self, workload: Workload, costs: Costs, policy: Policy) -> Group | None:
        """Return a point's group with its sizes and costs; None where a sum might leave 64 bits."""
        sizes = self._sizes_of(workload)
        units = tuple(map(len, workload.stages))
        choices = (policy.pipeline, policy.ranks, policy.microbatches, policy.active_microbatches, policy.order)
        key = (choices, policy.checkpoint, units, sizes.classes, workload.frozen_units)
        if key not in self._groups:
            _make_room(self._groups)
            while sum(group.arena.memory.nbytes for group in self._groups.values()) > _MOST_BYTES:
                self._groups.pop(next(iter(self._groups)))
            self._groups[key] = Group.of(workload, policy, sizes)
        group = self._groups[key]
        return group if group.put(sizes, self._table_of(costs, units), costs) else None

    def _sizes_of(self, workload: Workload) -> UnitSizes:
        if id(workload) not in self._sizes:
            _make_room(self._sizes)
            self._sizes[id(workload)] = workload, UnitSizes.of(workload)
        return self._sizes[id(workload)][1]

    def _table_of(self, costs: Costs, units: Sequence[int]) -> Ints:
        if id(costs.units) not in self._tables:
            _make_room(self._tables)
            self._tables[id(costs.units)] = costs.units, costs.table()
        costs.require_units(units)
        return self._tables[id(costs.units)][1]


def _make_room(kept: dict[Any, Any]) -> None:
    while len(kept) >= _MOST_KEPT:
        kept.pop(next(iter(kept)))


@compiled
def _evaluate(m, tasks, sizes, release, acquire, settings, hosts, ints, shares):  # type: ignore[no-untyped-def]
    for p in range(len(settings)):
        horizon, layers, window, least = settings[p, 0], settings[p, 1] != 0, settings[p, 2], settings[p, 3]
        leave = settings[p, 4] != 0 and m[a.CHECKPOINT] != 0
        m[a.RECEIVE_AHEAD] = settings[p, 5]
        choices = (horizon, layers, window, least, leave)
        ints[p, _OFFLOADED] = decide(tasks, sizes, m[a.MICROBATCHES], *choices, release, acquire)
        stuck = lower_without_rows(m, release, acquire)
        if stuck >= 0:
            return stuck
        shares[p] = _summary(m, hosts, ints[p])
    return -1


@compiled
def _summary(m, hosts, out):  # type: ignore[no-untyped-def]
    """Fill all integer metrics but the number offloaded, and return the overlap."""
    out[:_OFFLOADED], out[_HOST] = 0, 0
    copying, hidden = 0, 0.0
    for r in range(m[a.RANK_ROWS], m[a.UNIT_ROWS], a.RANK_WIDTH):
        for queue in range(QUEUES_PER_RANK):
            out[0] = max(out[0], m[r + a.R_QUEUE_END + queue])
        out[1], out[2] = max(out[1], m[r + a.R_PEAK]), max(out[2], m[r + a.R_BOUNDARY_PEAK])
        out[3] = max(out[3], m[r + a.R_HOST])
        for stall in range(_STALLS):
            out[_FIRST_STALL + stall] = max(out[_FIRST_STALL + stall], m[r + a.R_STALLED + stall])
        first, end = r + a.R_FIRST_SPAN, r + a.R_SPAN
        busy, leaving, coming = m[m[first] : m[end]], m[m[first + 1] : m[end + 1]], m[m[first + 2] : m[end + 2]]
        moving, both = copying_and_hidden(busy, leaving, coming)
        copying += moving
        hidden += overlap(moving, both) * moving
    needs = 0
    for row in range(len(hosts)):
        if row == 0 or hosts[row, 0] != hosts[row - 1, 0]:
            needs = 0
        needs += hosts[row, 2] * m[m[a.RANK_ROWS] + hosts[row, 1] * a.RANK_WIDTH + a.R_HOST]
        out[_HOST] = max(out[_HOST], needs)
    out[0] = step_time(m[a.FIRST_START], out[0])
    return overlap(copying, hidden)
