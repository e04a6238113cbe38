"""Says a comparison of two sweeps in words and as a table: first how the chosen point moved, then the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadahead.reports.axis_names import axis_name, capital, value_text, values_text, varying
from loadahead.reports.sweep_comparison.result import BestChange, FactDifference, PointChange, SweepComparison
from loadahead.reports.tables import Grid
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.units import counted, format_bytes, format_duration, format_rate, parse_bytes, parse_rate

# So many models, differences and points of one sweep alone are named.
MOST_NAMED = 6
# So many gains and so many losses are in the table.
MOST_ROWS = 6


def comparison_sentences(found: SweepComparison) -> list[str]:
    """Return the comparison in words, the answer first."""
    return [
        *_best(found),
        *_points(found),
        *_fronts(found),
        *_alone("A", found.only_a, found),
        *_alone("B", found.only_b, found),
        *_matched(found),
        *_differences(found),
    ]


def _percent(share: float) -> str:
    """Return the size of a change; small ones keep a digit that is not zero."""
    size = abs(share)
    return f"{size * 100:.1f} %" if size >= 0.001 else f"{size * 100:.2g} %"


def _best(found: SweepComparison) -> list[str]:
    if found.other_models is not None:
        a, b = found.other_models
        return [f"A is of {a} and B of {b}: different models, of which no chosen points are compared."]
    several = len(found.best) > 1
    out = [
        f"{values_text(one.model)}: {_of_best(one, found)}" if several else _of_best(one, found)
        for one in found.best[:MOST_NAMED]
    ]
    if len(found.best) > MOST_NAMED:
        out.append(f"... and {counted(len(found.best) - MOST_NAMED, 'more model')}.")
    return out or ["The two sweeps have no model in common, so that no chosen point is compared."]


def _of_best(one: BestChange, found: SweepComparison) -> str:
    if not one.a.fits and not one.b.fits:
        short = [format_bytes(choice.missing_device_bytes + choice.missing_host_bytes) for choice in (one.a, one.b)]
        return f"Nothing fits in either: the nearest point lacks {short[0]} in A and {short[1]} in B."
    if not one.a.fits or not one.b.fits:
        fits, other, choice = ("B", "A", one.b) if one.b.fits else ("A", "B", one.a)
        lacks = one.a if one.b.fits else one.b
        short_of = format_bytes(lacks.missing_device_bytes + lacks.missing_host_bytes)
        return (
            f"In {fits} something fits, in {other} nothing does: {_named(choice.row, found)} is {fits}'s best, and "
            f"{other}'s nearest lacks {short_of}."
        )
    change = one.change
    where = _named(one.b.row, found)
    moved = where != _named(one.a.row, found)
    return (
        f"B's best point {_takes(change)}{_needs(change)}: {where}"
        f"{f' instead of {_named(one.a.row, found)}' if moved else ', as in A'}."
    )


def _takes(change: PointChange) -> str:
    """Return how much more or less time B takes; by GPU and microbatch where these differ."""
    alike = change.a.microbatches == change.b.microbatches and (change.a.gpus or 1) == (change.b.gpus or 1)
    what = "time" if alike else "GPU time per microbatch"
    if not change.gpu_time:
        return f"takes the same {what}"
    return f"takes {_percent(change.gpu_time)} {'less' if change.gpu_time < 0 else 'more'} {what}"


def _memory(change: int, what: str) -> str:
    return f"{format_bytes(abs(change))} {'less' if change < 0 else 'more'} {what}" if change else f"the same {what}"


def _needs(change: PointChange) -> str:
    device = _memory(change.peak_device_bytes, "device memory")
    if not change.host_bytes:
        return f" and needs {device}"
    return f", and needs {device} and {_memory(change.host_bytes, 'host memory')}"


def _named(row: SweepRow, found: SweepComparison) -> str:
    """Return the axes that vary in either sweep, with the row's values."""
    axes = [axis for axis in row.axes if axis in _axes(found)]
    return values_text({axis: row.axes[axis] for axis in axes or ["microbatches", "horizon"]})


def _axes(found: SweepComparison) -> list[str]:
    """Return the axes that tell points of either sweep apart, or the sweeps from each other."""
    each = [dict.fromkeys(row.axes[axis] for row in (*found.a.rows, *found.b.rows)) for axis in found.matched_by]
    told = [axis for axis, values in zip(found.matched_by, each, strict=True) if len(values) > 1]
    return [*told, *(axis for side in (found.a, found.b) for axis in varying(side.rows) if axis not in told)]


def _points(found: SweepComparison) -> list[str]:
    both, moved = len(found.points), found.moved
    if not both:
        return ["No point of one sweep is a point of the other."]
    if not moved:
        return [f"All {both} points that both have are the same in both." if both > 1 else "The one point is the same."]
    faster, slower = len(found.gains(both)), len(found.losses(both))
    parts = [f"{faster} faster", f"{slower} slower", f"{len(moved) - faster - slower} as fast"]
    said = f"Of {counted(both, 'point')} that both have, {len(moved)} moved: {', '.join(parts)}"
    leaner = sum(point.peak_device_bytes < 0 for point in moved)
    larger = sum(point.peak_device_bytes > 0 for point in moved)
    said += f"; {leaner} with less and {larger} with more device memory"
    now, no_longer = sum(p.became_to_fit for p in moved), sum(p.no_longer_fits for p in moved)
    if now or no_longer:
        said += f"; {now} came to fit and {no_longer} no longer {'fits' if no_longer == 1 else 'fit'}"
    return [f"{said}."]


def _fronts(found: SweepComparison) -> list[str]:
    if not found.points:
        return []
    out = []
    for front in found.fronts[:MOST_NAMED]:
        where = f"{values_text(front.model)}: " if len(found.fronts) > 1 else ""
        if not front.joined and not front.left:
            out.append(f"{where}{'the' if where else 'The'} front has the same {counted(front.stayed, 'point')}.")
            continue
        joined, left = counted(len(front.joined), "point"), len(front.left)
        out.append(f"{where}{joined} joined the front, {left} left it, {front.stayed} stayed.")
    return out


def _alone(side: str, rows: Sequence[SweepRow], found: SweepComparison) -> list[str]:
    if not rows:
        return []
    names = "; ".join(_named(row, found) for row in rows[:3])
    more = f"; and {len(rows) - 3} more" if len(rows) > 3 else ""
    is_alone = "is" if len(rows) == 1 else "are"
    return [f"{counted(len(rows), 'point')} {is_alone} {side}'s alone: {names}{more}."]


def _matched(found: SweepComparison) -> list[str]:
    out = []
    for axis, value in found.fixed.items():
        one, other = ("A", "B") if axis in found.a.rows[0].axes else ("B", "A")
        out.append(f"{capital(axis_name(axis))} is an axis of {one} alone; points are matched at {other}'s, {value}.")
    for axis in found.ignored:
        one, other = ("A", "B") if axis in found.a.rows[0].axes else ("B", "A")
        value = value_text(axis, (found.a if one == "A" else found.b).rows[0].axes[axis])
        out.append(f"{one} alone says {value}; points are matched as though {other}'s were alike.")
    for axis, value in found.apart.items():
        one, other = ("A", "B") if axis in found.a.rows[0].axes else ("B", "A")
        side = found.a if other == "A" else found.b
        own = "does not say what it has" if side.facts is None else "does not set it"
        if value is not None:
            own = f"has {_shown(_readable(value))}, which is none of its values"
        out.append(f"{capital(axis_name(axis))} is an axis of {one} alone, and {other} {own}: no points are matched.")
    return out


def _differences(found: SweepComparison) -> list[str]:
    if found.a.facts is None or found.b.facts is None:
        sides = [name for name, side in (("A", found.a), ("B", found.b)) if side.facts is None]
        said = f"{' and '.join(sides)} {'does' if len(sides) == 1 else 'do'} not say"
        return [f"{said} what the sweep was made with, so that the causes are not compared."]
    told = [difference for difference in found.differences if not _is_only_of_points(difference)]
    if not told:
        return ["Both were made with the same scenario, costs and version."]
    names = "; ".join(f"{d.what}, {' and '.join(_both(d.a, d.b))}" for d in told[:MOST_NAMED])
    more = f"; and {len(told) - MOST_NAMED} more" if len(told) > MOST_NAMED else ""
    return [f"Made with: {names}{more}."]


def _is_only_of_points(difference: FactDifference) -> bool:
    """Return whether a difference is one of axes' values, which points of one sweep alone tell already."""
    return difference.what.startswith("axis ") and isinstance(difference.a, list) and isinstance(difference.b, list)


def _both(a: Any, b: Any) -> list[str]:
    """Return both values in words, sizes and rates in readable units where these do not make them look alike."""
    texts = [_shown(_readable(value)) for value in (a, b)]
    if texts[0] == texts[1]:
        texts = [_shown(value) for value in (a, b)]
    return [f"{text} in {side}" for text, side in zip(texts, "AB", strict=True)]


def _readable(value: Any) -> Any:
    if isinstance(value, str) and value.endswith(" B"):
        return format_bytes(parse_bytes(value))
    return format_rate(parse_rate(value)) if isinstance(value, str) and value.endswith(" B/s") else value


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def sweeps_grid(found: SweepComparison, most: int = MOST_ROWS) -> Grid:
    """Return the largest gains, then the largest losses, by GPU-time per microbatch, as a table."""
    points = [*found.gains(most), *reversed(found.losses(most))]
    points += [point for point in found.moved if not point.gpu_time][: max(0, 2 * most - len(points))]
    axes = [axis for axis in found.matched_by if axis in _axes(found)] or ["microbatches", "horizon"]
    headers = (*axes, "step time, A", "B", "change", "peak device, A", "B", "change", "overlap", "offloaded", "fits")
    numbers = 9
    rows = tuple((*(str(point.axes[axis]) for axis in axes), *_cells(point)) for point in points)
    every = len(found.moved)
    shown = f"{len(points)} of {every} points that moved" if len(points) < every else f"{counted(every, 'point')} moved"
    texts = {place for place, axis in enumerate(axes) if any(isinstance(point.axes[axis], str) for point in points)}
    return Grid(
        headers=headers,
        rows=rows,
        text_columns=frozenset({*texts, len(axes) + numbers - 1}),
        note=f"{shown}; the fastest gain first, the largest loss last. Changes of overlap are in points.",
    )


def _cells(point: PointChange) -> tuple[str, ...]:
    a, b = point.a, point.b
    fits = {(True, True): "both", (False, False): "neither", (False, True): "B alone", (True, False): "A alone"}
    return (
        format_duration(a.step_time_ns),
        format_duration(b.step_time_ns),
        _signed_percent(point.step_time),
        format_bytes(a.peak_device_bytes),
        format_bytes(b.peak_device_bytes),
        _signed_bytes(point.peak_device_bytes),
        "–" if point.overlap is None else f"{point.overlap * 100:+.1f}".replace("-", "−"),
        f"{a.offloaded} → {b.offloaded}" if point.offloaded else str(a.offloaded),
        fits[a.fits, b.fits],
    )


def _signed_percent(share: float | None) -> str:
    if share is None:
        return "–"
    return "0" if share == 0 else f"{'−' if share < 0 else '+'}{_percent(share)}"


def _signed_bytes(change: int) -> str:
    return "0" if change == 0 else f"{'−' if change < 0 else '+'}{format_bytes(abs(change))}"
