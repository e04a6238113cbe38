"""A measured figure with its spread, what was predicted or wanted of it, and whether that holds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadahead.sim.units import format_duration


def duration(nanoseconds: float) -> str:
    return format_duration(round(nanoseconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a check found about one thing.

    Attributes:
        measured: every sample, in ns unless ``show`` says otherwise.
        wanted: in words, what must hold; "" for a figure that is only shown.
        holds: whether it does.
    """

    name: str
    measured: Sequence[float]
    wanted: str = ""
    holds: bool = True
    predicted: float | None = None
    show: Callable[[float], str] = duration

    @property
    def median(self) -> float:
        return statistics.median(self.measured)

    def line(self) -> str:
        """Median with smallest and largest sample, the prediction beside it, and the outcome."""
        show, samples = self.show, self.measured
        text = f"{self.name}: {show(self.median)}"
        if len(samples) > 1:
            text += f" ({show(min(samples))} to {show(max(samples))}, {len(samples)} samples)"
        if self.predicted is not None:
            error = f", {self.predicted / self.median - 1:+.1%}" if self.median else ""
            text += f"; predicted {show(self.predicted)}{error}"
        return f"{text}; {'holds' if self.holds else 'DOES NOT HOLD'}: {self.wanted}" if self.wanted else text


def predicted_within(name: str, measured: Sequence[float], predicted: float, share: float) -> Figure:
    """A figure that holds where prediction / median - 1 is at most ``share`` either way."""
    error = abs(predicted / statistics.median(measured) - 1)
    return Figure(name=name, measured=measured, predicted=predicted, wanted=f"within {share:.0%}", holds=error <= share)
