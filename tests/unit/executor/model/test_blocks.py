"""Models of blocks are cut into layers that make what the model makes, or refused in a line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from loadahead.executor.model.blocks import Block, Front, Head, cut_at_blocks, has_blocks
from loadahead.executor.trace import trace_module
from loadahead.sim.errors import InputError
from loadahead.sim.workload import ModuleShapes
from tests.support.models import given_spec
from tests.support.published import BLOCKS, CONFIGS, VOCABULARY, published

IDS = torch.arange(2 * 16).remainder(VOCABULARY).reshape(2, 16)


@pytest.mark.parametrize("family", CONFIGS)
def test_layers_make_what_a_published_model_makes(family: str) -> None:
    model = published(family).eval()
    layers = cut_at_blocks(model, IDS)
    assert [type(layer) for layer in layers] == [Front, *[Block] * BLOCKS, Head]
    with torch.no_grad():
        assert torch.equal(layers(IDS), model(IDS).logits)
    # They are the model's own weights, each in one layer unless it is tied.
    assert {id(p) for p in layers.parameters()} == {id(p) for p in model.parameters()}


def test_keywords_of_the_data_reach_the_model() -> None:
    model = published("llama").eval()
    mask = torch.ones_like(IDS)
    mask[0, :5] = 0
    value = {"input_ids": IDS, "attention_mask": mask}
    with torch.no_grad():
        out = cut_at_blocks(model, value)(value)
        assert torch.equal(out, model(**value).logits)
        assert not torch.equal(out, model(IDS).logits)


class Residual(nn.Module):
    """A block that reads a scale beside the hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
        return x + scale * self.linear(x)


class Model(nn.Module):
    """A model of blocks, of which ``odd`` changes something."""

    def __init__(self, odd: str = "") -> None:
        super().__init__()
        self.odd = odd
        self.first = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(Residual() for _ in range(4))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        x = self.first(x)
        scales = [torch.full((8,), 1.0 + (n > 1)) for n in (0, 2)]
        for n, block in enumerate(self.blocks):
            x = block(x, scale=scales[n // 2])
            if self.odd == "between":
                x = x * 2
        if self.odd == "twice":
            x = self.blocks[0](x, scale=scales[0])
        if self.odd == "after":
            x = x.tanh()
        if self.odd == "numbers" and float(x.detach().sum()) > 1e9:
            return x
        return self.head(self.norm(x))


def test_blocks_get_each_its_own_call_and_the_model_stays_as_it_is() -> None:
    model, x = Model(), torch.randn(2, 8)
    layers = cut_at_blocks(model, x)
    assert [layer.call for layer in layers if isinstance(layer, Block)] == [0, 0, 1, 1]
    assert model.count == 0 and not any(part._forward_hooks for part in model.modules())
    with torch.no_grad():
        assert torch.equal(layers(x), model(x))


def traced(model: nn.Module, **changes: Any) -> ModuleShapes:
    """What is traced of a model without its weights' numbers."""
    spec = given_spec(model, **changes)
    assert spec.objects is not None
    object.__setattr__(spec.objects, "whole", True)
    return trace_module(spec, numbers=False)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ("between", "has no list of modules that feed each other, each run once"),
        ("twice", "has no list of modules that feed each other, each run once"),
        ("after", "does more after its blocks than to call modules one after the other: LayerNorm is not called with"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(odd: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        cut_at_blocks(Model(odd), torch.randn(2, 8))
    assert "\n" not in str(caught.value) and "nn.Sequential(*layers)" in str(caught.value)


def test_a_model_that_looks_at_numbers_needs_them() -> None:
    assert len(cut_at_blocks(Model("numbers"), torch.randn(2, 8))) == 6
    with pytest.raises(InputError, match="it looks at numbers, and a model without weights has shapes alone") as caught:
        traced(Model("numbers"))
    assert "\n" not in str(caught.value)


def test_which_models_may_have_blocks() -> None:
    assert has_blocks(Model())
    assert not any(map(has_blocks, (nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)), nn.ModuleList([nn.Linear(2, 2)]))))


def test_tables_and_masks_are_handed_on_to_the_last_block() -> None:
    shapes = traced(published("llama"), input_shape=(2, 16), input_dtype="int64")
    # A mask of 16 by 16 for each of 2 sequences, positions twice, and two tables of 16 angles for 8 dimensions.
    assert sorted(h.nbytes for h in shapes.handed_on) == [16 * 8, 16 * 8, 2 * 16 * 16, 16 * 8 * 4, 16 * 8 * 4]
    assert {(h.origin, h.last) for h in shapes.handed_on} == {(0, BLOCKS)}
    assert [layer.kind for layer in shapes.layers] == ["embedding", *["LlamaDecoderLayer"] * BLOCKS, "head"]


def test_a_tied_table_is_counted_once() -> None:
    shapes = traced(published("llama", tie_word_embeddings=True), input_shape=(2, 16), input_dtype="int64")
    (shared,) = shapes.shared
    # Weights, gradients, two moments in float32, and a step count.
    assert shared.layers == (0, BLOCKS + 1) and shared.nbytes == 4 * 4 * VOCABULARY * 32 + 4
    assert shared.name == "model.embed_tokens.weight"
    assert shapes.layers[0].parameters == 0 and shapes.layers[-1].parameters == 32
