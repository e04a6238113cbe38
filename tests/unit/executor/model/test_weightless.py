"""What is traced of models without numbers is what is traced of them with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from loadahead.executor.model.errors import NeedsNumbers
from loadahead.executor.model.spec import ModelObjects, ModelSpec, load_model, on_meta
from loadahead.executor.model.weightless import Weightless
from loadahead.executor.trace import trace_module
from loadahead.sim.errors import InputError
from loadahead.sim.workload import IN_MEMORY, LayerShape, ModuleShapes
from tests.support.models import given_spec, own_spec, tiny_spec
from tests.support.published import published


def whole_spec(model: nn.Module, **changes: Any) -> ModelSpec:
    """A language model of blocks on random ids of shape (2, 16)."""
    fields: dict[str, Any] = {"input_shape": (2, 16), "input_dtype": "int64", "input_high": 90, "loss": "cross_entropy"}
    return ModelSpec(python=IN_MEMORY, objects=ModelObjects(layers=[model], whole=True), **fields | changes)


def without_workspaces(shapes: ModuleShapes) -> ModuleShapes:
    """The shapes as a trace with numbers has them, which leaves workspaces to a calibration."""

    def bare(layer: LayerShape) -> LayerShape:
        return replace(layer, workspace_forward=0, workspace_recompute=0, workspace_backward=0)

    return replace(shapes, layers=tuple(map(bare, shapes.layers)), workspaces_known=False)


SPECS: dict[str, Callable[[], ModelSpec]] = {
    "byte-gpt": tiny_spec,
    "byte-gpt, autocast": lambda: tiny_spec(autocast="bfloat16"),
    "byte-gpt, bfloat16": lambda: tiny_spec(dtype="bfloat16"),
    "several outputs": lambda: given_spec(Fork(), Join(), Fork(), Join()),
    "norms with statistics": lambda: given_spec(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8)),
    "llama": lambda: whole_spec(published("llama")),
    "llama, tied": lambda: whole_spec(published("llama", tie_word_embeddings=True)),
    "llama, eager attention": lambda: whole_spec(published("llama", attn_implementation="eager")),
    "gpt2, dropout": lambda: whole_spec(published("gpt2")),
    "qwen2, windows": lambda: whole_spec(published("qwen2")),
    "what the first block reads": lambda: whole_spec(Mixed()),
    "gpt_neox, sgd": lambda: whole_spec(published("gpt_neox"), optimizer="sgd"),
}


class Fork(nn.Module):
    """Returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.one(x).relu(), self.other(x)


class Join(nn.Module):
    """Takes two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 8)

    def forward(self, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return self.linear(torch.cat(pair, -1)) + pair[0]


@pytest.mark.parametrize("name", SPECS)
def test_numbers_change_nothing_of_what_is_traced(name: str) -> None:
    with_numbers, without = (trace_module(SPECS[name](), 2, numbers=numbers) for numbers in (True, False))
    assert without_workspaces(without) == with_numbers
    assert all(layer.workspace_backward > 0 for layer in without.layers[without.frozen_layers :])


class Mixed(nn.Module):
    """A language model whose blocks all read what the first of them reads, which needs a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(90, 16), nn.Linear(16, 90)
        self.blocks = nn.ModuleList(Skip() for _ in range(3))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = first = self.table(ids)
        for block in self.blocks:
            x = block(x, first)
        out: torch.Tensor = self.head(x)
        return out


class Skip(nn.Module):
    """Adds another tensor to what it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(x)) + first


def test_what_sparse_gradients_take_is_not_known() -> None:
    layers = [nn.Embedding(90, 8, sparse=True), nn.Linear(8, 90)]
    spec = given_spec(*layers, input_shape=(2, 16), input_dtype="int64", input_high=90, optimizer=plain_sgd)
    with_numbers, without = (trace_module(spec, 2, numbers=numbers) for numbers in (True, False))
    # Weights, and gradients of those that are not sparse.
    assert [layer.static_bytes for layer in without.layers] == [90 * 8 * 4, 2 * (8 * 90 + 90) * 4]
    assert without_workspaces(without).layers == with_numbers.layers
    told = "weights of layer 0 have sparse gradients, which take as much memory as microbatches use rows: "
    assert with_numbers.warnings == (told + "peaks are predicted from a few microbatches",)
    assert without.warnings == (told + "without numbers that is not known, and peaks are without them",)


def plain_sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


class Recurrent(nn.Module):
    """Runs a recurrent layer."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner = getattr(nn, kind)(8, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x)[0]
        return out


def test_what_a_kernel_keeps_for_itself_is_not_known() -> None:
    shape = (2, 16, 8)
    with pytest.raises(NeedsNumbers, match=r"what mkldnn_rnn_layer in layer 1 keeps is not known without numbers"):
        trace_module(given_spec(nn.Linear(8, 8), Recurrent("LSTM"), input_shape=shape), numbers=False)
    with torch.device("meta"):
        layers = [nn.Linear(8, 8), Recurrent("LSTM"), Recurrent("LSTM")]
    (told,) = trace_module(given_spec(*layers, input_shape=shape)).warnings
    assert told == (
        "what mkldnn_rnn_layer keeps in layer 1, layer 2 is not known without numbers: with weights these layers save "
        "more, and peaks are higher"
    )
    # One that is made of other operators is as with numbers.
    both = [trace_module(given_spec(Recurrent("GRU"), input_shape=shape), numbers=numbers) for numbers in (True, False)]
    assert both[0] == without_workspaces(both[1]) and both[1].warnings == ()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_parts_that_would_keep_their_numbers_are_not_copied() -> None:
    module = nn.Sequential(nn.Linear(8, 8), torch.jit.script(nn.Linear(8, 8)))
    with pytest.raises(
        NeedsNumbers, match="model: 1 is compiled by TorchScript, which runs on numbers alone"
    ) as caught:
        trace_module(given_spec(*module), numbers=False)
    assert "\n" not in str(caught.value)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_torch_logs_nothing_of_what_fails(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match=r"in unit \(layer 1\): RuntimeError: "):
        trace_module(given_spec(nn.Linear(8, 8), nn.Linear(4, 4)), numbers=False)
    assert not caplog.records and not logging.getLogger("torch._subclasses.fake_tensor").disabled


def test_what_torch_cannot_do_without_numbers_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise NotImplementedError("no such kernel\nfor these tensors")

    monkeypatch.setattr("loadahead.executor.trace.workspace_of", fails)
    with pytest.raises(NeedsNumbers) as caught:
        trace_module(own_spec("linear_gelu"), numbers=False)
    assert str(caught.value) == (
        "the model cannot be traced without its weights: NotImplementedError: no such kernel for these tensors; build "
        "it with its weights"
    )


@pytest.mark.parametrize(("dtype", "narrow"), [(torch.float32, False), (torch.bfloat16, True), (torch.float16, True)])
def test_most_weights_may_be_in_16_bits(dtype: torch.dtype, narrow: bool) -> None:
    layers = [Cast(dtype), nn.Linear(8, 8).to(dtype), Cast(torch.float32), nn.LayerNorm(8)]
    assert trace_module(given_spec(*layers), numbers=False).weights_in_16_bits is narrow


class Cast(nn.Module):
    """Brings its input to a type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.dtype)


def test_experts_are_chosen_in_turn() -> None:
    shapes = trace_module(whole_spec(published("mixtral", meta=True)))
    block = shapes.layers[1]
    # Attention: four products and its core; a router; each of 4 experts three products.
    assert block.products == 4 + 1 + 1 + 4 * 3
    tokens, width, inner = 32, 32, 64
    attention = 2 * tokens * (2 * width * width + 2 * width * width // 2) + 4 * tokens * 16 * width
    # Each token goes to two experts, whichever they are.
    assert block.flops == attention + 2 * tokens * width * 4 + 2 * (2 * tokens) * 3 * width * inner
    real = trace_module(whole_spec(published("mixtral")))
    # The numbers of tokens themselves, which a router makes of numbers, are all that is not seen.
    assert block.saved_bytes == pytest.approx(real.layers[1].saved_bytes, rel=0.01)


def test_no_memory_is_taken() -> None:
    # A terabyte of weights in each layer, and more for gradients and moments.
    side = 1 << 19
    with torch.device("meta"):
        layers = [nn.Linear(side, side, bias=False) for _ in range(2)]
    first, last = trace_module(given_spec(*layers, input_shape=(16, side))).layers
    assert first.static_bytes == 4 * 4 * side**2 + 4 and last.input_bytes == 4 * 16 * side
    assert last.flops == 2 * 16 * side**2 and last.parameters == side**2


def test_alike_layers_are_measured_once_and_others_are_not() -> None:
    # Both are of the same classes and shapes; one adds its input.
    plain, added = Added(False), Added(True)
    a, b, c = trace_module(given_spec(plain, added, Added(False)), numbers=False).layers
    assert (a.kernels, b.kernels) == (2, 3) and a.saved_bytes == b.saved_bytes
    # The last has the loss beside it.
    assert c.kernels > a.kernels


class Added(nn.Module):
    """Applies GELU twice; the sum with what it reads is one kernel more."""

    def __init__(self, added: bool) -> None:
        super().__init__()
        self.added, self.linear = added, nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = nn.functional.gelu(nn.functional.gelu(self.linear(x)))
        return out + x if self.added else out


def test_what_is_shared_stays_shared_in_a_copy_without_numbers() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4))
    module[1].weight = module[0].weight
    module[0].weight.requires_grad_(False)
    copied = Weightless().copy_of(module)
    assert isinstance(copied, nn.Sequential) and on_meta(copied) and not on_meta(module)
    assert copied[1].weight is copied[0].weight and isinstance(copied[0].weight, nn.Parameter)
    assert not copied[0].weight.requires_grad and copied[0].bias.requires_grad
    assert all(isinstance(tensor, FakeTensor) for tensor in copied.state_dict().values())


def test_a_model_without_numbers_keeps_its_batch_without_too() -> None:
    model = load_model(own_spec("linear_gelu"), numbers=False)
    value, target = model.batch(0, 0, 1)
    assert isinstance(value, FakeTensor) and isinstance(target, FakeTensor)
    assert (value.shape, value.device.type) == ((2, 8), "cpu")
