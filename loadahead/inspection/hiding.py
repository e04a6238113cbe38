"""Whether a rank's copies end in time, if its tasks run back to back: then it waits for none of them in any step.

Whatever else a rank waits for, other ranks above all, only gives copies more time: between the places where a copy may
begin and where it has to have ended lie the same tasks. Launches are left out, which delay a copy and not its task,
and sends that go over the links of copies.

Which boundaries leave, and where they are loaded, is asked of the maker of decisions itself. A horizon in layers loads
the boundary of a rank's first BACKWARD directly before that: the rank waits for this copy whatever the horizon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from loadahead.sim.costs import Costs, UnitCost, moving_ns, require_total
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner import Policy
from loadahead.sim.planner.horizon import decide
from loadahead.sim.planner.orders import Order
from loadahead.sim.planner.orders.base import eager_forward
from loadahead.sim.planner.tasks import Tasks, tasks_of
from loadahead.sim.workload import UnitShape, Workload

# Release windows that are looked at: the first ones, the scenario's, and those that follow it.
WINDOWS = 8
# Microbatches of a steady state that are looked at, and how many wait for their backward. What copies are behind is the
# same at the end of each turn but the first, if the link has the time for a turn's.
TURNS, IN_FLIGHT = 8, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyTimes:
    """Says how long a link's copies take at one bandwidth each way, in bytes per second."""

    costs: Costs
    out_rate: int
    back_rate: int

    def out(self, nbytes: int) -> int:
        """Return the time of a copy to the host, in ns."""
        return self.costs.d2h_latency_ns + moving_ns(nbytes, self.out_rate)

    def back(self, nbytes: int) -> int:
        """Return the time of a copy from the host, in ns."""
        return self.costs.h2d_latency_ns + moving_ns(nbytes, self.back_rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Says from which horizon on, in the scenario's unit, and at which release window, or a larger one, it holds."""

    horizon: int
    release_window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """Says from where on no copy makes a rank wait, launches and sends over the links of copies apart.

    Attributes:
        horizon_unit: "tasks" or "layers".
        leaving: how many of the rank's boundaries leave there.
        can_leave: how many do so at the smallest horizon and release window.
        boundaries: how many there are.
        first_wait_ns: for how long, at most, the rank waits for the first copy back, which a horizon in layers has
            begin when it is needed; 0 where it has not.
    """

    at: Horizon
    horizon_unit: str
    leaving: int
    can_leave: int
    boundaries: int
    first_wait_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts a rank's boundaries.

    Attributes:
        boundaries: all that a BACKWARD needs.
        can_leave: those that leave at the smallest horizon and release window; no others let more leave.
        small: those that stay for their size alone.
        largest_small_bytes: the largest of these; 0 where there is none.
    """

    boundaries: int
    can_leave: int
    small: int = 0
    largest_small_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lane:
    """Holds a rank's tasks back to back, and the boundaries that may leave it.

    Attributes:
        policy: the choices apart from horizon and release window.
        columns: the rank's own tasks, as a maker of decisions takes them; its units are counted from 0.
        sizes: bytes of each unit's boundary.
        begins: when each task begins, in ns, and when the last one ends; shape (tasks + 1,).
        forward, backward: the tasks that read each boundary; shape (boundaries,).
        out_ns, back_ns: how long its copies take.
        by_forward, by_backward: the boundaries that are looked at, in the order of their tasks.
    """

    policy: Policy
    columns: tuple[Ints, ...]
    sizes: Ints
    begins: Ints
    forward: Ints
    backward: Ints
    out_ns: Ints
    back_ns: Ints
    by_forward: Ints
    by_backward: Ints

    @classmethod
    def of(cls, tasks: Tasks, rank: int, workload: Workload, policy: Policy, costs: Costs, times: CopyTimes) -> Self:
        """Return a rank's lane; raise InputError where its times add up to more than can be simulated."""
        places = [(int(tasks.stage[unit]), int(tasks.place[unit])) for unit in np.flatnonzero(tasks.rank == rank)]
        units = [(workload.stages[stage][place], costs.units[stage][place]) for stage, place in places]
        return cls._of(tasks, rank, units, policy, times, slice(0, tasks.microbatches))

    @classmethod
    def in_turns(
        cls, units: Sequence[tuple[UnitShape, UnitCost]], frozen: int, policy: Policy, times: CopyTimes
    ) -> Self:
        """Return the lane of a stage whose passes take turns, one backward and one forward.

        Args:
            units: the stage's, the first ``frozen`` of which have no backward.
        """
        microbatches = TURNS + 2 * IN_FLIGHT
        order = Order("turns", (eager_forward(0, microbatches, IN_FLIGHT),))
        tasks = tasks_of((len(units),), order, frozen)
        return cls._of(tasks, 0, units, policy, times, slice(IN_FLIGHT, IN_FLIGHT + TURNS))

    @classmethod
    def _of(
        cls,
        tasks: Tasks,
        rank: int,
        units: Sequence[tuple[UnitShape, UnitCost]],
        policy: Policy,
        times: CopyTimes,
        microbatches: slice,
    ) -> Self:
        """Return a rank's lane, on which the copies of these microbatches are looked at."""
        first, stop = int(tasks.start[rank]), int(tasks.start[rank + 1])
        own = np.flatnonzero(tasks.rank == rank)
        of_task, goes_back = np.searchsorted(own, tasks.unit[first:stop]), tasks.backward[first:stop]
        forward_ns = np.asarray([cost.forward_ns for _, cost in units], dtype=np.int64)
        backward_ns = np.asarray([cost.recompute_ns + cost.backward_ns for _, cost in units], dtype=np.int64)
        durations = np.where(goes_back != 0, backward_ns[of_task], forward_ns[of_task])
        require_total(durations, "durations", "ns")
        rows = own[:, None] * tasks.microbatches + np.arange(tasks.microbatches)
        forward, backward = tasks.forward_at[rows.ravel()], tasks.backward_at[rows.ravel()]
        number = np.arange(rows.size).reshape(rows.shape)[:, microbatches].ravel()
        looked_at = number[backward[number] >= 0]
        sizes = np.asarray([shape.boundary_bytes for shape, _ in units], dtype=np.int64)
        copies = [np.asarray([way(size) for size in sizes.tolist()], dtype=np.int64) for way in (times.out, times.back)]
        start = np.asarray([0, stop - first], dtype=np.int64)
        of_own = (start, of_task.astype(np.int64), tasks.microbatch[first:stop].copy(), goes_back.copy())
        return cls(
            policy=policy,
            columns=(*of_own, forward, backward),
            sizes=sizes,
            begins=np.concatenate([[0], np.cumsum(durations)]),
            forward=forward,
            backward=backward,
            out_ns=np.repeat(copies[0], tasks.microbatches),
            back_ns=np.repeat(copies[1], tasks.microbatches),
            by_forward=looked_at[np.argsort(forward[looked_at])],
            by_backward=looked_at[np.argsort(backward[looked_at])],
        )

    @property
    def counts(self) -> Counts:
        """Return how many boundaries are looked at, and how many of them can leave."""
        sizes = np.repeat(self.sizes, len(self.forward) // len(self.sizes))[self.by_forward]
        small = sizes[sizes < self.policy.min_bytes]
        return Counts(
            boundaries=len(sizes),
            can_leave=self.leaving(1, 1),
            small=len(small),
            largest_small_bytes=int(small.max(initial=0)),
        )

    def acquires(self, horizon: int, window: int) -> Ints:
        """Return the slot of each boundary's ACQUIRE, -1 where it stays; shape (boundaries,)."""
        release, acquire = (np.empty(len(self.forward), dtype=np.int64) for _ in range(2))
        microbatches = len(self.forward) // len(self.sizes)
        settings = (horizon, self.policy.horizon_unit == "layers", window, self.policy.min_bytes, True)
        decide(self.columns, self.sizes, microbatches, *settings, release, acquire)
        return acquire

    def leaving(self, horizon: int, window: int) -> int:
        """Return how many boundaries leave."""
        return int((self.acquires(horizon, window)[self.by_forward] >= 0).sum())

    @property
    def first_backward(self) -> int:
        """Return the place of the first BACKWARD; the end of all tasks where there is none."""
        return int(self.backward[self.backward >= 0].min(initial=len(self.begins) - 1))

    def first_wait_ns(self, window: int) -> int:
        """Return how long the copy back takes that no horizon has begin before it is needed; 0 where there is none.

        A horizon in layers loads nothing before the rank's first BACKWARD, so that what this needs is loaded directly
        before it. In tasks an ACQUIRE stands at least one task earlier.
        """
        first = self.by_backward[:1]
        if self.policy.horizon_unit == "tasks" or (self.backward[first] != self.first_backward).any():
            return 0
        return int(self.back_ns[first[self.acquires(1, window)[first] >= 0]].sum())

    def in_time(self, horizon: int, window: int) -> bool:
        """Return whether every copy ends before the task that its RELEASE or its BACKWARD stands before.

        Tasks begin when those before them end, but the first BACKWARD after :meth:`first_wait_ns`.
        """
        acquire = self.acquires(horizon, window)
        out, back = (order[acquire[order] >= 0] for order in (self.by_forward, self.by_backward))
        first, second, slot = self.forward[out], self.backward[back], acquire[back]
        # The wait for the first copy back gives copies out more time: there it is left out.
        if not _in_time(self.begins[first + 1], self.out_ns[out], self.begins[first + window + 1]):
            return False
        wait, behind = self.first_wait_ns(window), self.first_backward
        ready = self.begins[slot] + np.where(slot > behind, wait, 0)
        return _in_time(ready, self.back_ns[back], self.begins[second] + np.where(second >= behind, wait, 0))

    def free(self, window: int) -> Free | None:
        """Return the smallest horizon at which every copy is in time; None where there is none.

        At a larger one fewer boundaries leave, and each may be loaded earlier, so that copies are in time there too:
        in tasks each ACQUIRE stands earlier; in layers the boundary whose BACKWARD it follows is one further back
        among fewer.
        """
        none_leaves = _first(lambda horizon: not self.leaving(horizon, window), 1, len(self.begins))
        low = _first(lambda horizon: self.in_time(horizon, window), 1, none_leaves)
        if low == none_leaves:
            return None
        return Free(
            at=Horizon(horizon=low, release_window=window),
            horizon_unit=self.policy.horizon_unit,
            leaving=self.leaving(low, window),
            can_leave=self.leaving(1, 1),
            boundaries=len(self.by_forward),
            first_wait_ns=self.first_wait_ns(window),
        )

    def freedom(self) -> Free | None:
        """Return the same for the release window at which most boundaries leave, the smallest of those."""
        own = self.policy.release_window
        windows = sorted({*range(1, 1 + WINDOWS), *range(own, own + WINDOWS)})
        found = [free for window in windows if (free := self.free(window)) is not None]
        return min(found, key=lambda free: (-free.leaving, free.at.horizon + free.at.release_window), default=None)


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the first number from which on it holds, ``high`` where that is none below it."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _in_time(ready: Ints, ns: Ints, due: Ints) -> bool:
    """Return whether copies that run one after the other, each once it is ready, end when they are due or earlier."""
    done = np.cumsum(ns)
    end = done + np.maximum.accumulate(ready - (done - ns)) if len(ns) else done
    return bool((end <= due).all())
