"""A traced module's estimated times, by hand: products by their FLOPs, other operators by bytes, the step by state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from loadahead.scenarios.cautions import cautions, cautions_of_costs
from loadahead.scenarios.kinds.estimated import Estimator, with_moved_bytes
from loadahead.scenarios.loader import load_scenario
from loadahead.scenarios.prepare import Preparation, Prepared, prepare
from loadahead.scenarios.roofline import Compute, Kernels
from loadahead.scenarios.schema import Scenario
from loadahead.sim.costs import UnitCost, is_estimate
from loadahead.sim.errors import InputError
from loadahead.sim.units import LARGEST_AMOUNT
from loadahead.sim.workload import LayerShape, ModuleShapes, Shared

# Products of 1 GFLOP reach a quarter of 1 TFLOP/s and those of 4 GFLOP half; kernels reach 0.8 of 1 GB/s, and start.
KERNELS = Kernels(
    products=((10**9, 0.25), (4 * 10**9, 0.5)),
    flash=((1, 1.0),),
    flash_backward=((1, 1.0),),
    memory_share=0.8,
    start_ns=1000,
    source="this test",
)
COMPUTE = Compute(flops=10**12, efficiency=None, memory_bandwidth=10**9, kernels=KERNELS)
MS = 1_000_000
# With a written efficiency only products take time: 1 GFLOP takes 2 ms.
GPU = {"flops": "1 TFLOP/s", "efficiency": 0.5, "memory_bandwidth": "1 GB/s"}
LINKS = {"d2h": "2 GB/s", "h2d": "1 GB/s", "memory": "1 GiB"}


def layer(**fields: Any) -> LayerShape:
    given = {"input_bytes": 1000, "gradient_bytes": 1000, "saved_bytes": 50, "static_bytes": 4, "flops": 10**9}
    return LayerShape(**given | fields)


def scenario(hardware: Any = GPU, costs: str | None = "estimate", **tables: Any) -> Scenario:
    model = {"kind": "module", "python": "a.b:c"} | tables.pop("model", {})
    content = {"name": "test", "costs": costs, "model": model, "hardware": LINKS | hardware}
    return Scenario.model_validate(content | tables)


def made(
    *layers: LayerShape, hardware: Any = GPU, shared: tuple[Shared, ...] = (), frozen: int = 0, **tables: Any
) -> Prepared:
    shapes = ModuleShapes(layers=layers, shared=shared, frozen_layers=frozen)
    return prepare(scenario(hardware, **tables), shapes)


# ---- one layer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "forward_ns", "backward_ns"),
    [
        # 8 GFLOP in products of 4 GFLOP each at 0.5 TFLOP/s; 8 MB at 0.8 GB/s, and the starts of 3 kernels.
        ({"flops": 8 * 10**9, "products": 2, "moved_bytes": 8 * MS, "kernels": 3}, 26 * MS + 3000, 52 * MS + 6000),
        # As many FLOPs in products of 1 GFLOP each are half as quick.
        ({"flops": 8 * 10**9, "products": 8}, 32 * MS, 64 * MS),
        # A product of 2 GFLOP is halfway between 1 and 4, and its share between 1/4 and 1/2, by the logarithm.
        ({"flops": 6 * 10**9, "products": 3}, 16_970_563, 33_941_126),
        # A trace that does not say how many there are: one.
        ({"flops": 8 * 10**9}, 16 * MS, 32 * MS),
        ({"flops": 0, "moved_bytes": 4 * MS, "kernels": 1}, 5 * MS + 1000, 10 * MS + 2000),
        # What only hands on views takes nothing.
        ({"flops": 0}, 0, 0),
    ],
)
def test_a_layers_times(fields: dict[str, Any], forward_ns: int, backward_ns: int) -> None:
    cost = Estimator(compute=COMPUTE, state_parts=4).cost(layer(**fields))
    assert cost == UnitCost(forward_ns=forward_ns, recompute_ns=forward_ns, backward_ns=backward_ns)


@pytest.mark.parametrize(
    ("state_parts", "static_bytes", "ns"),
    [
        # A million parameters in 32 bits, at 0.8 GB/s. Adam: 16 bytes each are read, and 12 written, all but the
        # gradient.
        (4, 16 * MS, 35 * MS),
        # Plain SGD: weight and gradient are read, the weight is written.
        (2, 8 * MS, 15 * MS),
    ],
)
def test_the_optimizers_step(state_parts: int, static_bytes: int, ns: int) -> None:
    assert Estimator(compute=COMPUTE, state_parts=state_parts).optimizer_ns(static_bytes) == ns


def test_a_trace_without_bytes_moves_inputs_saved_tensors_and_outputs() -> None:
    layers = [layer(input_bytes=100), layer(input_bytes=200, saved_bytes=7), layer(input_bytes=300)]
    moved = [(one.moved_bytes, one.kernels) for one in with_moved_bytes(layers)]
    assert moved == [(100 + 50 + 200, 1), (200 + 7 + 300, 1), (300 + 50, 1)]
    # A trace that has counted them is right about layers that move nothing.
    counted = [layer(), layer(moved_bytes=9, kernels=2)]
    assert with_moved_bytes(counted) == counted


# ---- in units and stages ---------------------------------------------------------------------------------------------


def test_units_of_two_layers_make_again_what_they_save() -> None:
    prepared = made(layer(), layer(flops=3 * 10**9), checkpoint={"strategy": "group_2"})
    assert prepared.costs is not None
    ((unit,),) = prepared.costs.units
    assert (unit.forward_ns, unit.recompute_ns, unit.backward_ns) == (8 * MS, 8 * MS, 16 * MS)
    # Both save 50 bytes, and the second's input is kept too.
    assert (unit.workspace_recompute, unit.workspace_backward) == (1100, 1100)
    # 7 of 4 bytes, at 0.83 of a byte a nanosecond, for each layer.
    assert prepared.costs.optimizer_ns == (9 + 9,)
    assert prepared.costs.static_bytes == (8,)


def test_without_checkpointing_what_is_saved_is_the_plans() -> None:
    prepared = made(layer(), layer(), checkpoint={"enabled": False})
    assert prepared.costs is not None
    assert [cost.workspace_backward for cost in prepared.costs.units[0]] == [0, 0]
    assert [unit.saved_bytes for unit in prepared.workload.stages[0]] == [50, 50]


def test_links_are_the_scenarios_own() -> None:
    prepared = made(layer(), hardware=GPU | {"link_latency": "7 us", "launch": "3 us"})
    assert prepared.costs is not None
    assert (prepared.costs.d2h_bandwidth, prepared.costs.h2d_bandwidth) == (2 * 10**9, 10**9)
    assert (prepared.costs.d2h_latency_ns, prepared.costs.launch_ns) == (7000, 3000)


def test_a_step_has_shared_weights_once_and_nothing_that_is_frozen() -> None:
    tied = Shared(nbytes=400, layers=(1, 2), trained=True, name="wte.weight")
    mask = Shared(nbytes=100, layers=(1, 2), trained=False, name="mask")
    prepared = made(layer(static_bytes=40), layer(static_bytes=8), layer(static_bytes=0), shared=(tied, mask), frozen=1)
    assert prepared.costs is not None
    # 14 bytes for the second layer's 8, 700 for the tied 400, at 0.83 of a byte a nanosecond.
    assert prepared.costs.optimizer_ns == (17 + 844,)
    assert prepared.static_bytes == (548,)


def test_plain_sgd_has_less_state() -> None:
    prepared = made(layer(static_bytes=40), model={"optimizer": "sgd"})
    assert prepared.costs is not None
    assert prepared.costs.optimizer_ns == (73,)


def test_a_layer_that_takes_for_ever() -> None:
    with pytest.raises(InputError, match=r"add up to more than \d+ bytes or ns") as caught:
        made(layer(flops=LARGEST_AMOUNT // 2), hardware=GPU | {"flops": "1 GFLOP/s"})
    assert "\n" not in str(caught.value)


# ---- what is said ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hardware", "source"),
    [
        (GPU, "estimate by roofline for a GPU of 1 TFLOP/s and 1 GB/s with an efficiency of 0.5"),
        ({"preset": "h100-sxm"}, "estimate by roofline for h100-sxm"),
        ({"machine": "p4d.24xlarge"}, "estimate by roofline for a100-sxm-40gb"),
        (
            {"preset": "h100-sxm", "flops": "400 TFLOP/s"},
            "estimate by roofline for h100-sxm with hardware.flops as written",
        ),
    ],
)
def test_the_source_names_the_gpu(hardware: dict[str, Any], source: str) -> None:
    costs = made(layer(), hardware=hardware).costs
    assert costs is not None and costs.source == source and is_estimate(source)


def test_without_being_asked_for_there_are_no_times() -> None:
    assert made(layer(), costs=None).costs is None


def test_a_preparation_keeps_the_two_apart() -> None:
    preparation, shapes = Preparation(), ModuleShapes(layers=(layer(),))
    asked = scenario()
    plain = asked.with_costs(None)
    assert asked.model is plain.model and asked.hardware is plain.hardware
    found = [preparation.prepare(one, shapes).costs for one in (plain, asked, plain)]
    assert [costs is None for costs in found] == [True, False, True]


@pytest.mark.parametrize(
    ("hardware", "missing"),
    [
        ({}, "hardware.flops and hardware.memory_bandwidth are missing"),
        ({"flops": "1 TFLOP/s"}, "hardware.memory_bandwidth is missing"),
        ({"memory_bandwidth": "1 TB/s"}, "hardware.flops is missing"),
    ],
)
def test_a_gpu_that_is_not_known(hardware: dict[str, Any], missing: str) -> None:
    with pytest.raises(InputError, match=missing) as caught:
        made(layer(), hardware=hardware)
    said = str(caught.value)
    assert said.startswith('costs = "estimate" needs to know the GPU') and "hardware.preset = one of h100" in said
    assert "\n" not in said


def said(asked: Scenario) -> list[str]:
    """Return what is warned of a scenario and its estimate, without what other settings are warned of."""
    costs = prepare(asked, ModuleShapes(layers=(layer(),))).costs
    assert costs is not None
    return [*cautions_of_costs(asked, costs), *[text for text in cautions(asked) if "effect" in text]]


ESTIMATED = "times are not measured but an estimate by roofline for h100-sxm; calibrate on that GPU for measured ones"


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (
            {},
            "neither model.dtype nor model.autocast says that the model has such; its products in float32 take longer",
        ),
        ({"dtype": "float32"}, "model.dtype is float32, whose products take longer"),
        ({"dtype": "bfloat16"}, None),
        ({"autocast": "bfloat16"}, None),
    ],
)
def test_that_it_is_an_estimate_is_warned_of(model: dict[str, Any], more: str | None) -> None:
    told = said(scenario({"preset": "h100-sxm"}, model=model))
    assert told[0] == ESTIMATED
    of_products = "the estimate takes the catalogue's FLOPs of h100-sxm, which are of products in 16 bits; "
    assert told[1:] == ([] if more is None else [of_products + more])


def test_written_speeds_have_an_effect_and_are_the_writers_own() -> None:
    told = said(scenario())
    assert len(told) == 1 and told[0].startswith("times are not measured but an estimate")


def test_costs_of_a_file_that_are_an_estimate_say_so_too() -> None:
    costs = made(layer(), hardware={"preset": "h100-sxm"}).costs
    other = scenario({"preset": "h100-sxm"}, costs="costs.json")
    assert cautions_of_costs(other, costs) == [ESTIMATED]
    assert costs is not None
    assert cautions_of_costs(other, costs.model_copy(update={"source": "calibrated on cuda"})) == []


def test_flops_that_are_an_estimate_themselves() -> None:
    warnings = made(layer(), layer(counted=False, kind="LSTM"), layer(counted=False, kind="Tanh")).warnings
    assert (
        "the FLOPs of 2 of 3 layers (1 LSTM, 1 Tanh) are not counted: the estimate of their times follows from an "
        "estimate of their work, and may be far off"
    ) in warnings
    # A look-up's few do not matter, and neither do they where nothing is estimated.
    assert not any("not counted" in text for text in made(layer(), layer(counted=False, flops=10)).warnings)
    assert not any("not counted" in text for text in made(layer(), layer(counted=False), costs=None).warnings)


def test_kinds_that_have_times_of_their_own() -> None:
    given = load_scenario("uniform", {"costs": "estimate"})
    assert cautions(given)[0] == 'costs = "estimate" has no effect on a uniform model: its costs are given'
    costs = prepare(given).costs
    assert costs is not None and costs.source == "scenario"
    # A transformer's times are an estimate of the same sort, which is what was asked for.
    gpt = {"model": {"kind": "transformer", "preset": "gpt3-1.3b"}, "hardware": {"preset": "h100-sxm"}}
    shape = Scenario.model_validate({"name": "test", "costs": "estimate"} | gpt)
    asked, own = prepare(shape), prepare(shape.with_costs(None))
    assert asked.costs is not None and own.costs is not None
    assert asked.costs == own.costs.model_copy(update={"source": "estimate by roofline for h100-sxm"})
    assert asked.costs.units == own.costs.units and not any("no effect" in text for text in cautions(shape))


def test_a_word_that_only_begins_like_it() -> None:
    assert [is_estimate(text) for text in ("estimate", "estimate by hand", "estimated", "scenario", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_layers_that_are_replaced_keep_their_times() -> None:
    """A layer's bytes change with the cut, its times do not."""
    shapes = [layer(), replace(layer(), flops=2 * 10**9)]
    prepared = made(*shapes, parallel={"pipeline_parallel_degree": 2, "microbatches": 2})
    assert prepared.costs is not None
    assert [[unit.forward_ns for unit in stage] for stage in prepared.costs.units] == [[2 * MS], [4 * MS]]
