"""Parameters and their state: as the catalogue counts them, by dtype, and divided by ZeRO."""

from __future__ import annotations

from typing import Any

import pytest

from loadahead.scenarios.catalogue.transformers import TRANSFORMERS
from loadahead.scenarios.kinds.transformer import Transformer
from loadahead.scenarios.loader import load_scenario
from loadahead.scenarios.prepare import prepare
from loadahead.sim.errors import InputError

SMALL = {
    "kind": "transformer",
    "layers": 2,
    "hidden": 16,
    "heads": 4,
    "sequence": 8,
    "vocabulary": 40,
    "positions": "none",
    "bias": False,
    "norm": "rmsnorm",
}
# Two blocks of 12h² and two norms, a table, and the last norm.
PARAMETERS = 2 * (12 * 16 * 16 + 2 * 16) + 40 * 16 + 16


def static(model: dict[str, Any], **parallel: Any) -> tuple[int, ...]:
    return prepare(
        load_scenario({"model": {**SMALL, **model}, "hardware": {"preset": "a100-sxm-80gb"}, "parallel": parallel})
    ).static_bytes


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_published_model_has_as_many_parameters_as_its_row_counts(name: str) -> None:
    scenario = load_scenario(
        {"model": {"kind": "transformer", "preset": name}, "hardware": {"preset": "a100-sxm-80gb"}}
    )
    assert prepare(scenario).static_bytes == (16 * TRANSFORMERS[name].count(),)


def test_gpt2_xl_has_its_table_once_on_one_rank_and_twice_on_two() -> None:
    """Radford et al. (2019): 1,557,611,200 parameters, as its published weights have."""
    model = {"kind": "transformer", "preset": "gpt2-xl"}
    for ranks, copies in ((1, 0), (2, 1)):
        scenario = load_scenario(
            {
                "model": model,
                "hardware": {"preset": "h100-sxm"},
                "parallel": {"pipeline_parallel_degree": ranks, "microbatches": 4},
            }
        )
        assert sum(prepare(scenario).static_bytes) == 16 * (1_557_611_200 + copies * 50_257 * 1600)


def test_stages_of_one_rank_hold_a_tied_table_once() -> None:
    scenario = load_scenario(
        {"model": SMALL, "hardware": {"preset": "h100-sxm"}, "parallel": {"pipeline_parallel_degree": 2}}
    )
    apart = prepare(scenario, stages=4, placement=(0, 1, 0, 1))
    folded = prepare(scenario, stages=4, placement=(0, 1, 1, 0))
    assert sum(apart.static_bytes) - sum(folded.static_bytes) == 16 * 40 * 16


@pytest.mark.parametrize(
    ("model", "each"),
    [
        ({}, 16),
        ({"gradient_dtype": "float32"}, 18),
        ({"dtype": "float32"}, 16),
        ({"master_weights": False}, 12),
        ({"optimizer": "sgd"}, 8),
        ({"optimizer": "momentum"}, 12),
        ({"optimizer": "lion", "master_weights": False}, 8),
        ({"optimizer": "adamw8bit"}, 10),
    ],
)
def test_bytes_per_parameter(model: dict[str, Any], each: int) -> None:
    assert static(model) == (each * PARAMETERS,)


def test_float32_needs_no_master_weights() -> None:
    with pytest.raises(InputError, match=r'^model.master_weights is true and model.dtype is "float32"'):
        static({"dtype": "float32", "master_weights": True})


@pytest.mark.parametrize(
    ("stage", "each"),
    # Rajbhandari et al. (2020), figure 1: 16, 4 + 12/n, 2 + 14/n and 16/n bytes, here over four replicas.
    [(0, 16), (1, 7), (2, 5.5), (3, 4)],
)
def test_zero_divides_state_over_replicas(stage: int, each: float) -> None:
    (found,) = static({}, data_parallel_degree=4, zero_stage=stage)
    # Each layer's part is rounded up.
    assert found == pytest.approx(each * PARAMETERS, abs=12)
    if stage:
        assert static({}, data_parallel_degree=8, zero_stage=stage, sharded_data_parallel_degree=4) == (found,)


def test_experts_are_dealt_out_over_replicas_and_divided_over_those_that_have_the_same() -> None:
    model = {"experts": 4, "experts_per_token": 2}
    expert, router = 2 * 4 * 16 * 16 * 2, 2 * 4 * 16
    dense = PARAMETERS - expert + router
    assert static(model, data_parallel_degree=4) == (16 * (dense + 4 * expert),)
    assert static(model, data_parallel_degree=4, expert_parallel_degree=4) == (16 * (dense + expert),)
    (found,) = static(model, data_parallel_degree=4, expert_parallel_degree=2, zero_stage=3)
    assert found == pytest.approx(16 * (dense / 4 + 2 * expert / 2), abs=12)


def test_tensor_parallelism_divides_products_and_tables_and_no_norms() -> None:
    (found,) = static({}, tensor_parallel_degree=4)
    norms = 5 * 16
    assert found == 16 * ((PARAMETERS - norms) // 4 + norms)
    # More GPUs than heads of keys have a copy of one each.
    (copies,) = static({"kv_heads": 2}, tensor_parallel_degree=4)
    assert copies == 16 * ((2 * (16 * 16 * 2 + 8 * 16 * 16) + 40 * 16) // 4 + 2 * 2 * 16 * 4 + norms)


@pytest.mark.parametrize(
    ("model", "parallel", "said"),
    [
        ({"kv_heads": 3}, {}, "model.kv_heads is 3; it must divide heads, 4"),
        ({"hidden": 18}, {}, "model.hidden is 18; it must be a multiple of heads, 4, or write model.head_size"),
        ({}, {"tensor_parallel_degree": 3}, "parallel.tensor_parallel_degree is 3; it must divide model.heads, 4"),
        (
            {"experts": 4},
            {},
            "model.experts is 4 and experts_per_token 0; a mixture of experts has both, and a token goes to at most as "
            "many experts as there are; a dense model has 0 of both",
        ),
        (
            {"experts": 4, "experts_per_token": 1},
            {"data_parallel_degree": 8, "expert_parallel_degree": 8},
            "parallel.expert_parallel_degree is 8; it must divide model.experts, 4: use a smaller one",
        ),
    ],
)
def test_sizes_that_do_not_go_together(model: dict[str, Any], parallel: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        static(model, **parallel)
    assert str(caught.value) == said


def test_a_head_may_be_wider_than_its_part_of_the_width() -> None:
    (found,) = static({"head_size": 8})
    assert found == 16 * (PARAMETERS + 2 * 4 * 16 * 16)


def test_the_kind_knows_what_a_unit_recomputes() -> None:
    assert Transformer.recomputes_selectively
