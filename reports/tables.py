"""Makes tables of numbers as data (:class:`Grid`), which the command line shows as text and the page as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from loadahead.reports.compare import Comparison, ComparisonOfMany
from loadahead.reports.stalls import STALL_LOOKS
from loadahead.reports.statistics import relative_error
from loadahead.reports.summary import Headline
from loadahead.sim.choice import MARKED, best, time_per_microbatch
from loadahead.sim.step_metrics import STALLS, PeakParts, StepMetrics, SweepRow
from loadahead.sim.units import format_bytes, format_duration

NOTHING = "–"
_SHORT = {
    "pipeline": "pipeline",
    "microbatches": "mb.",
    "active_microbatches": "active",
    "horizon": "horizon",
    "horizon_unit": "unit",
    "release_window": "window",
    "receive_ahead": "ahead",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Holds a table: headers, rows of text, which columns are text (the others are numbers), and the row to mark."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: frozenset[int] = frozenset({0})
    best: int | None = None
    note: str = ""


def format_error(error: float | None) -> str:
    """Return a signed error in percent; ``exact`` for none at all, ``–`` where there is nothing to relate it to."""
    if error is None:
        return NOTHING
    if error == 0:
        return "exact"
    shown = f"{error:+.1%}" if abs(error) >= 0.001 else f"{error:+.2%}"
    return shown.replace("%", " %").replace("-", "−")


def format_share(share: float | None) -> str:
    """Return a fraction in percent, ``–`` for None."""
    return NOTHING if share is None else f"{share:.1%}".replace("%", " %")


def _bytes(value: int | None) -> str:
    return NOTHING if value is None else format_bytes(value)


def _duration(value: int | None) -> str:
    return NOTHING if value is None else format_duration(value)


def _pair(name: str, predicted: int | None, measured: int | None, show: Any) -> tuple[str, str, str, str]:
    error = None if predicted is None or measured is None else relative_error(predicted, measured)
    return name, show(predicted), show(measured), format_error(error)


def _points(predicted: float | None, measured: float | None) -> str:
    """Return two shares' difference in percentage points: an error relative to a share says little."""
    if predicted is None or measured is None:
        return NOTHING
    return "exact" if predicted == measured else f"{100 * (predicted - measured):+.1f} points".replace("-", "−")


def comparison_grid(comparison: Comparison) -> Grid:
    """Return predicted beside measured: step time, peaks, overlap, stalls, and operations' durations."""
    predicted, measured = comparison.predicted, comparison.measured
    rows = [_pair("step time", predicted.step_time_ns, measured.step_time_ns, _duration)]
    rows.append(_pair("peak device memory", predicted.largest_device_bytes, measured.largest_device_bytes, _bytes))
    if len(predicted.peak_device_bytes) == len(measured.peak_device_bytes) > 1:
        for rank, peaks in enumerate(zip(predicted.peak_device_bytes, measured.peak_device_bytes, strict=True)):
            rows.append(_pair(f"  rank {rank}", *peaks, _bytes))
    rows.append(_pair("peak host memory", predicted.peak_host_bytes, measured.peak_host_bytes, _bytes))
    if predicted.stalls_ns is not None or measured.stalls_ns is not None:
        rows.append(
            (
                "overlap",
                format_share(predicted.overlap),
                format_share(measured.overlap),
                _points(predicted.overlap, measured.overlap),
            )
        )
        for stall in STALLS:
            rows.append(
                _pair(
                    f"stall: {STALL_LOOKS[stall].title}", _stall(predicted, stall), _stall(measured, stall), _duration
                )
            )
    return Grid(
        headers=("", "predicted", "measured", "error"),
        rows=tuple(rows),
        note="error = (predicted − measured) / measured; + means that the prediction is too high. "
        f"Mean absolute error of single operations' durations: {format_share(comparison.op_duration_mape)}.",
    )


def _stall(side: Headline, stall: str) -> int | None:
    return None if side.stalls_ns is None else side.stalls_ns[stall]


def kinds_grid(comparison: Comparison | ComparisonOfMany) -> Grid:
    """Return each kind of operation's count, summed durations with their error, and the mean error of one operation."""
    rows = [
        (
            name,
            str(kind.count),
            format_duration(kind.predicted_ns),
            format_duration(kind.measured_ns),
            format_error(kind.error),
            format_share(kind.mape),
        )
        for name, kind in comparison.per_kind.items()
    ]
    return Grid(headers=("kind", "count", "predicted", "measured", "error", "error of one"), rows=tuple(rows))


def many_grid(many: ComparisonOfMany) -> Grid:
    """Return a row for each pair, with the errors of step time, peak memory and operations."""
    rows = [
        (
            name,
            format_duration(pair.predicted.step_time_ns),
            format_duration(pair.measured.step_time_ns),
            format_error(pair.step_time_error),
            format_error(pair.peak_device_error),
            format_share(pair.op_duration_mape),
        )
        for name, pair in many.pairs.items()
    ]
    tau = many.ranking_tau
    return Grid(
        headers=("pair", "predicted", "measured", "step time error", "peak memory error", "operations' error"),
        rows=tuple(rows),
        note="" if tau is None else f"Order of step times: Kendall's tau-b {tau:.2f} (1 is the measured order).",
    )


def memory_grid(metrics: StepMetrics) -> Grid:
    """Return what each rank holds at its peak of device memory, and of what that is made; a row per rank."""
    rows = [
        (
            str(rank.rank),
            format_bytes(rank.peak_device_bytes),
            *_parts(rank.peak_parts),
            format_bytes(rank.peak_boundary_bytes),
            format_bytes(rank.peak_host_bytes),
        )
        for rank in metrics.ranks
    ]
    return Grid(
        headers=(
            "rank",
            "peak device",
            "weights, optimizer",
            "inside units",
            "boundaries",
            "transport",
            "most boundaries",
            "host",
        ),
        rows=tuple(rows),
        text_columns=frozenset(),
        note="The peak is made of the four columns after it; transport: outputs to send, gradients on their way.",
    )


def _parts(parts: PeakParts | None) -> tuple[str, ...]:
    if parts is None:
        return (NOTHING,) * len(fields(PeakParts))
    return tuple(format_bytes(getattr(parts, field.name)) for field in fields(PeakParts))


def time_grid(metrics: StepMetrics) -> Grid:
    """Return how long each rank computes, is idle and waits for what, a row per rank."""
    rows = [
        (
            str(rank.rank),
            format_duration(rank.compute_ns),
            format_duration(rank.idle_ns),
            *(format_duration(ns) for ns in rank.stalls_ns.values()),
            format_share(rank.overlap if rank.copy_ns else None),
        )
        for rank in metrics.ranks
    ]
    first, *others = (STALL_LOOKS[stall].title for stall in STALLS)
    return Grid(
        headers=("rank", "compute", "idle", f"stall: {first}", *others, "overlap"),
        rows=tuple(rows),
        text_columns=frozenset(),
    )


def sweep_grid(rows: Sequence[SweepRow], capacity_bytes: int | None = None, limit: int | None = None) -> Grid:
    """Return a sweep's rows, fastest per microbatch first, the best one marked; axes of one value are left out.

    With ``limit``, that many rows come back, the best one always among them.
    """
    marked = best(rows, capacity_bytes)
    order = sorted(range(len(rows)), key=lambda i: (time_per_microbatch(rows[i]), rows[i].peak_device_bytes, i))
    shown = order if limit is None else order[:limit]
    if marked is not None and marked not in shown:
        shown = [*shown[:-1], marked]
    axes = list(rows[0].axes) if rows else []
    varying = [key for key in axes if len({row.axes[key] for row in rows}) > 1 or key in ("microbatches", "horizon")]
    over = capacity_bytes is not None and any(row.peak_device_bytes > capacity_bytes for row in rows)
    lines = []
    for i in shown:
        row = rows[i]
        too_much = over and row.peak_device_bytes > (capacity_bytes or 0)
        lines.append(
            (
                *(NOTHING if row.axes[key] is None else str(row.axes[key]) for key in varying),
                format_duration(round(time_per_microbatch(row))),
                format_duration(row.step_time_ns),
                format_bytes(row.peak_device_bytes) + (" !" if too_much else ""),
                format_bytes(row.peak_host_bytes),
                format_share(row.overlap if row.offloaded else None),
                format_duration(sum(row.stalls_ns.values())),
                f"{row.offloaded}/{row.offloaded + row.kept}",
            )
        )
    note = ["mb.: microbatches."]
    if marked is not None:
        note.append(MARKED)
    if over:
        note.append(f"!: more than the device has, {format_bytes(capacity_bytes or 0)}.")
    if len(shown) < len(rows):
        note.append(f"{len(shown)} of {len(rows)} configurations.")
    return Grid(
        headers=(
            *(_SHORT.get(key, key.replace("_", " ")) for key in varying),
            "per mb.",
            "step time",
            "peak device",
            "peak host",
            "overlap",
            "stalls",
            "offloaded",
        ),
        rows=tuple(lines),
        text_columns=frozenset(i for i, key in enumerate(varying) if any(isinstance(r.axes[key], str) for r in rows)),
        best=None if marked is None else shown.index(marked),
        note=" ".join(note),
    )
