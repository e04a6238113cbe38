"""Models of blocks are cut into layers that make what the model makes, or refused in a line."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

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


class Negated(torch.autograd.Function):
    """Hands on its input by another name, and the gradient with another sign."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return -gradients[0]


class Wide(nn.Linear):
    """Takes and returns float32, whatever autocast computes in."""

    def __init__(self) -> None:
        super().__init__(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.float()).float()


class Plain(nn.Module):
    """A model of blocks with one input each, of which ``odd`` changes something around them."""

    def __init__(self, odd: str = "", blocks: Callable[[], nn.Module] = Wide) -> None:
        super().__init__()
        self.odd, self.first, self.head = odd, nn.Linear(8, 8), nn.Linear(8, 3)
        self.blocks = nn.ModuleList(blocks() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if self.odd == "weight":
            x = x * self.blocks[0].bias
        if self.odd == "reads":
            x = x.to(next(self.blocks[1].parameters()).dtype) * self.blocks[1].in_features
        for number, block in enumerate(self.blocks):
            with self.around(number):
                x = checkpoint(block, x, use_reentrant=False) if self.odd == "checkpoint" else block(x)
            x = x[0] if isinstance(x, tuple) else x["x"] if isinstance(x, dict) else x
            if self.odd == "hook":
                x.register_hook(lambda gradient: gradient / 2)  # type: ignore[no-untyped-call]
            if self.odd == "in place":
                x.mul_(2)
            if self.odd == "detach" and number == 1:
                x = x.detach()
        x = Negated.apply(x) if self.odd == "negated" else x[:, 0:]  # type: ignore[no-untyped-call]
        return self.head(x)

    def around(self, number: int) -> AbstractContextManager[Any]:
        if self.odd == "no_grad" and number < 2:
            return torch.no_grad()
        return torch.autocast("cpu", torch.bfloat16) if self.odd == "autocast" else nullcontext()


ANOTHER = "gives the weight first.weight another gradient than its layers"
NONE = "gives the weight first.weight no gradient, and its layers run one after the other give it one"
ELSE = "makes something else of its input than its layers"


@pytest.mark.parametrize(
    ("odd", "with_numbers", "without"),
    [
        ("no_grad", NONE, "runs block 0 without gradients"),
        ("detach", NONE, "changes the gradient of what block 1 makes"),
        ("negated", ANOTHER, "changes the gradient of what block 2 makes"),
        ("hook", ANOTHER, "changes the gradient of what block 0 makes"),
        ("in place", ELSE, "runs other operators"),
        ("autocast", ELSE, "runs block 0 under an autocast of its own"),
        (
            "weight",
            "computes with the weight blocks.0.bias outside of the layer",
            "with the weight blocks.0.bias outside",
        ),
    ],
)
def test_what_would_be_trained_as_something_else_is_refused(odd: str, with_numbers: str, without: str) -> None:
    x = torch.randn(2, 8)
    with pytest.raises(InputError, match=with_numbers) as caught:
        cut_at_blocks(Plain(odd), x)
    assert "\n" not in str(caught.value) and "nn.Sequential(*layers)" in str(caught.value)
    with pytest.raises(InputError, match=without) as caught:
        traced(Plain(odd))
    assert "\n" not in str(caught.value) and "nn.Sequential(*layers)" in str(caught.value)


@pytest.mark.parametrize("odd", ["", "checkpoint", "reads"])
def test_what_is_trained_alike_is_taken(odd: str) -> None:
    model, x = Plain(odd), torch.randn(2, 8)
    layers = cut_at_blocks(model, x)
    assert len(traced(Plain(odd)).layers) == len(layers) == 5
    assert all(weight.grad is None for weight in model.parameters())
    layers(x).square().sum().backward()
    ours = [weight.grad for weight in model.parameters()]
    model.zero_grad()
    model(x).square().sum().backward()
    for one, other in zip(ours, model.parameters(), strict=True):
        assert one is not None and other.grad is not None and torch.equal(one, other.grad)


def test_autocast_that_a_model_switches_off_is_seen_under_autocast() -> None:
    class Off(Plain):
        def around(self, number: int) -> AbstractContextManager[Any]:
            return torch.autocast("cpu", enabled=False)

    assert len(cut_at_blocks(Off(), torch.randn(2, 8))) == 5
    with pytest.raises(InputError, match="makes something else"):
        cut_at_blocks(Off(), torch.randn(2, 8), torch.bfloat16)
    with pytest.raises(InputError, match="under an autocast of its own"):
        traced(Off(), autocast="bfloat16")


def test_buffers_of_blocks_that_the_model_writes_are_refused() -> None:
    class Counted(nn.Linear):
        def __init__(self) -> None:
            super().__init__(8, 8)
            self.register_buffer("count", torch.zeros(()))

    class Counting(Plain):
        def around(self, number: int) -> AbstractContextManager[Any]:
            self.blocks[number].count = self.blocks[number].count + 1
            return nullcontext()

    with pytest.raises(InputError, match=r"leaves something else in its buffer blocks\.0\.count"):
        cut_at_blocks(Counting(blocks=Counted), torch.randn(2, 8))


class Returns(nn.Linear):
    """A block that returns its hidden state in something."""

    def __init__(self, kind: type) -> None:
        super().__init__(8, 8)
        self.kind = kind

    def forward(self, x: torch.Tensor) -> Any:
        x = super().forward(x)
        return (x, x.mean()) if self.kind is tuple else {"x": x}


def test_blocks_may_return_a_tuple_and_no_dictionary() -> None:
    model, x = Plain(blocks=lambda: Returns(tuple)), torch.randn(2, 8)
    assert torch.equal(cut_at_blocks(model, x)(x), model(x))
    with pytest.raises(InputError, match="has blocks that return dict; supported are blocks that return the hidden"):
        cut_at_blocks(Plain(blocks=lambda: Returns(dict)), x)


def test_an_encoder_of_torch_reads_its_blocks() -> None:
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model, x = nn.TransformerEncoder(block, 3, enable_nested_tensor=False), torch.randn(2, 4, 8)
    assert torch.equal(cut_at_blocks(model, x)(x), model(x))


class Wrapped(nn.Module):
    """Hands on what it gets to a published model, as adapters do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = published("llama")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


@pytest.mark.parametrize("value", [IDS, {"input_ids": IDS}, {"input_ids": IDS, "use_cache": True}])
def test_no_block_is_called_with_a_cache(value: Any) -> None:
    model = Wrapped()
    config = model.inner.config
    front = cut_at_blocks(model, value)[0]
    _, calls = front(value)
    assert calls and all(keywords.get("past_key_values") is None for _, keywords in calls)
    assert config.use_cache is True and model.inner.config.use_cache is False


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
