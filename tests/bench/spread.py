"""A median with its quartiles, as benches print it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Is a median with its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The quartiles of some values."""
        return cls(*statistics.quantiles(values, n=4, method="inclusive")) if len(values) > 1 else cls(*values * 3)

    def text(self, decimals: int) -> str:
        """As it is printed."""
        return f"{self.median:.{decimals}f} ({self.low:.{decimals}f} to {self.high:.{decimals}f})"
