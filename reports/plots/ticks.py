"""Labels axes on which equal ratios lie equally far apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis

# Within such a span each power of ten has three labels.
_SHORT_SPAN = 1000


def plain_ticks(axis: Axis, low: float, high: float) -> None:
    """Label an axis of ratios from ``low`` to ``high`` with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if high / low < _SHORT_SPAN else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
