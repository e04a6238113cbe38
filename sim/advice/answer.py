"""What is advised: what was found, in words and as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loadahead.sim.advice.findings import Figures, Findings
from loadahead.sim.advice.within import WITHIN, slower_text
from loadahead.sim.advice.words import in_words, why_none
from loadahead.sim.shown import Shown
from loadahead.sim.step_metrics import CAPACITY, HOST_CAPACITY, PEAK_DEVICE, STEP_TIME
from loadahead.sim.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Advice(Shown, Findings):
    """Says which horizon to set, and why; :class:`Findings` has the numbers."""

    def _in_a_line(self) -> str:
        """Return the advised horizon, with its memory and step time beside those of keeping all."""
        if self.best is None:
            return f": no horizon, in the way: {', '.join(self.obstacles)}"
        memory, all_memory = (format_bytes(figures.peak_device_bytes) for figures in (self.best, self.keep_all))
        unit = f"{self.horizon_unit}, release window {self.release_window}"
        share = self.best.slower_than(self.keep_all)
        none = slower_text(self.best.step_time_ns, self.keep_all.step_time_ns)
        slower = none if share is None else f"{share:+.2%}".replace("%", " %")
        return f": horizon {self.best.horizon} ({unit}), {memory} instead of {all_memory}, step time {slower}"

    @property
    def sentence(self) -> str:
        """Return the advice in words."""
        return in_words(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as plain data, as the command line's JSON holds it."""
        best = self.best
        return {
            "horizon": None if best is None else best.horizon,
            "horizon_unit": self.horizon_unit,
            "release_window": self.release_window,
            "min_bytes": self.min_bytes,
            STEP_TIME: None if best is None else best.step_time_ns,
            PEAK_DEVICE: None if best is None else best.peak_device_bytes,
            "host_bytes": None if best is None else best.host_bytes,
            "saved_bytes": None if best is None else self.saved_bytes,
            "slower": self.slower,
            "within": float(WITHIN),
            CAPACITY: self.capacity_bytes,
            HOST_CAPACITY: self.host_capacity_bytes,
            "fits": None if best is None else self.fits(best),
            "keep_all": _plain(self.keep_all, self.keep_all),
            "best": _plain(best, self.keep_all),
            "own": _plain(self.own, self.keep_all),
            "least_step_time_ns": self.least_step_time_ns,
            "smallest": _plain(self.smallest, self.keep_all),
            "largest": _plain(self.largest, self.keep_all),
            "smaller": _plain(self.smaller, self.keep_all),
            "fitting": _plain(self.fitting, self.keep_all),
            "obstacles": list(self.obstacles),
            "searched": {"last": self.searched.last, "tried": self.searched.tried, "complete": self.searched.complete},
            "news": None if self.news is None else self.news.to_dict(self.keep_all),
            "news_leads": self.lead is not None,
            "alternatives": [other.to_dict(self.keep_all) for other in self.alternatives],
            "alternatives_searched": {
                "release_windows": list(self.windows),
                "complete": self.alternatives_complete,
            },
            "estimated": self.estimated,
            "why_none": why_none(self),
            "sentence": self.sentence,
        }


def _plain(figures: Figures | None, keep_all: Figures) -> dict[str, Any] | None:
    return None if figures is None else figures.to_dict(keep_all)
