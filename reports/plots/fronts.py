"""Draws the fronts of two sweeps, A's and B's, as staircases over each other, with what is chosen in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadahead.reports.plots.base import Drawing, Layout, Missing
from loadahead.reports.plots.model_panels import label_panel, model_panels
from loadahead.reports.plots.sheet import legend, scales
from loadahead.reports.plots.style import CHOSEN, PREDICTED, SERIES, byte_scale, styled, time_scale
from loadahead.reports.sweep_comparison import SweepComparison
from loadahead.reports.views import fronts as view
from loadahead.reports.views.front import FrontPanel
from loadahead.reports.views.fronts import FrontsPanel, FrontsView

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A is dashed too: the two can be told apart without colours.
_LOOKS: dict[str, dict[str, Any]] = {
    "A": {"color": SERIES[1], "linestyle": (0, (4, 2)), "marker": "s", "linewidth": 1.6, "zorder": 3},
    "B": {"color": PREDICTED, "linestyle": "-", "marker": "o", "linewidth": 1.6, "zorder": 4},
}


@styled()
def fronts(found: SweepComparison, layout: Layout = Layout.WIDE, /) -> Drawing | Missing:
    """Draw a panel for each model that both sweeps have."""
    shown = view.of(found)
    if isinstance(shown, Missing):
        return shown
    figure, every, columns = model_panels(layout, len(shown.panels))
    for axes, panel in zip(every, shown.panels, strict=True):
        _panel(axes, panel, shown, layout, columns)
    legend(figure, layout, _handles(found, shown))
    return Drawing(figure=figure, title=shown.title, caption=" ".join(shown.sentences))


def _panel(axes: Axes, panel: FrontsPanel, shown: FrontsView, layout: Layout, columns: int) -> None:
    sides = {"A": panel.a, "B": panel.b}
    drawn = [side.points[place] for side in sides.values() for place in (*side.front, side.chosen)]
    time, time_unit = time_scale(max(point.timed_ns for point in drawn))
    size, size_unit = byte_scale(max(point.peak_device_bytes for point in drawn))
    for name, side in sides.items():
        _stairs(axes, side, _LOOKS[name], time, size)
    scales(axes, [p.peak_device_bytes / size for p in drawn], [p.timed_ns / time for p in drawn])
    names = f"peak device memory ({size_unit})", f"{shown.time.name} ({time_unit})"
    label_panel(axes, panel.title, *names, layout, columns)


def _stairs(axes: Axes, side: FrontPanel, look: dict[str, Any], time: float, size: float) -> None:
    stairs = side.staircase
    axes.step([n / size for n, _ in stairs], [ns / time for _, ns in stairs], where="post", markersize=4.5, **look)
    chosen = side.points[side.chosen]
    axes.plot(
        chosen.peak_device_bytes / size,
        chosen.timed_ns / time,
        zorder=6,
        **CHOSEN | {"markeredgecolor": look["color"], "markeredgewidth": 1.4},
    )


def _handles(found: SweepComparison, shown: FrontsView) -> dict[str, Any]:
    """Return what the legend explains: whose each front is, and what is ringed."""
    from matplotlib.lines import Line2D

    names = {"A": found.a.name, "B": found.b.name}
    handles: dict[str, Any] = {f"{side}: {name[-40:]}": Line2D([], [], **_LOOKS[side]) for side, name in names.items()}
    return handles | {shown.ringed: Line2D([], [], **CHOSEN)}
