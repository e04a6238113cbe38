"""Traced bytes and FLOPs, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from loadahead.executor.trace import trace_module
from loadahead.sim.workload import LayerShape
from tests.support.models import given_spec, own_spec, tiny_spec


def test_linear_layers_by_hand() -> None:
    first, gelu = trace_module(own_spec("linear_gelu", optimizer="adamw")).layers
    # x (2, 8) float32, the data, whose gradient nobody computes. Weights, gradients and two moments of 8 * 4 + 4
    # numbers, and two step counts of 4 bytes.
    assert first == LayerShape(
        input_bytes=64,
        gradient_bytes=0,
        saved_bytes=0,
        static_bytes=4 * 36 * 4 + 8,
        flops=2 * 2 * 8 * 4,
        kind="Linear",
        products=1,
        parameters=36,
    )
    assert (gelu.input_bytes, gelu.gradient_bytes, gelu.static_bytes) == (32, 32, 0)
    # No operator of it is counted: it is charged for what its operators and the loss make, 2 * 4 numbers by GELU and
    # one each by the mean and its division by the microbatches.
    assert (gelu.flops, gelu.counted, gelu.kind) == (2 * 4 + 1 + 1 + 1, False, "GELU")
    # GELU, a copy of the target, the mean and its division each read and write.
    assert (gelu.products, gelu.kernels, gelu.moved_bytes) == (0, 4, 2 * 32 + 2 * 4 + (32 + 4) + 2 * 4)


def test_sgd_has_no_state() -> None:
    first, _ = trace_module(own_spec("linear_gelu", optimizer="sgd")).layers
    assert first.static_bytes == 2 * 36 * 4


def test_ids_have_no_gradient() -> None:
    layers = trace_module(tiny_spec()).layers
    assert [layer.gradient_bytes for layer in layers] == [0, 1024, 1024, 1024]
    assert [layer.input_bytes for layer in layers] == [128, 1024, 1024, 1024]
    assert layers[1] == layers[2]


def test_the_last_layer_holds_the_loss() -> None:
    head = trace_module(tiny_spec()).layers[-1]
    # log_softmax keeps its output, (2, 8, 256) float32
    assert head.saved_bytes >= 2 * 8 * 256 * 4


def test_nothing_of_the_process_changes() -> None:
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    trace_module(tiny_spec())
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("autocast", ["none", "bfloat16"])
def test_autocast_halves_what_a_linear_layer_hands_on(autocast: str) -> None:
    _, second = trace_module(own_spec("linear_gelu", autocast=autocast)).layers
    assert second.input_bytes == (32 if autocast == "none" else 16)


def test_whose_weights_get_gradients() -> None:
    """Behind a trained layer a frozen one still needs a backward pass; one of several weights may be frozen alone."""
    first, frozen, plain, partly, last = nn.Linear(8, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 1)
    frozen.requires_grad_(False)
    assert partly.bias is not None
    partly.bias.requires_grad_(False)
    shapes = trace_module(given_spec(first, frozen, plain, partly, last))
    assert shapes.frozen_layers == 0
    assert [layer.trained for layer in shapes.layers] == [True, False, True, None, True]
