"""Sorts a sweep's rows and measured horizons into panels (microbatch counts) and lines (variants of the plan)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from loadahead.reports.plots.style import MEASURED, SERIES, light_grid
from loadahead.reports.run_data import REQUIRED_AXES, HorizonPoint, RunData
from loadahead.sim.step_metrics import StepMetrics, SweepRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What of a row is drawn; None where the row has none.
Value: TypeAlias = Callable[[SweepRow], float | None]

MOST_PANELS, MOST_LINES = 4, len(SERIES)
# The characters that a legend has across the figure, and those that a line's mark takes of them.
_LEGEND_WIDTH, _LEGEND_MARK = 130, 8
_SHORT = {"pipeline": "", "horizon_unit": "horizon in ", "release_window": "release window "}


@dataclass(slots=True)
class Panel:
    """Holds one microbatch count: ``lines`` are predictions by variant, ``measured`` rows that were run, by horizon."""

    microbatches: int | None
    lines: dict[str, list[SweepRow]] = field(default_factory=dict)
    measured: list[SweepRow] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Return the panel's title; empty where the count is not known."""
        count = self.microbatches
        return "" if count is None else f"{count} microbatch{'' if count == 1 else 'es'}"

    @property
    def rows(self) -> list[SweepRow]:
        """Return all rows, predicted and measured."""
        return [row for line in self.lines.values() for row in line] + self.measured


def _variant(values: Mapping[str, Any], axes: list[str]) -> str:
    known = {name: values[name] for name in axes if values[name] is not None}
    parts = [f"{_SHORT.get(name, f'{name} ')}{value}" for name, value in known.items()]
    return ", ".join(parts) or "predicted"


def _spread_out(values: list[Any], most: int) -> list[Any]:
    """Return at most ``most`` of the values, the first and the last among them."""
    if len(values) <= most:
        return values
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def hidden_share(row: SweepRow) -> float | None:
    """Return the row's overlap; None where nothing was copied: an overlap of nothing is no overlap of 0 %."""
    return row.overlap if row.offloaded else None


def _row(horizon: int, metrics: StepMetrics) -> SweepRow:
    return SweepRow.of({"horizon": horizon}, metrics)


def _add_points(panels: dict[int | None, Panel], points: tuple[HorizonPoint, ...], microbatches: int | None) -> None:
    """Add measured horizons to the panel of their microbatch count; their predictions are a line where none is."""
    by_count: dict[int | None, list[HorizonPoint]] = {}
    for point in points:
        by_count.setdefault(point.microbatches or microbatches, []).append(point)
    for count, mine in by_count.items():
        panel = panels.setdefault(count, Panel(count))
        panel.measured = [_row(p.horizon, p.measured) for p in mine if p.measured is not None]
        if not panel.lines:
            line = [_row(p.horizon, p.predicted) for p in mine if p.predicted is not None]
            if line:
                panel.lines["predicted"] = line


def panels(data: RunData) -> tuple[list[Panel], list[str]]:
    """Return panels by microbatch count with a few lines each, and sentences about what was left out."""
    varying = _varying(data)
    variants = list(dict.fromkeys(_variant(row.axes, varying) for row in data.sweep))
    shown = _spread_out(variants, MOST_LINES)
    by_count: dict[int | None, Panel] = {}
    for row in sorted(data.sweep, key=lambda row: (row.microbatches, row.horizon)):
        label = _variant(row.axes, varying)
        if label in shown:
            panel = by_count.setdefault(row.microbatches, Panel(row.microbatches))
            panel.lines.setdefault(label, []).append(row)
    _add_points(by_count, data.horizons, data.microbatches)
    kept = [panel for _, panel in sorted(by_count.items(), key=lambda item: item[0] or 0) if panel.rows]
    measured = [panel for panel in kept if panel.measured]
    chosen = _spread_out(kept, MOST_PANELS)
    if measured and measured[0] not in chosen:
        chosen[len(chosen) // 2] = measured[0]
    notes = []
    if len(chosen) < len(kept):
        notes.append(f"{len(kept) - len(chosen)} of {len(kept)} microbatch counts are not drawn.")
    if len(shown) < len(variants):
        notes.append(f"{len(variants) - len(shown)} of {len(variants)} variants are not drawn.")
    return chosen, notes


def why_no_curve(shown_panels: list[Panel]) -> str | None:
    """Return the reason when there is nothing to draw against the horizon; None when there is."""
    if not shown_panels:
        return "there is no sweep and no measured horizon"
    horizons = {row.horizon for panel in shown_panels for row in panel.rows}
    return None if len(horizons) > 1 else f"there is only one horizon ({horizons.pop()}); a curve needs two"


def _varying(data: RunData) -> list[str]:
    """Return the axes, beside microbatches and horizon, that have more than one value in the sweep."""
    axes = [name for name in (data.sweep[0].axes if data.sweep else ()) if name not in REQUIRED_AXES]
    return [name for name in axes if len({row.axes[name] for row in data.sweep}) > 1]


def measured_sentence(data: RunData) -> str:
    """Return what the diamonds are, with the variant that was run where the sweep has several."""
    policy = data.plan.policy if data.plan is not None else {}
    varying = _varying(data)
    known = varying and all(name in policy for name in varying)
    return f"Diamonds were measured{f' ({_variant(policy, varying)})' if known else ''}."


def draw_lines(axes: Axes, panel: Panel, value: Value, scale: float, labels: list[str]) -> None:
    """Draw a value against the horizon: lines with dots predicted, diamonds measured."""
    # Lines that lie on each other stay visible when the later ones are thinner.
    for name, line in panel.lines.items():
        place = labels.index(name)
        axes.plot(
            *_points(line, value, scale),
            color=SERIES[place],
            label=name,
            marker="o",
            markersize=3.4 - 0.3 * place,
            linewidth=max(2.2 - 0.4 * place, 0.8),
            zorder=2 + place,
        )
    horizons, values = _points(panel.measured, value, scale)
    if horizons:
        axes.plot(
            horizons,
            values,
            linestyle="none",
            marker="D",
            markersize=5,
            markerfacecolor="none",
            markeredgecolor=MEASURED,
            markeredgewidth=1.3,
            label="measured",
            zorder=9,
            clip_on=False,
        )
    light_grid(axes)


def _points(rows: list[SweepRow], value: Value, scale: float) -> tuple[list[int], list[float]]:
    """Return horizons and scaled values of the rows that have one."""
    known = [(row.horizon, number) for row in rows if (number := value(row)) is not None]
    return [horizon for horizon, _ in known], [number / scale for _, number in known]


def horizon_axis(axes: Axes, panel: Panel) -> None:
    """Label whole horizons only, about eight of them."""
    horizons = sorted({row.horizon for row in panel.rows})
    axes.set_xticks(_spread_out(horizons, 8))
    low, high = horizons[0], horizons[-1]
    margin = max((high - low) * 0.05, 0.5 if low == high else 0.0)
    axes.set_xlim(low - margin, high + margin)


def line_labels(shown_panels: list[Panel]) -> list[str]:
    """Return the variants of all panels, in order; the place is the colour."""
    return list(dict.fromkeys(name for panel in shown_panels for name in panel.lines))


def legend(figure: Figure, grid: list[list[Axes]]) -> None:
    """Draw one legend above everything, each label once."""
    handles: dict[str, Any] = {}
    for axes in (axes for row in grid for axes in row):
        artists, labels = axes.get_legend_handles_labels()
        for handle, label in zip(artists, map(str, labels), strict=True):
            handles.setdefault(label, handle)
    names = sorted(handles, key=lambda label: label == "measured")
    shown = [label if label in ("predicted", "measured") else f"predicted: {label}" for label in names]
    # About so many characters stand beside each other across a figure.
    across = max(1, _LEGEND_WIDTH // (max(map(len, shown), default=0) + _LEGEND_MARK))
    columns = min(len(names), 4, across)
    figure.legend([handles[name] for name in names], shown, loc="outside upper left", ncols=columns)
