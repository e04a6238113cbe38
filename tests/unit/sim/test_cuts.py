"""A row of weights cut evenly, against the dynamic programme over every place, and at sizes that it cannot reach."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadahead.sim.cuts import MOST_SUM, even_cuts


def by_every_place(weights: list[int], parts: int) -> list[int]:
    """The plain dynamic programme over (part, weights so far), which takes the square of their number."""
    total = [0]
    for weight in weights:
        total.append(total[-1] + weight)
    worst = [[0] * (len(weights) + 1) for _ in range(parts + 1)]
    cut = [[0] * (len(weights) + 1) for _ in range(parts + 1)]
    worst[1] = total
    for part in range(2, parts + 1):
        for end in range(part, len(weights) + 1):
            choices = [(max(worst[part - 1][at], total[end] - total[at]), at) for at in range(part - 1, end)]
            worst[part][end], cut[part][end] = min(choices)
    ends = [len(weights)]
    for part in range(parts, 1, -1):
        ends.append(cut[part][ends[-1]])
    return [0, *reversed(ends)]


# Few distinct weights give ties, zeros places that are as good as each other; the last leave int64.
WEIGHTS = st.one_of(
    st.lists(st.integers(0, 2), min_size=1, max_size=40),
    st.lists(st.integers(0, 9), min_size=1, max_size=30),
    st.lists(st.integers(0, 10**15), min_size=1, max_size=30),
    st.lists(st.sampled_from([0, 1, 2**61, 2**70, 10**30]), min_size=1, max_size=20),
)


@settings(deadline=None)
@given(WEIGHTS, st.data())
def test_the_cuts_are_those_of_the_plain_dynamic_programme(weights: list[int], data: st.DataObject) -> None:
    parts = data.draw(st.integers(1, len(weights)))
    assert even_cuts(weights, parts) == by_every_place(weights, parts)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 5), st.integers(0, 9), st.integers(0, 9), st.data())
def test_equal_blocks_between_an_embedding_and_a_head(
    blocks: int, block: int, embedding: int, head: int, data: st.DataObject
) -> None:
    weights = [embedding, *[block] * blocks, head]
    parts = data.draw(st.integers(1, len(weights)))
    assert even_cuts(weights, parts) == by_every_place(weights, parts)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.data())
def test_python_integers_and_compiled_code_cut_alike(weights: list[int], data: st.DataObject) -> None:
    parts = data.draw(st.integers(1, len(weights)))
    assert even_cuts([weight * 2**70 for weight in weights], parts) == even_cuts(weights, parts)


@pytest.mark.parametrize("more", [0, 1])
def test_sums_at_the_edge_of_int64(more: int) -> None:
    half = MOST_SUM // 2
    assert even_cuts([half, half, 1 + more], 2) == by_every_place([half, half, 1 + more], 2) == [0, 1, 3]
    assert even_cuts([MOST_SUM + more], 1) == [0, 1]


@pytest.mark.parametrize("scale", [1, 2**70])
@pytest.mark.parametrize("layers", [1024, 1536, 2048, 2049, 4096])
def test_a_thousand_parts(layers: int, scale: int) -> None:
    weights = [(7 * place % 13 + place % 3) * scale for place in range(layers)]
    starts = even_cuts(weights, 1024)
    assert len(starts) == 1025 and (starts[0], starts[-1]) == (0, layers)
    assert all(a < b for a, b in pairwise(starts))
    heaviest = max(sum(weights[a:b]) for a, b in pairwise(starts))
    assert heaviest == lightest(weights, 1024)


def lightest(weights: list[int], parts: int) -> int:
    """The heaviest part's least weight, by bisection and filling alone."""
    low, high = max(weights), sum(weights)
    while low < high:
        middle = (low + high) // 2
        filled, count = 0, 1
        for weight in weights:
            filled += weight
            if filled > middle:
                filled, count = weight, count + 1
        low, high = (low, middle) if count <= parts else (middle + 1, high)
    return low
