"""A traced module's units, by hand: what layers hand on, share, change, and need no gradient for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from loadahead.scenarios.kinds.traced import trained_flops
from loadahead.scenarios.prepare import Preparation, Prepared, prepare
from loadahead.scenarios.schema import Scenario
from loadahead.sim.errors import InputError
from loadahead.sim.planner import build_plan
from loadahead.sim.verify import check
from loadahead.sim.workload import HandedOn, LayerShape, ModuleShapes, PassThrough, Shared, SharedState, UnitShape

LINKS = {"d2h": "2 GB/s", "h2d": "1 GB/s", "memory": "1 GiB"}


def layer(**fields: Any) -> LayerShape:
    given = {"input_bytes": 1000, "gradient_bytes": 1000, "saved_bytes": 50, "static_bytes": 4, "flops": 6}
    return LayerShape(**given | fields)


def shapes(count: int = 6, **fields: Any) -> ModuleShapes:
    return ModuleShapes(layers=tuple(layer() for _ in range(count)), **fields)


def made(traced: ModuleShapes, ranks: int = 1, placement: tuple[int, ...] | None = None, **checkpoint: Any) -> Prepared:
    tables = {"parallel": {"partitions": ranks, "microbatches": 3}, "checkpoint": checkpoint}
    scenario = Scenario.model_validate(
        {"name": "test", "model": {"kind": "module", "python": "a.b:c"}, "hardware": LINKS} | tables
    )
    stages = None if placement is None else len(placement)
    prepared = prepare(scenario, traced, stages=stages, placement=placement)
    if placement is None:
        check(build_plan(prepared.workload, prepared.policy))
    return prepared


def units(prepared: Prepared) -> list[UnitShape]:
    return [unit for stage in prepared.workload.stages for unit in stage]


def test_a_plain_module_has_nothing_of_this() -> None:
    prepared = made(shapes(), ranks=2)
    assert prepared.workload.passed == () and prepared.workload.frozen_units == 0
    assert prepared.warnings == () and prepared.static_bytes == (12, 12)
    assert {unit.state_bytes for unit in units(prepared)} == {0}


# ---- handed on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "last", "strategy", "passed", "boundaries"),
    [
        # Of the data: read by the first unit alone, it is part of what that one reads; else it goes past boundaries.
        (-1, 0, "each", None, {0: 70}),
        (-1, 1, "group_2", None, {0: 70}),
        (-1, 1, "each", (0, 1), {}),
        (-1, 5, "each", (0, 1, 2, 3, 4, 5), {}),
        (-1, 3, "group_2", (0, 1), {}),
        # Made by a layer: inside its unit, to the next unit, and on.
        (0, 1, "group_2", None, {}),
        (0, 1, "each", None, {1: 70}),
        (1, 2, "group_2", None, {1: 70}),
        (1, 3, "each", (1, 2, 3), {}),
        (1, 5, "group_2", (0, 1, 2), {}),
    ],
)
def test_where_a_tensor_travels(
    origin: int, last: int, strategy: str, passed: tuple[int, ...] | None, boundaries: dict[int, int]
) -> None:
    prepared = made(shapes(handed_on=(HandedOn(nbytes=70, origin=origin, last=last),)), strategy=strategy)
    wanted = () if passed is None else (PassThrough(nbytes=70, readers=passed),)
    assert prepared.workload.passed == wanted
    assert {number: unit.boundary_bytes - 1000 for number, unit in enumerate(units(prepared))} == {
        number: boundaries.get(number, 0) for number in range(len(units(prepared)))
    }
    # None of them has a gradient.
    assert {unit.gradient_bytes for unit in units(prepared)} == {1000}


def test_tensors_add_up_at_a_boundary_and_go_over_ranks() -> None:
    tensors = (
        HandedOn(nbytes=70, origin=2, last=3),
        HandedOn(nbytes=5, origin=2, last=3),
        HandedOn(nbytes=9, origin=-1, last=5),
    )
    prepared = made(shapes(handed_on=tensors), ranks=2)
    assert [unit.boundary_bytes for unit in units(prepared)] == [1000, 1000, 1000, 1075, 1000, 1000]
    assert prepared.workload.passed == (PassThrough(nbytes=9, readers=tuple(range(6))),)
    # What the graph keeps is counted as it was: a unit's own boundary is no part of it.
    assert {unit.saved_bytes for unit in units(prepared)} == {50}


# ---- frozen ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frozen", "strategy", "found"),
    [(0, "each", 0), (2, "each", 2), (3, "group_2", 1), (1, "group_2", 0), (5, "each", 5), (5, "contiguous", 0)],
)
def test_units_whose_layers_are_all_frozen_run_forward_alone(frozen: int, strategy: str, found: int) -> None:
    prepared = made(shapes(frozen_layers=frozen), strategy=strategy)
    assert prepared.workload.frozen_units == found
    plan = build_plan(prepared.workload, prepared.policy)
    assert plan.frozen_units == found


def test_a_model_without_anything_to_train() -> None:
    with pytest.raises(InputError, match=r"the model has nothing to train.*6 layers") as caught:
        made(shapes(frozen_layers=6))
    assert "\n" not in str(caught.value)


# ---- shared ----------------------------------------------------------------------------------------------------------


def shared(*layers: int, trained: bool = False, nbytes: int = 100) -> Shared:
    return Shared(nbytes=nbytes, layers=layers, trained=trained, name="0.weight")


@pytest.mark.parametrize(
    ("ranks", "placement", "layers", "found"),
    [
        (1, None, (0, 5), (124,)),
        (2, None, (0, 5), (112, 112)),
        (2, None, (0, 1), (112, 12)),
        (3, None, (0, 2, 3), (108, 108, 8)),
        # A rank that holds two stages holds it once.
        (1, (0, 0), (0, 5), (112, 12)),
        (2, (0, 1, 0), (0, 5), (108, 8, 8)),
        (2, (0, 1, 1), (0, 2, 5), (108, 108, 8)),
    ],
)
def test_a_rank_holds_what_its_layers_share_once(
    ranks: int, placement: tuple[int, ...] | None, layers: tuple[int, ...], found: tuple[int, ...]
) -> None:
    assert made(shapes(shared=(shared(*layers),)), ranks, placement).static_bytes == found


def test_a_trained_weight_stays_on_one_rank() -> None:
    tied = shapes(shared=(shared(0, 5, trained=True),))
    with pytest.raises(InputError) as caught:
        made(tied, ranks=2)
    text = str(caught.value)
    assert text.startswith("layers 0 and 5 share the trained weight '0.weight' and lie on ranks 0 and 1")
    assert "use one rank" in text and "checkpoint.partition" in text and "untie" in text and "\n" not in text
    assert made(tied).static_bytes == (124,)
    # Two stages of one rank may share it.
    assert made(tied, 2, (0, 1, 0)).static_bytes == (108, 8, 8)
    near = shapes(shared=(shared(0, 1, 3, trained=True),))
    with pytest.raises(InputError, match="layers 0, 1 and 3 share"):
        made(near, ranks=2)
    assert made(near, ranks=2, partition=[4, 2]).static_bytes == (116, 8)


# ---- state -----------------------------------------------------------------------------------------------------------


def with_state(*state: int) -> ModuleShapes:
    return ModuleShapes(layers=tuple(layer(state_bytes=nbytes) for nbytes in state))


def test_a_unit_keeps_the_state_of_its_layers() -> None:
    prepared = made(with_state(1, 2, 3, 0), strategy="group_2")
    assert [unit.state_bytes for unit in units(prepared)] == [3, 3]
    assert prepared.warnings == ()


def test_a_unit_keeps_once_what_its_layers_share() -> None:
    """Of 4 bytes that layers 0, 1 and 3 change, each unit with any of these has one copy."""
    again = tuple(SharedState(nbytes=4, layer=layer, earlier=earlier) for layer, earlier in ((1, 0), (3, 1)))
    traced = replace(with_state(4, 6, 0, 5), shared_state=again)
    assert [unit.state_bytes for unit in units(made(traced, strategy="each"))] == [4, 6, 0, 5]
    assert [unit.state_bytes for unit in units(made(traced, strategy="group_2"))] == [6, 5]
    assert [unit.state_bytes for unit in units(made(traced, strategy="group_4"))] == [7]


def test_much_state_is_told() -> None:
    (text,) = made(with_state(10, 11, 2048, 0), ranks=2).warnings
    assert text.startswith("unit 1.0 keeps 2 KiB for each microbatch beside its boundary of 1000 B")
    assert "the largest of 2 units" in text
    assert "RECOMPUTE starts from the values that the module's buffers had before its FORWARD" in text
    (alone,) = made(with_state(10, 11)).warnings
    assert "unit 0.1 keeps 11 B" in alone and "largest" not in alone
    # Nothing is kept where nothing is recomputed.
    assert not any("RECOMPUTE" in text for text in made(with_state(500, 500), enabled=False).warnings)
    frozen = ModuleShapes(layers=with_state(500, 1).layers, frozen_layers=1)
    assert made(frozen).warnings == ()


# ---- dealing out -----------------------------------------------------------------------------------------------------


def test_an_estimate_of_the_work_is_told() -> None:
    lstm, act = {"counted": False, "kind": "LSTM"}, {"counted": False, "kind": "GELU"}
    traced = ModuleShapes(layers=(layer(), layer(**lstm), layer(**act), layer(**lstm)))
    assert made(traced).warnings == ()
    (text,) = made(traced, ranks=2).warnings
    assert text.startswith("the FLOPs of 3 of 4 layers (2 LSTM, 1 GELU) are not counted")
    assert "by an estimate" in text and "checkpoint.partition sets" in text
    assert made(traced, ranks=2, partition=[1, 3]).warnings == ()
    # An activation's work is next to nothing, however it is estimated.
    activations = [layer(**act | {"flops": 1}) for _ in range(2)]
    assert made(ModuleShapes(layers=(layer(flops=150), *activations, layer(flops=149))), ranks=2).warnings == ()
    assert made(ModuleShapes(layers=(layer(flops=99), *activations, layer(flops=99))), ranks=2).warnings != ()
    # Where nothing is known of any layer, that is said.
    assert made(ModuleShapes(layers=(layer(**act | {"flops": 0}),) * 2), ranks=2).warnings != ()


def test_what_the_trace_saw_is_told() -> None:
    assert made(shapes(warnings=("a layer runs on its own",))).warnings == ("a layer runs on its own",)


def test_a_partition_by_hand() -> None:
    prepared = made(shapes(), ranks=2, partition=[1, 5], strategy="group_2")
    assert [[unit.layers for unit in stage] for stage in prepared.workload.stages] == [
        [(0, 1)],
        [(1, 3), (3, 5), (5, 6)],
    ]
    assert prepared.static_bytes == (4, 20)


def test_units_of_layers_are_cut_once_for_models_of_equal_weights() -> None:
    """The cut is shared by number: what is special about one model must not get into another's."""
    preparation = Preparation()
    scenario = Scenario.model_validate(
        {"name": "test", "model": {"kind": "module", "python": "a.b:c"}, "hardware": LINKS}
    )
    plain = preparation.prepare(scenario, shapes())
    special = preparation.prepare(scenario, shapes(handed_on=(HandedOn(nbytes=70, origin=0, last=1),), frozen_layers=1))
    again = preparation.prepare(scenario, shapes())
    assert plain.workload == again.workload
    assert special.workload.frozen_units == 1 and special.workload.stages[0][1].boundary_bytes == 1070


@pytest.mark.parametrize(
    ("trained", "parts"),
    [
        # Each layer of 100 FLOPs has 1 part of FORWARD, and 2 of BACKWARD but where nothing needs them.
        ((True, True, True), 1 + 3 + 3),
        # A frozen layer behind trained ones passes its input's gradient on, and has none of its weights.
        ((True, True, False), 1 + 3 + 2),
        ((True, None, True), None),
    ],
)
def test_model_flops_are_of_gradients_that_somebody_computes(
    trained: tuple[bool | None, ...], parts: int | None
) -> None:
    """The first layer lies before any that is trained."""
    layers = tuple(layer(flops=100, trained=one) for one in trained)
    flops = trained_flops(ModuleShapes(layers=layers, frozen_layers=1))
    assert flops == (None if parts is None else 100 * parts)
