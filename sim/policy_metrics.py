"""A sweep computes a step's metrics for many policies here, without making their plans.

The planner's own walk runs with a clock and writes no rows (:mod:`loadahead.sim.planner.lower`), so that the metrics
are those of the plan that would be built, as the engines simulate it. Tasks and their arena are made once for all
points that differ in costs and sizes, or in what is offloaded.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loadahead.sim.compiled import compiled
from loadahead.sim.costs import MOST_TOTAL, Costs
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Ints
from loadahead.sim.overlap import copying_and_hidden, overlap
from loadahead.sim.planner import Order, Policy
from loadahead.sim.planner import arena as a
from loadahead.sim.planner.arena import SPANNED, Arena, UnitSizes, get
from loadahead.sim.planner.build import order_for
from loadahead.sim.planner.columns import operations_of, require_no_deadlock
from loadahead.sim.planner.horizon import decide
from loadahead.sim.planner.lower import lower
from loadahead.sim.planner.tasks import Tasks, tasks_of, units_of
from loadahead.sim.step_metrics import METRIC_COLUMNS, STALLS, SweepRow, stall_field
from loadahead.sim.workload import Workload

# A row's integer metrics, in the order in which the compiled walk writes them; ``overlap``, a float, comes beside them.
_INTEGERS = [name for name in METRIC_COLUMNS if name not in ("overlap", "kept")]
_STALLS = len(STALLS)
_FIRST_STALL, _OFFLOADED = 4, 4 + _STALLS
assert _INTEGERS[_FIRST_STALL:] == [*map(stall_field, STALLS), "offloaded"], "the walk writes peaks, stalls, offloaded"
# More kept tables and tasks than these are thrown away: a sweep of a million models must not fill the memory.
_MOST_KEPT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Holds what points share whose order, checkpointing and numbers of units are the same."""

    order: Order
    tasks: Tasks
    arena: Arena
    operations: int

    @classmethod
    def of(cls, workload: Workload, policy: Policy, sizes: UnitSizes) -> Group:
        """Return the group of a point; raise InputError where workload and policy do not match."""
        order = order_for(workload, policy)
        tasks = tasks_of(units_of(workload, order), order)
        operations = operations_of(tasks, policy.checkpoint, tasks.boundaries if policy.checkpoint else 0)
        arena = Arena(tasks, sizes, operations, recording=False)
        arena.memory[a.CHECKPOINT] = policy.checkpoint
        return cls(order=order, tasks=tasks, arena=arena, operations=operations)

    def put(self, sizes: UnitSizes, tables: tuple[Ints, Ints], costs: Costs) -> None:
        """Take a point's sizes and costs; raise InputError where its step cannot be simulated."""
        arena, ranks, placement = self.arena, self.tasks.ranks, self.tasks.stage_rank
        arena.put_sizes(sizes)
        duration = arena.view(a.DURATION)
        duration[...], arena.view(a.WORKSPACE)[...] = tables
        boundary, gradient = sizes.boundaries, sizes.gradients
        duration[:, Kind.OFFLOAD] = costs.transfer(Kind.OFFLOAD, boundary.distinct)[boundary.of_unit]
        duration[:, Kind.PREFETCH] = costs.transfer(Kind.PREFETCH, boundary.distinct)[boundary.of_unit]
        duration[:-1, Kind.SEND_ACTIVATION] = costs.transfer(Kind.SEND_ACTIVATION, boundary.distinct)[
            boundary.of_unit[1:]
        ]
        duration[:, Kind.SEND_GRADIENT] = costs.transfer(Kind.SEND_GRADIENT, gradient.distinct)[gradient.of_unit]
        arena.view(a.LAUNCH)[...] = costs.launch_table()
        arena.view(a.OPTIMIZER)[...] = costs.optimizer(placement, ranks)
        arena.view(a.OPTIMIZER_WORKSPACE)[...] = costs.optimizer_bytes(placement, ranks)
        arena.view(a.STATIC)[...] = costs.static(placement, ranks)
        self._require_totals(sizes)

    def _require_totals(self, sizes: UnitSizes) -> None:
        """Raise InputError unless every sum of the step stays well inside int64; floats are used, which do not wrap."""
        view, microbatches = self.arena.view, float(self.tasks.microbatches)
        times = float(view(a.DURATION).sum(dtype=np.float64)) * microbatches
        times += float(view(a.OPTIMIZER).sum()) + float(view(a.LAUNCH).max()) * self.operations
        # No unit has more than seven buffers of a microbatch at once.
        nbytes = 7 * microbatches * sizes.total
        for total, what, unit in ((times, "durations", "ns"), (nbytes, "sizes", "bytes")):
            if total > MOST_TOTAL:
                raise InputError(
                    f"the step's {what} add up to {total:.3g} {unit}; at most {MOST_TOTAL} can be simulated"
                )

    def rows(self, policies: Sequence[Policy], axes: Sequence[Mapping[str, Any]]) -> list[SweepRow]:
        """Return the row of each policy, with its axes; raise InputError for an order that deadlocks."""
        settings = np.asarray(
            [(p.horizon, p.horizon_unit == "layers", p.release_window, p.offload) for p in policies], dtype=np.int64
        ).reshape(len(policies), 4)
        ints, shares = np.empty((len(policies), len(_INTEGERS)), dtype=np.int64), np.empty(len(policies))
        stuck = int(_evaluate(self.arena.memory, settings, ints, shares))
        require_no_deadlock(self.arena, stuck, self.tasks, self.order)
        self.arena.require_room()
        rows = zip(axes, ints.tolist(), shares.tolist(), strict=True)
        return [self._row(own, values, share) for own, values, share in rows]

    def _row(self, axes: Mapping[str, Any], values: list[int], share: float) -> SweepRow:
        metrics: dict[str, Any] = dict(zip(_INTEGERS, values, strict=True))
        return SweepRow(axes=axes, overlap=share, kept=self.tasks.boundaries - values[_OFFLOADED], **metrics)


@dataclass(slots=True)
class Groups:
    """Keeps the groups, sizes and cost tables of the points of one sweep, to be used again."""

    _groups: dict[Hashable, Group] = field(default_factory=dict)
    # By identity; the objects are kept too, so that no other one gets theirs.
    _sizes: dict[int, tuple[Workload, UnitSizes]] = field(default_factory=dict)
    _tables: dict[int, tuple[Any, tuple[Ints, Ints]]] = field(default_factory=dict)

    def rows(
        self, workload: Workload, costs: Costs, policies: Sequence[Policy], axes: Sequence[Mapping[str, Any]]
    ) -> list[SweepRow]:
        """Return the rows of policies that differ only in horizon, its unit, release window and whether to offload.

        Raise InputError where workload, costs and policies do not match, and for an order that deadlocks.
        """
        policy, sizes = policies[0], self._sizes_of(workload)
        units = tuple(map(len, workload.stages))
        choices = (policy.pipeline, policy.ranks, policy.microbatches, policy.active_microbatches, policy.order)
        key = (choices, policy.checkpoint, units, len(sizes.boundaries.distinct))
        if key not in self._groups:
            _make_room(self._groups)
            self._groups[key] = Group.of(workload, policy, sizes)
        group = self._groups[key]
        group.put(sizes, self._tables_of(costs, units), costs)
        return group.rows(policies, axes)

    def _sizes_of(self, workload: Workload) -> UnitSizes:
        if id(workload) not in self._sizes:
            _make_room(self._sizes)
            self._sizes[id(workload)] = workload, UnitSizes.of(workload)
        return self._sizes[id(workload)][1]

    def _tables_of(self, costs: Costs, units: Sequence[int]) -> tuple[Ints, Ints]:
        if id(costs.units) not in self._tables:
            _make_room(self._tables)
            self._tables[id(costs.units)] = costs.units, costs.tables()
        costs.require_units(units)
        return self._tables[id(costs.units)][1]


def _make_room(kept: dict[Any, Any]) -> None:
    while len(kept) >= _MOST_KEPT:
        kept.pop(next(iter(kept)))


@compiled
def _evaluate(m, settings, ints, shares):  # type: ignore[no-untyped-def]
    boundaries, tasks, ranks = m[a.UNITS] * m[a.MICROBATCHES], get(m, a.TASK_START, m[a.RANKS]), m[a.RANKS]
    columns = (
        m[m[a.TASK_START] : m[a.TASK_START] + ranks + 1],
        m[m[a.TASK_UNIT] : m[a.TASK_UNIT] + tasks],
        m[m[a.TASK_MICROBATCH] : m[a.TASK_MICROBATCH] + tasks],
        m[m[a.TASK_BACKWARD] : m[a.TASK_BACKWARD] + tasks],
        m[m[a.FORWARD_AT] : m[a.FORWARD_AT] + boundaries],
        m[m[a.BACKWARD_AT] : m[a.BACKWARD_AT] + boundaries],
    )
    release = m[m[a.RELEASE_SLOT] : m[a.RELEASE_SLOT] + boundaries]
    acquire = m[m[a.ACQUIRE_SLOT] : m[a.ACQUIRE_SLOT] + boundaries]
    for p in range(len(settings)):
        horizon, layers, window, offload = settings[p, 0], settings[p, 1] != 0, settings[p, 2], settings[p, 3] != 0
        leave = offload and m[a.CHECKPOINT] != 0
        m[a.SENT_WINDOW] = window
        ints[p, _OFFLOADED] = decide(columns, m[a.MICROBATCHES], horizon, layers, window, leave, release, acquire)
        stuck = lower(m)
        if stuck >= 0:
            return stuck
        shares[p] = _summary(m, ints[p])
    return -1


@compiled
def _summary(m, out):  # type: ignore[no-untyped-def]
    """Fill all integer metrics but the number offloaded, and return the overlap."""
    out[0] = m[a.LAST_END] - m[a.FIRST_START]
    out[1:_OFFLOADED] = 0
    copying, hidden = 0, 0.0
    spans = m[a.SPAN_ROOM]
    for rank in range(m[a.RANKS]):
        out[1], out[2] = max(out[1], get(m, a.PEAK, rank)), max(out[2], get(m, a.BOUNDARY_PEAK, rank))
        out[3] = max(out[3], get(m, a.HOST_BYTES, rank))
        for stall in range(_STALLS):
            at = _FIRST_STALL + stall
            out[at] = max(out[at], get(m, a.STALLED, rank * _STALLS + stall))
        first, counts = m[a.SPANS] + 2 * get(m, a.SPAN_START, rank), m[a.SPAN_COUNT] + SPANNED * rank
        busy = m[first : first + 2 * m[counts]]
        leaving = m[first + 2 * spans : first + 2 * spans + 2 * m[counts + 1]]
        coming = m[first + 4 * spans : first + 4 * spans + 2 * m[counts + 2]]
        moving, both = copying_and_hidden(busy, leaving, coming)
        copying += moving
        hidden += overlap(moving, both) * moving
    return overlap(copying, hidden)
