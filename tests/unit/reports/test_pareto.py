"""The front is what brute force says it is."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadahead.reports.pareto import all_on_front, equals_of, front_of, pareto
from loadahead.sim.choice import choices
from tests.support.sweeps import row

# On a busy machine the first draw is slow.
QUIETLY = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)

POINTS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=12)


def beats(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[0] and a[1] <= b[1] and a != b


@QUIETLY
@given(POINTS)
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    found = pareto(points)
    expected = {point for point in points if not any(beats(other, point) for other in points)}
    assert len(found) == len(expected)
    assert all(points.index(points[place]) == place for place in found)
    assert [points[place] for place in found] == sorted(expected)
    # Points that are equal to one on the front are on it as well.
    on_it = [place for place, point in enumerate(points) if not any(beats(other, point) for other in points)]
    assert list(equals_of(points, found)) == on_it


@QUIETLY
@given(POINTS, st.integers(0, 7), st.lists(st.integers(1, 4), min_size=12, max_size=12))
def test_the_front_of_a_sweep_is_that_of_what_fits(
    points: list[tuple[int, int]], capacity: int, counts: list[int]
) -> None:
    """Points of several numbers of microbatches compare by the time of one."""
    rows = [
        row(time * count, size, microbatches=count, capacity_bytes=max(capacity, 1))
        for (time, size), count in zip(points, counts, strict=False)
    ]
    allowed = [point for point in points if point[1] <= max(capacity, 1)] or points
    expected = {point for point in allowed if not any(beats(other, point) for other in allowed)}
    front = front_of(rows)
    assert [points[place] for place in front] == sorted(expected, key=lambda point: point[0])
    on_it = [
        place
        for place, point in enumerate(points)
        if point in allowed and not any(beats(other, point) for other in allowed)
    ]
    assert list(all_on_front(rows)) == on_it and set(front) <= set(on_it)


@QUIETLY
@given(POINTS)
def test_nothing_on_the_front_is_both_faster_and_leaner_than_the_choice(points: list[tuple[int, int]]) -> None:
    """The choice may be beaten by what its rule calls as good, but not by more than that."""
    rows = [row(time * 1000, size) for time, size in points]
    (choice,) = choices(rows)
    for place in front_of(rows):
        assert not (rows[place].step_time_ns < choice.row.step_time_ns and points[place][1] < points[choice.index][1])
