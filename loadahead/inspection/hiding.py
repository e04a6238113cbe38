"""Whether a rank's copies end in time, if its tasks run back to back: then it waits for none of them in any step.

Whatever else a rank waits for, other ranks above all, only gives copies more time: between the places where a copy may
begin and where it has to have ended lie the same tasks. Launches are left out, which delay a copy and not its task,
and sends that go over the links of copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadahead.sim.costs import Costs, moving_ns, require_total
from loadahead.sim.ir.plan import Ints
from loadahead.sim.planner import Policy
from loadahead.sim.planner.tasks import Tasks
from loadahead.sim.workload import Workload

# Release windows beyond the scenario's that are looked at.
MORE_WINDOWS = 7
# Passes of each kind in a steady state, and how many turns later a boundary's backward comes. What copies are behind is
# the same at the end of each turn but the first, if the link has the time for a turn's.
TURNS, IN_FLIGHT = 12, 4


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
    """Says from which horizon on, in tasks, and at which release window, or a larger one, something holds."""

    horizon: int
    release_window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """Says from where on no copy makes a rank wait, launches and sends over the links of copies apart.

    Attributes:
        leaving, boundaries: how many of the rank's boundaries leave there, and how many there are.
    """

    at: Horizon
    leaving: int
    boundaries: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lane:
    """Holds a rank's tasks back to back, and the boundaries that may leave it.

    Attributes:
        begins: when each task begins, in ns, and when the last one ends; shape (tasks + 1,).
        forward, backward: the tasks that read each boundary; shape (boundaries,), in the order of the forwards.
        out_ns, back_ns: how long its copies take.
        by_backward: the boundaries in the order of their backwards.
        kept: how many boundaries stay whatever the horizon, as they are too small.
    """

    begins: Ints
    forward: Ints
    backward: Ints
    out_ns: Ints
    back_ns: Ints
    by_backward: Ints
    kept: int

    @classmethod
    def of(cls, tasks: Tasks, rank: int, workload: Workload, policy: Policy, costs: Costs, times: CopyTimes) -> Lane:
        """Return a rank's lane; raise InputError where its times add up to more than can be simulated."""
        first, stop = int(tasks.start[rank]), int(tasks.start[rank + 1])
        own = np.flatnonzero(tasks.rank == rank).tolist()
        forward_ns, backward_ns = (np.zeros(len(tasks.stage), dtype=np.int64) for _ in range(2))
        at, out, back = [], [], []
        kept = 0
        for unit in own:
            stage, place = int(tasks.stage[unit]), int(tasks.place[unit])
            cost, nbytes = costs.units[stage][place], workload.stages[stage][place].boundary_bytes
            forward_ns[unit], backward_ns[unit] = cost.forward_ns, cost.recompute_ns + cost.backward_ns
            if unit >= tasks.frozen_units and nbytes >= policy.min_bytes:
                at.append(unit)
                out.append(times.out(nbytes))
                back.append(times.back(nbytes))
            elif unit >= tasks.frozen_units:
                kept += tasks.microbatches
        unit_of, goes_back = tasks.unit[first:stop], tasks.backward[first:stop] != 0
        durations = np.where(goes_back, backward_ns[unit_of], forward_ns[unit_of])
        require_total(durations, "durations", "ns")
        rows = (np.asarray(at, dtype=np.int64)[:, None] * tasks.microbatches + np.arange(tasks.microbatches)).ravel()
        forward, backward = tasks.forward_at[rows], tasks.backward_at[rows]
        order = np.argsort(forward)
        copies = [np.repeat(np.asarray(ns, dtype=np.int64), tasks.microbatches)[order] for ns in (out, back)]
        return cls(
            begins=np.concatenate([[0], np.cumsum(durations)]),
            forward=forward[order],
            backward=backward[order],
            out_ns=copies[0],
            back_ns=copies[1],
            by_backward=np.argsort(backward[order]),
            kept=kept,
        )

    @classmethod
    def in_turns(
        cls, forward_ns: Sequence[int], backward_ns: Sequence[int], copies: Sequence[tuple[int, int, int]]
    ) -> Lane:
        """Return the lane of a stage whose passes take turns, one forward and one backward, :data:`TURNS` of each.

        Args:
            forward_ns, backward_ns: each unit's task, in the order of the pass.
            copies: (unit, time out, time back) of each boundary that leaves.
        """
        turn, forwards = len(forward_ns) + len(backward_ns), len(forward_ns)
        durations = np.tile(np.asarray([*forward_ns, *backward_ns], dtype=np.int64), TURNS)
        require_total(durations, "durations", "ns")
        first = np.asarray([unit for unit, _, _ in copies], dtype=np.int64)
        turns = np.arange(TURNS - IN_FLIGHT, dtype=np.int64)[:, None] * turn
        forward = (turns + first).ravel()
        backward = (turns + IN_FLIGHT * turn + forwards + (forwards - 1 - first)).ravel()
        ns = [np.tile(np.asarray([copy[way] for copy in copies], dtype=np.int64), len(turns)) for way in (1, 2)]
        return cls(
            begins=np.concatenate([[0], np.cumsum(durations)]),
            forward=forward,
            backward=backward,
            out_ns=ns[0],
            back_ns=ns[1],
            by_backward=np.argsort(backward),
            kept=0,
        )

    def leaving(self, horizon: int, window: int) -> npt.NDArray[np.bool_]:
        """Return which boundaries leave (DESIGN, section 2: a later ACQUIRE than RELEASE); shape (boundaries,)."""
        out: npt.NDArray[np.bool_] = self.backward - horizon > self.forward + window
        return out

    def can_leave(self, window: int) -> bool:
        """Return whether any boundary leaves at the smallest horizon."""
        return bool(self.leaving(1, window).any())

    def in_time(self, horizon: int, window: int) -> bool:
        """Return whether every copy ends before the task that its RELEASE or its BACKWARD stands before."""
        leaving = self.leaving(horizon, window)
        out, back = np.flatnonzero(leaving), self.by_backward[leaving[self.by_backward]]
        first, second = self.forward[out], self.backward[back]
        return _in_time(self.begins[first + 1], self.out_ns[out], self.begins[first + window + 1]) and _in_time(
            self.begins[second - horizon], self.back_ns[back], self.begins[second]
        )

    def free(self, window: int) -> Free | None:
        """Return the smallest horizon at which every copy is in time; None where there is none.

        At a larger one fewer boundaries leave, and each may be loaded earlier, so that copies are in time there too.
        """
        low, high = 1, int((self.backward - self.forward).max(initial=0)) - window - 1
        if high < 1 or not self.in_time(high, window):
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.in_time(middle, window) else (middle + 1, high)
        leaving = int(self.leaving(low, window).sum())
        at = Horizon(horizon=low, release_window=window)
        return Free(at=at, leaving=leaving, boundaries=len(self.forward) + self.kept)

    def freedom(self, window: int) -> Free | None:
        """Return the same for this or a larger release window, that at which most boundaries leave.

        As many leave as are needed later than horizon and window together allow.
        """
        windows = range(window, window + 1 + MORE_WINDOWS)
        found = [free for more in windows if (free := self.free(more)) is not None]
        return min(found, key=lambda free: free.at.horizon + free.at.release_window, default=None)


def _in_time(ready: Ints, ns: Ints, due: Ints) -> bool:
    """Return whether copies that run one after the other, each once it is ready, end when they are due or earlier."""
    done = np.cumsum(ns)
    end = done + np.maximum.accumulate(ready - (done - ns)) if len(ns) else done
    return bool((end <= due).all())
