"""Makes a page's sections about steps: predicted beside measured, horizon by horizon, rank by rank."""

from __future__ import annotations

from collections.abc import Callable

from loadahead.reports.axis_names import capital
from loadahead.reports.compare import Comparison, kendall_tau, order_disagreements
from loadahead.reports.doubt.horizon_errors import name_of, what_of
from loadahead.reports.page.markup import element, joined, paragraphs, table
from loadahead.reports.page.outline import Block, Section, section
from loadahead.reports.run_data import HorizonPoint, RunData
from loadahead.reports.statistics import relative_error
from loadahead.reports.tables import (
    NOTHING,
    Grid,
    comparison_grid,
    format_error,
    format_tau,
    kinds_grid,
    limit_text,
    memory_grid,
    time_grid,
)
from loadahead.reports.training_check import worst
from loadahead.sim.step_metrics import StepMetrics
from loadahead.sim.units import format_bytes, format_duration

# Predictions closer than this claim no order.
MARGIN = 0.10
# What of a step is shown for each horizon.
_OF_A_STEP: tuple[tuple[Callable[[StepMetrics], int], Callable[[int], str]], ...] = (
    (lambda step: step.step_time_ns, format_duration),
    (lambda step: step.peak_device_bytes, format_bytes),
)


def comparison_section(comparison: Comparison | None) -> Section:
    """Return predicted beside measured, and every kind of operation to unfold."""
    key, title = "comparison", "Predicted and measured"
    if comparison is None:
        return section(key, title)
    kinds = element(
        "details",
        element("summary", "Every kind of operation"),
        table(kinds_grid(comparison), "Every kind of operation, predicted and measured"),
        element("p", "Sums over the step; the last column is the mean absolute error of one operation.", class_="note"),
    )
    # Rows of ranks stand below the row that they belong to, and would lose it if they were sorted.
    whole = table(comparison_grid(comparison), title, sortable=False)
    return section(key, title, joined(whole, paragraphs(list(comparison.notes)), kinds))


def horizons_section(data: RunData) -> Section:
    """Return the horizons that were run one by one, and whether they came in the order that was predicted."""
    key, title = "horizons", "Horizon by horizon"
    if not data.horizons:
        return section(key, title)
    several = len({point.microbatches for point in data.horizons}) > 1
    named = ("horizon", *(("microbatches",) if several else ()))
    grid = Grid(
        headers=(*named, "step, predicted", "measured", "error", "peak device, predicted", "measured", "error"),
        rows=tuple(_horizon_cells(point, several) for point in data.horizons),
        text_columns=frozenset(),
    )
    sentences = order_sentences(data.horizons) + gradient_sentences(data.horizons)
    return section(key, title, joined(table(grid, title), paragraphs(sentences)))


def ranks_section(data: RunData) -> Section:
    """Return each rank's memory and time, predicted and measured."""
    blocks = []
    for title, timeline in (("Predicted", data.predicted), ("Measured", data.measured)):
        if timeline is not None and "summary" in timeline.header:
            memory = table(memory_grid(timeline.metrics), f"Memory of each rank, {title.lower()}")
            time = table(time_grid(timeline.metrics), f"Time of each rank, {title.lower()}")
            blocks.append(Block(title=title, body=joined(memory, time)))
    return section("ranks", "Rank by rank", *blocks)


def _horizon_cells(point: HorizonPoint, with_microbatches: bool) -> tuple[str, ...]:
    count = NOTHING if point.microbatches is None else str(point.microbatches)
    cells = [str(point.horizon), *([count] if with_microbatches else [])]
    for value, show in _OF_A_STEP:
        predicted, measured = (None if side is None else value(side) for side in (point.predicted, point.measured))
        error = None if predicted is None or measured is None else relative_error(predicted, measured)
        cells += [*("–" if number is None else show(number) for number in (predicted, measured)), format_error(error)]
    return tuple(cells)


def order_sentences(points: tuple[HorizonPoint, ...]) -> list[str]:
    """Return whether step times were measured in the order that was predicted, as far as one was."""
    what = what_of(points)
    one = what == "horizons"
    both = [
        (str(p.horizon) if one else name_of(p, points), p.predicted, p.measured)
        for p in points
        if p.predicted and p.measured
    ]
    if len(both) < 2:
        return []
    predicted_ns, measured_ns = [p.step_time_ns for _, p, _ in both], [m.step_time_ns for _, _, m in both]
    if max(predicted_ns) <= min(predicted_ns) * (1 + MARGIN):
        return [f"All predictions lie within {limit_text(MARGIN)} of each other: no order of the {what} is claimed."]
    wrong = order_disagreements(predicted_ns, measured_ns, MARGIN)
    pairs = ", ".join(f"{both[i][0]} and {both[j][0]}" for i, j in wrong)
    apart = f"predicted more than {limit_text(MARGIN)} apart"
    sentence = (
        f"{capital(apart)} and measured the other way round: {'horizons ' if one else ''}{pairs}."
        if wrong
        else f"{capital(what)} that are {apart} were all measured in that order."
    )
    tau = kendall_tau(predicted_ns, measured_ns)
    if tau is not None:
        sentence += (
            f" Kendall's tau-b of all step times is {format_tau(tau)}; it counts differences below the spread as well."
        )
    return [sentence]


def gradient_sentences(points: tuple[HorizonPoint, ...]) -> list[str]:
    """Return what the comparisons with plain training found, of those horizons that were compared."""
    checked = [point for point in points if point.check.max_grad_error is not None]
    if not checked:
        return []
    found = worst({name_of(point, points): point.check for point in checked})
    if found is not None:
        return [f"{capital(found[0])}: {found[1].sentence}."]
    return [
        f"Gradients were bit-identical to plain training's at all {len(checked)} {what_of(points)} that were checked."
    ]
