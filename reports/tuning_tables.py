"""Makes tables of what tuning found, as data: see :mod:`loadahead.reports.tables`."""

from __future__ import annotations

from loadahead.reports.tables import NOTHING, Grid, format_error
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.tuning import Frontier, FrontierPoint, Tuning
from loadahead.sim.units import format_bytes, format_duration

# So many budgets are shown.
MOST_ROWS = 12


def frontier_grid(frontier: Frontier, chosen: Tuning) -> Grid:
    """Return some of the budgets as a table, each with the best horizon that keeps it; the chosen step is marked.

    Of neighbouring budgets with the same plan the least is shown, of several points of one budget the fastest.
    """
    shown: list[FrontierPoint] = []
    for point in frontier.points:
        if shown and point.budget_bytes == shown[-1].budget_bytes:
            shown[-1] = min(shown[-1], point, key=lambda one: one.tuning.chosen.row.step_time_ns)
        elif not shown or _figures(point) != _figures(shown[-1]):
            shown.append(point)
    if len(shown) > MOST_ROWS:
        shown = _some(shown, chosen)
    rows, marked = [], set()
    for place, point in enumerate(shown):
        row = point.tuning.chosen.row
        if point.tuning.chosen.decisions == chosen.chosen.decisions:
            marked.add(place)
        fitting = [one.step_time_ns for one in frontier.horizons if _peak(one, frontier) <= point.budget_bytes]
        rows.append(
            (
                format_bytes(point.budget_bytes),
                format_duration(row.step_time_ns),
                format_duration(point.tuning.bound.step_time_ns),
                format_error(point.tuning.gap),
                f"{row.offloaded} of {row.offloaded + row.kept}",
                format_duration(min(fitting)) if fitting else NOTHING,
            )
        )
    what = "boundaries" if frontier.of_boundaries else "device memory"
    notes = [f"Marked: the {'plan that was chosen' if chosen.fits else 'nearest plan'}."] if marked else []
    if len(shown) < len(frontier.points):
        notes.append(f"{len(shown)} of {len(frontier.points)} budgets are shown.")
    return Grid(
        headers=(f"budget ({what})", "step", "bound", "gap", "leave", "best horizon"),
        rows=tuple(rows),
        text_columns=frozenset(),
        marked=frozenset(marked),
        note=" ".join(notes),
    )


def _some(points: list[FrontierPoint], chosen: Tuning) -> list[FrontierPoint]:
    """Return as many points as are shown, the first and the last and that of the chosen plan among them."""
    places = [place * (len(points) - 1) // (MOST_ROWS - 1) for place in range(MOST_ROWS)]
    for place, point in enumerate(points):
        if point.tuning.chosen.decisions == chosen.chosen.decisions and place not in places:
            # It stands in the place of the nearest that is no end.
            nearest = min(range(1, MOST_ROWS - 1), key=lambda number: abs(places[number] - place))
            places[nearest] = place
            break
    return [points[place] for place in sorted(places)]


def _figures(point: FrontierPoint) -> tuple[int, int]:
    return point.tuning.chosen.row.step_time_ns, point.tuning.chosen.row.peak_device_bytes


def _peak(row: SweepRow, frontier: Frontier) -> int:
    return row.peak_boundary_bytes if frontier.of_boundaries else row.peak_device_bytes
