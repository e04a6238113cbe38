"""Layers dealt out over stages and grouped into units, against brute force and by hand."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadahead.scenarios.layers import Cut, Layer, deal_out, group, is_strategy, unit_cost, unit_flops, unit_shape
from loadahead.sim.costs import UnitCost
from loadahead.sim.errors import InputError


def layer(weight: int, index: int = -1, **fields: int) -> Layer:
    cost = UnitCost(forward_ns=weight, recompute_ns=2 * weight, backward_ns=3 * weight, workspace_forward=weight)
    given = {"boundary_bytes": 10, "gradient_bytes": 10, "weight": weight, "index": index, "cost": cost}
    return Layer(**given | fields)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.data())
def test_no_cut_has_a_lighter_heaviest_stage(weights: list[int], data: st.DataObject) -> None:
    stages = data.draw(st.integers(1, len(weights)))
    found = deal_out(weights, stages)
    assert [place for stage in found for place in stage] == list(range(len(weights)))
    assert len(found) == stages and all(found)
    cuts = ([0, *inner, len(weights)] for inner in combinations(range(1, len(weights)), stages - 1))
    best = min(max(sum(weights[a:b]) for a, b in pairwise(cut)) for cut in cuts)
    assert max(sum(weights[place] for place in stage) for stage in found) == best


def test_fewer_layers_than_stages() -> None:
    with pytest.raises(InputError, match="pipeline_parallel_degree is 3 and the model has 2 layers"):
        deal_out([1, 1], 3)


@pytest.mark.parametrize(
    ("strategy", "sizes"), [("each", [1] * 5), ("contiguous", [5]), ("group_2", [2, 2, 1]), ("group_9", [5])]
)
def test_strategies(strategy: str, sizes: list[int]) -> None:
    assert is_strategy(strategy)
    units = group(range(5), strategy)
    assert [len(unit) for unit in units] == sizes
    assert [layer for unit in units for layer in unit] == list(range(5))


def test_a_cut_knows_units_and_stages_that_are_alike() -> None:
    cut = Cut.of([[(0,), (1, 1)], [(1, 1)], [(0,), (1, 1)]])
    assert (cut.units, cut.stages, cut.order) == (((0,), (1, 1)), ((0, 1), (1,)), (0, 1, 0))
    first, second, third = cut.each("ab")
    assert (first, second) == (("a", "b"), ("b",)) and third is first
    assert cut.sums([1, 10]) == (11, 10, 11)


@pytest.mark.parametrize("word", ["group_0", "group_", "group_-1", "group_02", "all", "", None, 3])
def test_no_strategies(word: object) -> None:
    assert not is_strategy(word)


def test_a_unit_of_three_layers_by_hand() -> None:
    layers = [
        layer(1, 4, boundary_bytes=8, saved_bytes=100),
        layer(2, 5, boundary_bytes=10, saved_bytes=200),
        layer(5, 6, boundary_bytes=20, saved_bytes=400),
    ]
    shape = unit_shape(layers)
    # Inner activations, and the inputs of the second and the third layer.
    assert (shape.boundary_bytes, shape.saved_bytes, shape.layers) == (8, 700 + 30, (4, 7))
    cost = unit_cost(layers, checkpoint=True)
    assert cost is not None
    assert (cost.forward_ns, cost.recompute_ns, cost.backward_ns) == (8, 16, 24)
    # The largest temporary, and two neighbouring inputs; what RECOMPUTE makes is there until BACKWARD has ended.
    assert (cost.workspace_forward, cost.workspace_recompute, cost.workspace_backward) == (5 + 30, 730, 730)
    plain = unit_cost(layers, checkpoint=False)
    assert plain is not None
    assert (plain.workspace_forward, plain.workspace_recompute, plain.workspace_backward) == (5, 0, 0)


def test_a_unit_of_one_layer_is_that_layer() -> None:
    one = layer(3, 0)
    assert unit_cost([one], checkpoint=True) == one.cost
    assert unit_cost([layer(1, cost=None)], checkpoint=True) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layers", "flops"),
    [
        ([(600, 600)], 600),
        ([(600, 600), (400, 400)], 1000),
        ([(600, 600), (6, None)], 600),  # an activation's work is an estimate, and no more than a hundredth
        ([(600, 600), (7, None)], None),
        ([(600, None)], None),
        ([(0, 0)], 0),
    ],
)
def test_a_units_flops_are_those_of_its_layers_unless_much_is_an_estimate(
    layers: list[tuple[int, int | None]], flops: int | None
) -> None:
    assert unit_flops([Layer(boundary_bytes=1, gradient_bytes=1, weight=w, flops=n) for w, n in layers]) == flops
