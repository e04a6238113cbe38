"""Models by name have as many parameters as their publishers say, and as ``transformers`` makes of the same shape."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from loadahead.scenarios.catalogue.transformers import TRANSFORMERS, Shape, allowed_models

COUNTED = {name: shape for name, shape in TRANSFORMERS.items() if shape.parameters is not None}
# Neither GPT-3 nor the shapes of the activation-recomputation paper were published: their names round them.
NAMED = {
    "gpt3-125m": 0.125,
    "gpt3-350m": 0.35,
    "gpt3-760m": 0.76,
    "gpt3-1.3b": 1.3,
    "gpt3-2.7b": 2.7,
    "gpt3-6.7b": 6.7,
    "gpt3-13b": 13,
    "gpt3-175b": 175,
    "megatron-22b": 22,
    "megatron-175b": 175,
    "megatron-530b": 530,
    "megatron-1t": 1008,
}


def made(shape: Shape) -> int:
    """How many parameters the model has that ``transformers`` makes of a shape; no memory is taken for them."""
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config_of(shape))
    return sum(parameter.numel() for parameter in model.parameters())


def config_of(shape: Shape) -> Any:
    transformers = pytest.importorskip("transformers")
    if shape.positions == "learned":
        return transformers.GPT2Config(
            n_layer=shape.layers,
            n_embd=shape.hidden,
            n_head=shape.heads,
            n_positions=shape.sequence,
            vocab_size=shape.vocabulary,
            tie_word_embeddings=shape.tied,
        )
    sizes: dict[str, Any] = {
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.mlp or 4 * shape.hidden,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": shape.tied,
    }
    if not shape.gated:
        return transformers.GPTNeoXConfig(**sizes)
    sizes["num_key_value_heads"] = shape.kv_heads
    if shape.experts:
        experts = {"num_local_experts": shape.experts, "num_experts_per_tok": shape.experts_per_token}
        return transformers.MixtralConfig(**sizes, **experts)
    if shape.qk_norm:
        return transformers.Qwen3Config(**sizes, head_dim=shape.head_size)
    return transformers.Qwen2Config(**sizes) if shape.qkv_bias else transformers.LlamaConfig(**sizes)


@pytest.mark.parametrize("name", COUNTED)
def test_a_row_has_the_published_number_of_parameters(name: str) -> None:
    assert COUNTED[name].count() == COUNTED[name].parameters


@pytest.mark.parametrize("name", sorted(TRANSFORMERS.keys() - COUNTED.keys()))
def test_a_row_that_nobody_counted_has_the_size_of_its_name(name: str) -> None:
    assert TRANSFORMERS[name].count() / 1e9 == pytest.approx(NAMED[name], rel=0.02)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_makes_as_many_parameters(name: str) -> None:
    """Layers are alike, so that one and two of them say what all have."""
    shape = TRANSFORMERS[name]
    one, two = made(replace(shape, layers=1)), made(replace(shape, layers=2))
    assert one + (shape.layers - 1) * (two - one) == shape.count()


def test_a_whole_model_is_as_large_as_its_layers() -> None:
    assert made(TRANSFORMERS["qwen3-8b"]) == TRANSFORMERS["qwen3-8b"].parameters


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_sizes_of_a_row_go_together(name: str) -> None:
    shape = TRANSFORMERS[name]
    assert shape.head_size is not None or shape.hidden % shape.heads == 0
    assert shape.heads % (shape.kv_heads or shape.heads) == 0
    assert bool(shape.experts) == bool(shape.experts_per_token)
    assert shape.experts_per_token <= shape.experts
    assert not (shape.bias and shape.qkv_bias)
    assert shape.source


def test_what_is_allowed_is_every_name_by_its_family_and_the_nearest() -> None:
    said = allowed_models("Llama3-8")
    assert said.startswith("did you mean llama3-8b? A model is one such as gpt3-13b, of gpt2-(small|medium|large|xl), ")
    families = re.findall(r"([\w.-]+)-\(?([^),]+)\)?", said.partition(", of ")[2])
    assert [f"{family}-{size}" for family, sizes in families for size in sizes.split("|")] == list(TRANSFORMERS)
    assert allowed_models(7).startswith("a model is one such as gpt3-13b, of ")
