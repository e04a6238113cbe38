"""What tuning finds, as typed results. Times are in ns, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.sim.ir.decisions import Decisions
from loadahead.sim.planner import Policy
from loadahead.sim.planner.goal import Goal
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.tuning.bound import Bound
from loadahead.sim.tuning.limits import Limits, Missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Holds one plan that was looked at.

    Attributes:
        policy: the choices it is made from; its horizon decided where ``by_horizon`` says so, else it has no effect.
        decisions: on every boundary.
        row: what its step takes; its axes are empty.
        by_horizon: whether the decisions are those of the policy's horizon, or of keeping all.
    """

    policy: Policy
    decisions: Decisions
    row: SweepRow
    by_horizon: bool

    def peak_bytes(self, of_boundaries: bool) -> int:
        """Return the peak of its boundaries alone, or of all that a device holds, of the rank that has most."""
        return self.row.peak_boundary_bytes if of_boundaries else self.row.peak_device_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Says which plan reaches the goal, and what stands beside it.

    Attributes:
        goal: what was to be reached.
        limits: the memory that it allows.
        chosen: the best plan found; where none keeps the limits, the one that lacks least.
        missing: what that one lacks.
        keep_all: the same step with every boundary kept on the device.
        horizon: the best horizon under the same limits, of those that were looked at; None where none keeps them.
        horizons: how many were looked at.
        bound: what no plan of the order is faster than that keeps the limits, or, where the chosen one does not, takes
            no more than it does; where the goal looks for the least memory, that takes no more than the chosen one.
        limit_ns: the longest step that the goal allows, where it looks for the least memory; else None.
    """

    goal: Goal
    limits: Limits
    chosen: Candidate
    missing: Missing
    keep_all: Candidate
    horizon: Candidate | None
    horizons: int
    bound: Bound
    limit_ns: int | None = None

    @property
    def fits(self) -> bool:
        """Return whether the chosen plan keeps the limits, and the step time that the goal allows."""
        return not self.missing.total and (self.limit_ns is None or self.chosen.row.step_time_ns <= self.limit_ns)

    @property
    def gap(self) -> float:
        """Return by which share the chosen step is longer than the bound; 0.0 where the bound is no time at all."""
        bound = self.bound.step_time_ns
        return self.chosen.row.step_time_ns / bound - 1 if bound else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """Holds the best plan found under one budget, and the bound under it.

    ``budget_bytes`` limits ``peak_device_bytes``, or ``peak_boundary_bytes`` where the goal limits boundaries.
    """

    budget_bytes: int
    tuning: Tuning


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """Holds what each budget costs in time, the least budget first, with the horizons beside it.

    Attributes:
        of_boundaries: whether budgets limit ``peak_boundary_bytes``; else ``peak_device_bytes``.
        points: the best plan found under each budget that some plan keeps, and plans whose peaks lie between these and
            that are faster than the one before; the least budget first.
        horizons: the row of every horizon that was looked at; axes are ``horizon``, ``horizon_unit`` and
            ``release_window``.
        keep_all: the row of keeping all.
    """

    of_boundaries: bool
    points: tuple[FrontierPoint, ...]
    horizons: tuple[SweepRow, ...]
    keep_all: SweepRow
