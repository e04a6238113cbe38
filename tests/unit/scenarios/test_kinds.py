"""What kinds of models come to, against published formulas and by hand."""

from __future__ import annotations

from typing import Any

import pytest

from loadahead.scenarios.catalogue.transformers import TRANSFORMERS
from loadahead.scenarios.prepare import Prepared, prepare
from loadahead.scenarios.schema import Scenario
from loadahead.sim.costs import Costs
from loadahead.sim.errors import InputError
from loadahead.sim.workload import LayerShape, ModuleShapes

S, B, H, A, V, LAYERS = 8, 3, 16, 4, 50, 6
SHAPE = {"layers": LAYERS, "hidden": H, "heads": A, "sequence": S, "vocabulary": V, "microbatch_size": B}
LINKS = {"d2h": "2 GB/s", "h2d": "1 GB/s", "link_latency": "7 us", "p2p": "3 us", "memory": "1 GiB"}


def scenario(model: dict[str, Any], **tables: Any) -> Scenario:
    given = {"name": "test", "model": model, "hardware": LINKS | {"flops": 10**9, "efficiency": 1.0}}
    return Scenario.model_validate(given | tables)


def transformer(**tables: Any) -> Prepared:
    return prepare(scenario({"kind": "transformer"} | SHAPE, **tables))


def costs_of(prepared: Prepared) -> Costs:
    assert prepared.costs is not None
    return prepared.costs


def test_uniform_is_what_the_scenario_says() -> None:
    model = {
        "kind": "uniform",
        "units_per_stage": 3,
        "forward": "1 ms",
        "recompute": "2 ms",
        "backward": "3 ms",
        "backward_input": "1 ms",
        "boundary": "5 MB",
        "workspace_forward": "6 B",
        "workspace_backward": "7 B",
        "static": "8 B",
    }
    prepared = prepare(scenario(model, parallel={"pipeline_parallel_degree": 2, "microbatches": 4}))
    costs = costs_of(prepared)
    assert [len(stage) for stage in prepared.workload.stages] == [3, 3]
    assert {unit.boundary_bytes for stage in prepared.workload.stages for unit in stage} == {5_000_000}
    assert costs.static_bytes == (8, 8)
    unit = costs.units[1][2]
    assert (unit.forward_ns, unit.recompute_ns, unit.backward_ns) == (1_000_000, 2_000_000, 3_000_000)
    assert (unit.backward_input_ns, unit.backward_weight_ns) == (1_000_000, None)
    assert (unit.workspace_forward, unit.workspace_backward) == (6, 7)
    assert (costs.d2h_bandwidth, costs.h2d_bandwidth) == (2 * 10**9, 10**9)
    assert (costs.d2h_latency_ns, costs.h2d_latency_ns, costs.p2p_latency_ns) == (7000, 7000, 3000)
    assert (costs.memory_bytes, costs.p2p_bandwidth, costs.launch_ns) == (2**30, None, 0)


def test_transformer_keeps_the_published_activations() -> None:
    """Korthikanti et al. (2022): equation 1 for all kept, 2sbh for a boundary; equation 2 with tensor parallelism."""
    units = transformer().workload.stages[0]
    assert len(units) == LAYERS + 2
    block = units[1]
    assert block.boundary_bytes == 2 * S * B * H
    assert block.boundary_bytes + block.saved_bytes == S * B * H * (34 + 5 * A * S / H)
    half = transformer(parallel={"tensor_parallel_degree": 2}).workload.stages[0][1]
    assert half.boundary_bytes + half.saved_bytes == S * B * H * (10 + 24 / 2 + 5 * A * S / (H * 2))


def test_transformer_takes_the_published_flops() -> None:
    """Narayanan et al. (2021), equation 3: with recomputation 96 B s l h² (1 + s/6h + V/16lh)."""
    costs = costs_of(transformer())
    layers = 96 * B * S * LAYERS * H * H + 16 * B * S * S * LAYERS * H
    unit = costs.units[0][1]
    assert LAYERS * (unit.forward_ns + unit.recompute_ns + unit.backward_ns) == layers
    head = costs.units[0][-1]
    assert head.forward_ns + head.backward_ns == 6 * B * S * H * V
    assert costs.units[0][0].forward_ns == 0


def test_transformer_holds_16_bytes_per_parameter() -> None:
    """Narayanan et al. (2021), equation 2: 12lh²(1 + 13/12h + (V+s)/12lh); here with the last norm."""
    parameters = 12 * LAYERS * H * H + 13 * LAYERS * H + (V + S) * H + 2 * H
    assert costs_of(transformer()).static_bytes == (16 * parameters,)
    # Two ranks hold a tied table twice.
    assert sum(costs_of(transformer(parallel={"pipeline_parallel_degree": 2})).static_bytes) == 16 * (
        parameters + V * H
    )


@pytest.mark.parametrize(
    ("preset", "billions"),
    [("gpt2-xl", 1.5), ("gpt3-1.3b", 1.3), ("gpt3-6.7b", 6.7), ("gpt3-13b", 13), ("gpt3-175b", 175)],
)
def test_presets_have_the_size_of_their_name(preset: str, billions: float) -> None:
    shape = TRANSFORMERS[preset]
    assert shape.hidden % shape.heads == 0
    parameters = 12 * shape.layers * shape.hidden**2 + (shape.vocabulary + shape.sequence) * shape.hidden
    assert parameters / 1e9 == pytest.approx(billions, rel=0.05)


def test_without_checkpointing_activations_stay() -> None:
    prepared = transformer(checkpoint={"enabled": False, "strategy": "contiguous"})
    costs = costs_of(prepared)
    assert len(prepared.workload.stages[0]) == LAYERS + 2
    # Gradients are there while it runs, and nothing that was made again.
    kept = costs_of(transformer()).units[0][1]
    saved = prepared.workload.stages[0][1].saved_bytes
    assert kept.workspace_backward == costs.units[0][1].workspace_backward + saved


def test_contiguous_makes_a_unit_of_each_stage() -> None:
    prepared = transformer(checkpoint={"strategy": "contiguous"}, parallel={"pipeline_parallel_degree": 2})
    assert [len(stage) for stage in prepared.workload.stages] == [1, 1]
    whole = costs_of(transformer(parallel={"pipeline_parallel_degree": 2}))
    assert costs_of(prepared).static_bytes == whole.static_bytes
    assert costs_of(prepared).units[0][0].forward_ns == sum(unit.forward_ns for unit in whole.units[0])


def test_the_optimizer_step_is_bound_by_memory() -> None:
    hardware = LINKS | {"preset": "a100-sxm-80gb", "memory_bandwidth": "1 GB/s"}
    costs = costs_of(transformer(hardware=hardware))
    # 16 bytes read and 14 written per parameter, and gradients of two bytes read twice, written, and set to zero, at
    # 0.83 of a byte a nanosecond.
    assert costs.optimizer_ns[0] == pytest.approx(costs.static_bytes[0] / 16 * 38 / 0.83, abs=len(costs.units[0]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 5}, "model.hidden is 16; it must be a multiple of heads, 5"),
        ({"hidden": None}, "model.hidden is missing"),
    ],
)
def test_impossible_transformers(changes: dict[str, Any], words: str) -> None:
    model = {key: value for key, value in ({"kind": "transformer"} | SHAPE | changes).items() if value is not None}
    with pytest.raises(InputError, match=words):
        prepare(scenario(model))


@pytest.mark.parametrize("strategy", ["each", "contiguous"])
def test_layers_that_are_too_large_together(strategy: str) -> None:
    # Each layer's state is below 8 PiB.
    model = {"kind": "transformer"} | SHAPE | {"hidden": 4_000_000}
    with pytest.raises(InputError, match="model: the layers of a unit or a stage add up to more than") as caught:
        prepare(scenario(model, checkpoint={"strategy": strategy}, hardware=LINKS | {"flops": "9 PFLOP/s"}))
    assert "\n" not in str(caught.value)


def test_tensor_parallelism_must_divide_the_heads() -> None:
    with pytest.raises(InputError, match=r"tensor_parallel_degree is 3; it must divide model\.heads, 4"):
        transformer(parallel={"tensor_parallel_degree": 3})


def test_a_module_is_dealt_out_by_its_flops_and_has_no_costs_yet() -> None:
    flops = (0, 6, 6, 6, 6, 12)
    shapes = ModuleShapes(
        layers=tuple(
            LayerShape(input_bytes=10 + i, gradient_bytes=10 + i, saved_bytes=i, static_bytes=4, flops=f)
            for i, f in enumerate(flops)
        )
    )
    tables = {"parallel": {"partitions": 2}, "checkpoint": {"strategy": "group_2"}}
    prepared = prepare(scenario({"kind": "module", "python": "a.b:c"}, **tables), shapes)
    assert prepared.costs is None
    # 18 FLOPs each; then pairs of layers.
    assert [[unit.layers for unit in stage] for stage in prepared.workload.stages] == [[(0, 2), (2, 4)], [(4, 6)]]
    assert prepared.workload.stages[0][0].saved_bytes == 0 + 1 + 11


def test_more_layers_than_any_memory_lists() -> None:
    model = {"kind": "transformer"} | SHAPE | {"layers": 2**31 - 1}
    with pytest.raises(InputError, match="the model has 2147483649 layers; at most 1000000 are planned, use fewer"):
        prepare(scenario(model))
