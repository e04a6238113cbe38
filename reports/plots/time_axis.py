"""Puts steps of different lengths on one picture: on one time axis, or each on its own, one below and one above."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from loadahead.reports.plots.style import SMALL, time_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAxis:
    """Holds the stretch in ns of each step that the picture's width shows. Coordinates are those of the first step."""

    spans: Mapping[str, tuple[int, int]]

    @property
    def _first(self) -> tuple[int, int]:
        return next(iter(self.spans.values()))

    def _scale(self, step: str) -> tuple[float, str]:
        return time_scale(max(abs(ns) for ns in self.spans[step]))

    def x(self, step: str, ns: Any) -> Any:
        """Return the coordinates of times of a step."""
        (begin, end), (start, until) = self._first, self.spans[step]
        scale = self._scale(next(iter(self.spans)))[0]
        return (begin + (np.asarray(ns) - start) * ((end - begin) / (until - start))) / scale

    def width(self, step: str, points: float, of: float) -> float:
        """Return the width in coordinates of so many points of a picture that is ``of`` points wide."""
        low, high = self.x(step, self.spans[step]).tolist()
        return float(high - low) / of * points

    def put(self, upper: Axes, lower: Axes, narrow: bool) -> None:
        """Label the axis below the lowest panel, and the second step's own above the highest."""
        first, *others = self.spans
        lower.set_xlim(*self.x(first, self.spans[first]).tolist())
        what = "time" if narrow else "time since the step began"
        own = [step for step in others if self.spans[step] != self.spans[first]]
        lower.set_xlabel(f"{what}, {first} ({self._scale(first)[1]})" if own else f"{what} ({self._scale(first)[1]})")
        for step in own:
            (low, high), (scale, unit) = self.spans[step], self._scale(step)
            left, right = self.x(step, self.spans[step]).tolist()
            per = (high - low) / scale / (right - left)
            second = upper.secondary_xaxis("top", functions=_there_and_back(left, low / scale, per))
            second.set_xlabel(f"{what}, {step} ({unit})")
            second.tick_params(labelsize=SMALL)


def _there_and_back(left: float, low: float, per: float) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the way from coordinates to a second axis that has ``low`` at ``left``, and the way back."""
    return (lambda x: (x - left) * per + low), (lambda time: (time - low) / per + left)
