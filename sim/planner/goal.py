"""A goal is what a plan that decides is to reach: the least step time in so much memory, or the least memory."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from loadahead.sim.errors import InputError
from loadahead.sim.units import LARGEST_AMOUNT


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Says how much memory a plan may take, and whether time or memory is to be the least.

    Attributes:
        memory: the most that any rank's device may hold (``peak_device_bytes``); None: the device's memory less a
            reserve (:mod:`loadahead.sim.tuning.limits`).
        boundary_memory: the most that any rank's boundaries may take of it (``peak_boundary_bytes``); None: no limit.
        host_memory: the most that the slots of one host's GPUs may take; None: the host's memory, where it is known.
        within: a share, e.g. 0.01: the least memory is looked for whose step is at most so much longer than without
            offloading; None: the shortest step is looked for.
    """

    memory: int | None = None
    boundary_memory: int | None = None
    host_memory: int | None = None
    within: float | None = None

    def __post_init__(self) -> None:
        for name in ("memory", "boundary_memory", "host_memory"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not 0 <= value <= LARGEST_AMOUNT):
                raise InputError(
                    f"{name} is {value!r:.60}; it must be a number of bytes of at least 0 and at most {LARGEST_AMOUNT}"
                )
        within = self.within
        if within is not None and (type(within) not in (int, float) or not 0 <= within <= 1):
            raise InputError(f"within is {within!r:.60}; it must be a share from 0 to 1, e.g. 0.01")

    def limit_ns(self, keep_all_ns: int) -> int | None:
        """Return the longest step in ns that is allowed where keeping all takes so long; None: there is no such limit.

        The share counts as it is written, so that 15 % of 100 ns are 15 ns.
        """
        if self.within is None:
            return None
        return keep_all_ns + int(keep_all_ns * Fraction(str(self.within)))

    def to_dict(self) -> dict[str, Any]:
        """Return what is stated, as plain data."""
        stated = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in stated.items() if value is not None}
