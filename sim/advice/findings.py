"""What a search over horizons finds, as typed results. Times are in ns, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loadahead.sim.advice.within import slower
from loadahead.sim.step_metrics import PEAK_DEVICE, STEP_TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Holds what one plan takes.

    Attributes:
        horizon: its ``activation_loading_horizon``; None where it keeps all.
        rank_device_bytes: each rank's peak of device memory.
        host_bytes: host memory of the slots of all GPUs of the fullest host together.
        offloaded: how many boundaries leave the device.
    """

    horizon: int | None
    step_time_ns: int
    rank_device_bytes: tuple[int, ...]
    host_bytes: int
    offloaded: int

    @property
    def peak_device_bytes(self) -> int:
        """Return the peak of the rank that needs most."""
        return max(self.rank_device_bytes)

    def slower_than(self, other: Figures) -> float:
        """Return by which share this step is longer than another plan's; below 0 where it is shorter."""
        return slower(self.step_time_ns, other.step_time_ns)

    def to_dict(self, keep_all: Figures) -> dict[str, Any]:
        """Return the figures as plain data, with what they save and cost against keeping all."""
        return {
            "horizon": self.horizon,
            STEP_TIME: self.step_time_ns,
            PEAK_DEVICE: self.peak_device_bytes,
            "rank_device_bytes": list(self.rank_device_bytes),
            "host_bytes": self.host_bytes,
            "offloaded": self.offloaded,
            "saved_bytes": keep_all.peak_device_bytes - self.peak_device_bytes,
            "slower": self.slower_than(keep_all),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """Says which horizons were looked at: ``tried`` of those from 1 to ``last``, by themselves or by a bound.

    ``last`` is the largest at which some rank needs less memory than where all is kept; 0 where there is none. It is
    ``complete`` where none up to it was left out.
    """

    last: int
    tried: int
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Holds the best horizon of another unit or release window."""

    horizon_unit: str
    release_window: int
    figures: Figures

    def to_dict(self, keep_all: Figures) -> dict[str, Any]:
        """Return the alternative as plain data."""
        own = {"horizon_unit": self.horizon_unit, "release_window": self.release_window}
        return own | self.figures.to_dict(keep_all)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Says which horizon needs the least device memory among those whose step is short enough, and what is beside it.

    How long that is says :mod:`loadahead.sim.advice.within`.

    Attributes:
        horizon_unit, release_window, min_bytes: the scenario's, for which horizons were searched.
        capacity_bytes: the device's memory.
        host_capacity_bytes: a host's, for all its GPUs together; None: it is not known.
        keep_all: the same step with everything kept on the device.
        own: the scenario's own horizon; None where the scenario does not offload.
        best: the horizon that is advised; None where no horizon's step is short enough.
        least_step_time_ns: the shortest step of all horizons that save memory; None where not all were timed.
        obstacles: what keeps the next smaller horizon, or where there is no best one every horizon, from being advised:
            the fewest things that have to go together, by :mod:`loadahead.sim.advice.names`.
        furthest: by how many tasks a BACKWARD comes after its FORWARD at the most, of boundaries of at least
            ``min_bytes``.
        alternatives: the best horizons of other units and release windows, the one that needs least memory first.
        alternatives_complete: whether all of them were looked at, in all horizons.
        windows: the release windows that were looked at for them, in both units; empty where none was.
        smallest: horizon 1, which needs the least device memory of all; None where no horizon offloads anything.
        largest: the largest horizon that saves memory; None for none.
        fitting: the largest horizon that fits device and host; None where keeping all or the best one does, and where
            none does.
        whose: what has the ``own`` horizon, as a sentence begins with it.
        estimated: whether the costs say that their times are an estimate.
    """

    horizon_unit: str
    release_window: int
    capacity_bytes: int
    host_capacity_bytes: int | None = None
    keep_all: Figures
    own: Figures | None
    best: Figures | None
    least_step_time_ns: int | None
    searched: Searched
    obstacles: tuple[str, ...]
    furthest: int
    alternatives: tuple[Alternative, ...] = ()
    alternatives_complete: bool = True
    windows: tuple[int, ...] = ()
    smallest: Figures | None = None
    largest: Figures | None = None
    fitting: Figures | None = None
    whose: str = "This plan"
    min_bytes: int = 0
    estimated: bool = False

    def fits(self, figures: Figures) -> bool:
        """Return whether a plan fits the device."""
        return figures.peak_device_bytes <= self.capacity_bytes

    def fits_host(self, figures: Figures) -> bool:
        """Return whether the host has room for a plan's slots, as far as is known."""
        return self.host_capacity_bytes is None or figures.host_bytes <= self.host_capacity_bytes

    @property
    def saved_bytes(self) -> int:
        """Return what the advised horizon saves of the largest rank's peak; 0 where none is advised."""
        return 0 if self.best is None else self.keep_all.peak_device_bytes - self.best.peak_device_bytes

    @property
    def slower(self) -> float | None:
        """Return by which share the advised horizon's step is longer; None where none is advised."""
        return None if self.best is None else self.best.slower_than(self.keep_all)
