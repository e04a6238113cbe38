"""Makes tables of numbers as data (:class:`Grid`), which the command line shows as text and the page as HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from loadahead.reports.compare import Comparison, ComparisonOfMany, KindComparison
from loadahead.reports.speed import format_percent
from loadahead.reports.stalls import STALL_LOOKS
from loadahead.reports.statistics import relative_error
from loadahead.reports.step_comparison import StepComparison
from loadahead.reports.summary import Headline
from loadahead.sim.choice import (
    EACH_MODEL,
    MARKED,
    SPEED,
    SPEED_HEADER,
    Choice,
    choices,
    format_speed,
    gpu_ns_per_microbatch,
    models_of,
    varying_axes,
)
from loadahead.sim.step_metrics import OF_HORIZONS, STALLS, PeakParts, StepMetrics, SweepRow
from loadahead.sim.units import format_bytes, format_duration, format_number

NOTHING = "–"
# What stands for the error of a time where a GPU's is an estimate and a CPU's was measured.
NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Holds a table: headers, rows of text, which columns are text (the others are numbers), and the rows to mark."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: frozenset[int] = frozenset({0})
    marked: frozenset[int] = frozenset()
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


def limit_text(share: float) -> str:
    """Return a limit of whole percents, e.g. ``10 %``."""
    return f"{share:.0%}".replace("%", " %")


def format_tau(tau: float) -> str:
    """Return a rank correlation with two digits and a minus that is one."""
    return f"{tau:.2f}".replace("-", "−")


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

    def of_time(cells: tuple[str, ...]) -> tuple[str, ...]:
        return cells if comparison.same_device else (*cells[:-1], NOT_COMPARABLE)

    rows = [of_time(_pair("step time", predicted.step_time_ns, measured.step_time_ns, _duration))]
    rows.append(_pair("peak device memory", predicted.largest_device_bytes, measured.largest_device_bytes, _bytes))
    if len(predicted.peak_device_bytes) == len(measured.peak_device_bytes) > 1:
        for rank, peaks in enumerate(zip(predicted.peak_device_bytes, measured.peak_device_bytes, strict=True)):
            rows.append(_pair(f"  rank {rank}", *peaks, _bytes))
    rows.append(_pair("peak host memory", predicted.peak_host_bytes, measured.peak_host_bytes, _bytes))
    if predicted.stalls_ns is not None or measured.stalls_ns is not None:
        shares = format_share(predicted.overlap), format_share(measured.overlap)
        rows.append(of_time(("overlap", *shares, _points(predicted.overlap, measured.overlap))))
        for stall in STALLS:
            name = f"stall: {STALL_LOOKS[stall].title}"
            rows.append(of_time(_pair(name, _stall(predicted, stall), _stall(measured, stall), _duration)))
    first, second = comparison.sides
    error = _error_word(comparison)
    high = "; + means that the prediction is too high" if error == "error" else ""
    note = f"{error} = ({first} − {second}) / {second}{high}."
    if comparison.same_device:
        mape = format_share(comparison.op_duration_mape)
        note += f" Mean absolute {error} of single operations' durations: {mape}."
    return Grid(
        headers=("", first, second, error),
        rows=tuple(rows),
        note=note,
    )


def _error_word(comparison: Comparison | ComparisonOfMany) -> str:
    """Return what a deviation is called: an error only where a prediction stands beside a measurement."""
    return "error" if comparison.sides == ("predicted", "measured") else "difference"


def _stall(side: Headline, stall: str) -> int | None:
    return None if side.stalls_ns is None else side.stalls_ns[stall]


def kinds_grid(comparison: Comparison | ComparisonOfMany) -> Grid:
    """Return each kind of operation's count, summed durations with their error, and the mean error of one operation."""
    pairs = [comparison] if isinstance(comparison, Comparison) else comparison.pairs.values()
    comparable = all(pair.same_device for pair in pairs)

    def errors(kind: KindComparison) -> tuple[str, str]:
        return (format_error(kind.error), format_share(kind.mape)) if comparable else (NOT_COMPARABLE, NOTHING)

    rows = [
        (
            name,
            str(kind.count),
            format_duration(kind.predicted_ns),
            format_duration(kind.measured_ns),
            *errors(kind),
        )
        for name, kind in comparison.per_kind.items()
    ]
    error = _error_word(comparison)
    return Grid(headers=("kind", "count", *comparison.sides, error, f"{error} of one"), rows=tuple(rows))


def many_grid(many: ComparisonOfMany) -> Grid:
    """Return a row for each pair, with the errors of step time, peak memory and operations."""
    rows = [
        (
            name,
            format_duration(pair.predicted.step_time_ns),
            format_duration(pair.measured.step_time_ns),
            format_error(pair.step_time_error) if pair.same_device else NOT_COMPARABLE,
            format_error(pair.peak_device_error),
            format_share(pair.op_duration_mape) if pair.same_device else NOTHING,
        )
        for name, pair in many.pairs.items()
    ]
    tau, error = many.ranking_tau, _error_word(many)
    order = "" if tau is None else f"Order of step times: Kendall's tau-b {format_tau(tau)} (1 is {_order(many)})."
    return Grid(
        headers=("pair", *many.sides, f"step time {error}", f"peak memory {error}", f"operations' {error}"),
        rows=tuple(rows),
        note=order,
    )


def _order(many: ComparisonOfMany) -> str:
    return "the measured order" if _error_word(many) == "error" else "the same order in both"


def step_grid(found: StepComparison) -> Grid:
    """Return two steps beside each other: step time, peaks, overlap, stalls."""
    a, b = found.a.headline, found.b.headline
    rows = [_change("step time", a.step_time_ns, b.step_time_ns, _duration)]
    rows.append(_change("peak device memory", a.largest_device_bytes, b.largest_device_bytes, _bytes))
    ranks = max(len(a.peak_device_bytes), len(b.peak_device_bytes))
    for rank in range(ranks if ranks > 1 else 0):
        rows.append(_change(f"  rank {rank}", _of_rank(a, rank), _of_rank(b, rank), _bytes))
    rows.append(_change("peak host memory", a.peak_host_bytes, b.peak_host_bytes, _bytes))
    if a.stalls_ns is not None or b.stalls_ns is not None:
        moved = NOTHING
        if a.overlap is not None and b.overlap is not None:
            moved = "the same" if a.overlap == b.overlap else _points(b.overlap, a.overlap)
        rows.append(("overlap", format_share(a.overlap), format_share(b.overlap), moved))
        for stall in STALLS:
            rows.append(_change(f"stall: {STALL_LOOKS[stall].title}", _stall(a, stall), _stall(b, stall), _duration))
    return Grid(headers=("", "A", "B", "change"), rows=tuple(rows), note="change = (B − A) / A.")


def _of_rank(side: Headline, rank: int) -> int | None:
    return side.peak_device_bytes[rank] if rank < len(side.peak_device_bytes) else None


def _change(name: str, a: int | None, b: int | None, show: Any) -> tuple[str, str, str, str]:
    """Return a row; where both are zero nothing changed, and where A alone is there is nothing to relate it to."""
    return name, show(a), show(b), NOTHING if a is None or b is None else format_change(relative_error(b, a))


def format_change(share: float | None) -> str:
    """Return a signed change in percent; ``the same`` for none at all, ``–`` where there is nothing to relate it to."""
    return "the same" if share == 0 else format_error(share)


def step_kinds_grid(found: StepComparison) -> Grid:
    """Return each kind of operation's count and summed durations in both steps."""
    rows = [
        (
            name,
            str(kind.count_a),
            str(kind.count_b),
            format_duration(kind.a_ns),
            format_duration(kind.b_ns),
            format_change(kind.change),
        )
        for name, kind in found.per_kind.items()
    ]
    return Grid(headers=("kind", "count, A", "B", "time, A", "B", "change"), rows=tuple(rows))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One column of a sweep's table: its header and what a row has there."""

    header: str
    cell: Callable[[SweepRow], str]
    is_text: bool = False


def sweep_grid(rows: Sequence[SweepRow], limit: int | None = None, model_axes: Sequence[str] = ()) -> Grid:
    """Return a sweep's rows, those that fit first, the best one marked; axes of one value are left out.

    Of those that fit the fastest per GPU comes first, of the others the one that lacks least.

    Models are not compared: each has its rows together, and a mark of its own. With ``limit``, about that many rows
    come back, the marked ones always among them. ``model_axes`` are those of :func:`loadahead.sim.choice.choices`.
    """
    chosen = choices(rows, model_axes=model_axes)
    marked = {choice.index for choice in chosen if choice.fits}
    shown = _shown(rows, marked, limit, model_axes)
    columns = _columns(rows, [rows[i] for i in shown])
    return Grid(
        headers=tuple(column.header for column in columns),
        rows=tuple(tuple(column.cell(rows[i]) for column in columns) for i in shown),
        text_columns=frozenset(place for place, column in enumerate(columns) if column.is_text),
        marked=frozenset(place for place, i in enumerate(shown) if i in marked),
        note=" ".join(_notes(rows, chosen, len(shown))),
    )


def _shown(rows: Sequence[SweepRow], marked: set[int], limit: int | None, model_axes: Sequence[str]) -> list[int]:
    """Return the places of the rows to show, in order; of several models each has its share of the limit.

    Of more models than that the first ones are shown.
    """
    models = list(models_of(rows, model_axes).values())
    out: list[int] = []
    for places in models[:limit]:
        order = sorted(places, key=lambda i: (*_rank(rows[i]), i))
        most = len(order) if limit is None else max(1, limit // len(models))
        part = order[:most]
        best = [i for i in order if i in marked and i not in part]
        out += [*part[: most - len(best)], *best]
    return out


def _rank(row: SweepRow) -> tuple[float, ...]:
    """Return a key by which what fits comes first, then what lacks least."""
    lacks = row.missing_device_bytes + row.missing_host_bytes
    return lacks, gpu_ns_per_microbatch(row), row.peak_device_bytes


def _columns(rows: Sequence[SweepRow], shown: Sequence[SweepRow]) -> list[_Column]:
    """Return the columns: axes by their names, then speed, time, memory, stalls and copies."""
    return [
        *(_axis_column(rows, axis) for axis in varying_axes(rows)),
        *_gpus_column(rows),
        _Column(header=SPEED_HEADER, cell=format_speed),
        *_work_columns(rows),
        _Column(header="step time", cell=lambda row: format_duration(row.step_time_ns)),
        _Column(header="peak device", cell=lambda row: _needed(row.peak_device_bytes, row.missing_device_bytes)),
        _host_column(rows),
        _Column(header="overlap", cell=lambda row: format_share(row.overlap if row.offloaded else None)),
        *_stall_columns(shown),
        _Column(header="offloaded", cell=lambda row: f"{row.offloaded}/{row.offloaded + row.kept}"),
    ]


def _axis_column(rows: Sequence[SweepRow], axis: str) -> _Column:
    def cell(row: SweepRow) -> str:
        # A horizon is nothing to what was tuned.
        nothing = row.axes[axis] is None or (row.is_tuned and axis in OF_HORIZONS)
        return NOTHING if nothing else str(row.axes[axis])

    return _Column(header=axis, cell=cell, is_text=any(isinstance(row.axes[axis], str) for row in rows))


def _gpus_column(rows: Sequence[SweepRow]) -> list[_Column]:
    """Return a column of all GPUs, replicas included, where their number varies."""
    if len({row.all_gpus for row in rows}) < 2:
        return []
    return [_Column(header="GPUs", cell=lambda row: NOTHING if row.all_gpus is None else str(row.all_gpus))]


def _work_columns(rows: Sequence[SweepRow]) -> list[_Column]:
    """Return columns of tokens and of MFU where some row's are known."""

    def tokens(row: SweepRow) -> str:
        return NOTHING if row.tokens_per_s is None else format_number(row.tokens_per_s)

    def mfu(row: SweepRow) -> str:
        return NOTHING if row.mfu is None else format_percent(row.mfu)

    out = [_Column(header="tokens/s", cell=tokens)] if any(row.tokens_per_s is not None for row in rows) else []
    return out + ([_Column(header="MFU", cell=mfu)] if any(row.mfu is not None for row in rows) else [])


def _host_column(rows: Sequence[SweepRow]) -> _Column:
    """Return what the fullest host has to have for all its GPUs together; of one rank it is the rank's."""
    if any(row.host_capacity_bytes is not None or row.host_bytes != row.peak_host_bytes for row in rows):
        return _Column(header="host, all GPUs", cell=lambda row: _needed(row.host_bytes, row.missing_host_bytes))
    return _Column(header="peak host", cell=lambda row: format_bytes(row.peak_host_bytes))


def _needed(nbytes: int, missing: int) -> str:
    return format_bytes(nbytes) + (" !" if missing else "")


def _stall_columns(shown: Sequence[SweepRow]) -> list[_Column]:
    """Return a column for each stall that one of the rows has."""

    def column(stall: str, prefix: str) -> _Column:
        return _Column(
            header=f"{prefix}{STALL_LOOKS[stall].short}", cell=lambda row: format_duration(row.stalls_ns[stall])
        )

    there = [stall for stall in STALLS if any(row.stalls_ns[stall] for row in shown)]
    return [column(stall, "" if place else "stall: ") for place, stall in enumerate(there)]


def _notes(rows: Sequence[SweepRow], chosen: Sequence[Choice], shown: int) -> list[str]:
    notes = [f"{SPEED_HEADER}: {SPEED}."]
    if any(row.tokens_per_s is not None for row in rows):
        notes.append("tokens/s: of all GPUs together.")
    if any(choice.fits for choice in chosen):
        notes.append(MARKED)
    if len(chosen) > 1:
        notes.append(EACH_MODEL)
    over = [
        *_capacity("the device", [row.capacity_bytes for row in rows if row.missing_device_bytes]),
        *_capacity("the host", [row.host_capacity_bytes for row in rows if row.missing_host_bytes]),
    ]
    if over:
        notes.append(f"!: more than {' or '.join(over)}.")
    if shown < len(rows):
        notes.append(f"{shown} of {len(rows)} configurations.")
    return notes


def _capacity(who: str, exceeded: Sequence[int | None]) -> list[str]:
    """Say what is exceeded; where capacities are an axis, they lie between two."""
    known = [nbytes for nbytes in exceeded if nbytes is not None]
    if not known:
        return []
    least, most = format_bytes(min(known)), format_bytes(max(known))
    return [f"{who} has ({least if least == most else f'{least} to {most}, depending on the row'})"]
