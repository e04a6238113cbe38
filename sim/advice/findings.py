"""What a search over horizons finds, as typed results. Times are in ns, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loadahead.sim.advice.within import slower
from loadahead.sim.step_metrics import PEAK_DEVICE, STEP_TIME

# An alternative that saves less than this share of what is kept without offloading is no news.
_NEWS = 0.01
# A setting that saves this share more of the largest rank's peak than another one saves much more: what is left free
# of a GPU for fragmentation and workspaces is about as much.
MUCH = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Holds what one plan takes.

    Attributes:
        horizon: its ``activation_loading_horizon``; None where it keeps all.
        rank_device_bytes: each rank's peak of device memory.
        host_bytes: host memory of the slots of all GPUs of the fullest host together.
        offloaded: how many boundaries leave the device.
        waits_ns: how long the rank that does so most waits for offloads and prefetches; None where nobody looked.
    """

    horizon: int | None
    step_time_ns: int
    rank_device_bytes: tuple[int, ...]
    host_bytes: int
    offloaded: int
    waits_ns: int | None = None

    @property
    def peak_device_bytes(self) -> int:
        """Return the peak of the rank that needs most."""
        return max(self.rank_device_bytes)

    def slower_than(self, other: Figures) -> float | None:
        """Return by which share this step is longer than another plan's; None where that one takes no time."""
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
            "waits_ns": self.waits_ns,
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
        smaller: the next smaller horizon than the best, with how long it waits for copies; None for none.
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
    smaller: Figures | None = None
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
    def news(self) -> Alternative | None:
        """Return another setting that saves more than what is advised, by more than a trifle; None for none."""
        if not self.alternatives:
            return None
        other, keep_all = self.alternatives[0], self.keep_all
        if self.best is None:
            saved = sum(keep_all.rank_device_bytes) - sum(other.figures.rank_device_bytes)
            return other if saved > _NEWS * sum(keep_all.rank_device_bytes) else None
        more = self.best.peak_device_bytes - other.figures.peak_device_bytes
        return other if more > _NEWS * keep_all.peak_device_bytes else None

    @property
    def lead(self) -> Alternative | None:
        """Return another setting that saves much where the best horizon as set saves little; None for none.

        It saves at least :data:`MUCH` of the largest rank's peak beyond what the best horizon does, and at least twice
        as much.
        """
        other, whole = self.news, self.keep_all.peak_device_bytes
        if other is None:
            return None
        saves = whole - other.figures.peak_device_bytes
        much = saves >= 2 * self.saved_bytes and saves - self.saved_bytes >= MUCH * whole
        return other if much else None

    @property
    def saved_bytes(self) -> int:
        """Return what the advised horizon saves of the largest rank's peak; 0 where none is advised."""
        return 0 if self.best is None else self.keep_all.peak_device_bytes - self.best.peak_device_bytes

    @property
    def slower(self) -> float | None:
        """Return by which share the advised horizon's step is longer; None where none is advised, or there is no share.

        There is none where keeping all takes no time.
        """
        return None if self.best is None else self.best.slower_than(self.keep_all)
