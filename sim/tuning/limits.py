"""How much memory a tuned plan may take is said here: what the goal states, else what there is, less a reserve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from loadahead.sim.costs import Costs
from loadahead.sim.planner.goal import Goal
from loadahead.sim.step_metrics import SweepRow, bytes_missing

# What is left free of a device where no budget is stated: the CUDA context, libraries' workspaces and fragmentation,
# which no plan counts. It was not measured how much that is: one twentieth is a choice, and is said beside answers.
RESERVE = Fraction(1, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Holds the most bytes that a plan may take: of any device, of boundaries on any device, of any host.

    None: no limit. ``reserve_bytes`` is what ``device_bytes`` leaves of the device's memory; 0 where the goal states
    the budget.
    """

    device_bytes: int | None
    boundary_bytes: int | None
    host_bytes: int | None
    reserve_bytes: int = 0

    @classmethod
    def of(cls, goal: Goal, costs: Costs) -> Limits:
        """Return the limits of a goal on the devices and hosts of the costs.

        Where the goal states a limit on boundaries alone, the device itself still has no more than it has.
        """
        host = costs.host_memory_bytes if goal.host_memory is None else goal.host_memory
        reserve = 0 if goal.memory is not None else int(costs.memory_bytes * RESERVE)
        device = costs.memory_bytes - reserve if goal.memory is None else goal.memory
        return cls(device_bytes=device, boundary_bytes=goal.boundary_memory, host_bytes=host, reserve_bytes=reserve)

    def with_budget(self, nbytes: int, of_boundaries: bool) -> Limits:
        """Return the same limits with another one on boundaries, or on the device."""
        if of_boundaries:
            return replace(self, boundary_bytes=nbytes)
        return replace(self, device_bytes=nbytes)

    def without(self, of_boundaries: bool) -> Limits:
        """Return the same limits without the one on boundaries, or on the device."""
        if of_boundaries:
            return replace(self, boundary_bytes=None)
        return replace(self, device_bytes=None)

    def raised_to(self, row: SweepRow) -> Limits:
        """Return limits that a plan keeps, each no less than it was."""
        return replace(
            self,
            device_bytes=_most(self.device_bytes, row.peak_device_bytes),
            boundary_bytes=_most(self.boundary_bytes, row.peak_boundary_bytes),
            host_bytes=_most(self.host_bytes, row.host_bytes),
        )

    def lowered_to(self, row: SweepRow, of_boundaries: bool) -> Limits:
        """Return the same limits where the one on boundaries, or on the device, is no more than a plan takes."""
        peak = row.peak_boundary_bytes if of_boundaries else row.peak_device_bytes
        most = self.boundary_bytes if of_boundaries else self.device_bytes
        return self.with_budget(peak if most is None else min(peak, most), of_boundaries)

    def missing(self, row: SweepRow) -> Missing:
        """Return what a plan needs beyond these limits."""
        return Missing(
            device_bytes=bytes_missing(row.peak_device_bytes, self.device_bytes),
            boundary_bytes=bytes_missing(row.peak_boundary_bytes, self.boundary_bytes),
            host_bytes=bytes_missing(row.host_bytes, self.host_bytes),
        )


def _most(limit: int | None, needed: int) -> int | None:
    return None if limit is None else max(limit, needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Says how many bytes a plan needs beyond its limits; each is 0 where it does not.

    A byte of boundaries that is too much is one of the device as well, so that the two do not add up.
    """

    device_bytes: int = 0
    boundary_bytes: int = 0
    host_bytes: int = 0

    @property
    def total(self) -> int:
        """Return all that is missing, of the device and of the host; 0 where the plan keeps its limits."""
        return max(self.device_bytes, self.boundary_bytes) + self.host_bytes
