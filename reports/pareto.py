"""Finds the front of a sweep: the points that none beats in both time and memory. The rule stands here alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loadahead.sim.choice import gpu_ns_per_microbatch
from loadahead.sim.step_metrics import SweepRow


def pareto(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Return the places of the points that no other one equals or beats in both numbers, by the first number.

    The less the better. Of points that are equal in both, the first is taken.
    """
    out: list[int] = []
    for place in sorted(range(len(points)), key=lambda i: (*points[i], i)):
        if not out or points[place][1] < points[out[-1]][1]:
            out.append(place)
    return tuple(out)


def equals_of(points: Sequence[tuple[float, float]], places: Iterable[int]) -> tuple[int, ...]:
    """Return the places of all points that are equal in both numbers to one of these, in their order."""
    known = {points[place] for place in places}
    return tuple(place for place, point in enumerate(points) if point in known)


def front_of(rows: Sequence[SweepRow], among: Iterable[int] | None = None) -> tuple[int, ...]:
    """Return the places of the rows on the front of GPU-time per microbatch and peak device memory, fastest first.

    It is that of the rows that fit; where none fits, that of all. ``among`` are the places of the rows that count, such
    as those of one model; None: all do. Of rows that are equal in both, the first is taken.
    """
    places, points = _counting(rows, among)
    return tuple(places[i] for i in pareto(points))


def all_on_front(rows: Sequence[SweepRow], among: Iterable[int] | None = None) -> tuple[int, ...]:
    """Return the places of all rows that are on the front, in the rows' order: those of :func:`front_of` and equals."""
    places, points = _counting(rows, among)
    return tuple(places[i] for i in equals_of(points, pareto(points)))


def _counting(rows: Sequence[SweepRow], among: Iterable[int] | None) -> tuple[list[int], list[tuple[float, float]]]:
    """Return the places of the rows that are compared, and both numbers of each."""
    mine = list(range(len(rows)) if among is None else among)
    places = [i for i in mine if rows[i].fits] or mine
    return places, [(gpu_ns_per_microbatch(rows[i]), rows[i].peak_device_bytes) for i in places]
