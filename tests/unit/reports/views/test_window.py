"""The stretch of a long step that is shown in full."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadahead.reports.views.window import around, half_window, steady_window
from tests.support.pictures_of_runs import prediction

SPANS = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 50)), min_size=1, max_size=60)


@given(spans=SPANS, most=st.integers(1, 60))
def test_the_stretch_is_the_longest_that_meets_so_many_operations(spans: list[tuple[int, int]], most: int) -> None:
    start = np.array([at for at, _ in spans])
    end = np.array([at + length for at, length in spans])
    half = half_window(start, end, 500, most)

    def met(reach: int) -> int:
        return sum(b > 500 - reach and a < 500 + reach for a, b in zip(start.tolist(), end.tolist(), strict=True))

    if half is None:
        assert len(spans) <= most
    else:
        assert met(half) <= most or half == 1
        assert met(half + 1) > most


def test_a_short_step_is_shown_whole_and_a_long_one_around_its_middle() -> None:
    step = prediction(2, microbatches=20, pipeline="interleaved", horizon=2).predicted
    assert step is not None
    assert steady_window(step, len(step)) == (0, step.step_time_ns)
    start, end = steady_window(step, 40)
    met = (step.end_ns > start) & (step.start_ns < end)
    assert 10 < met.sum() <= 40
    assert abs((start + end) // 2 - step.step_time_ns // 2) <= 1
    assert around((10, 20), 100) == (10, 20)
