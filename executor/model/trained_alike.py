"""Tells whether a model's layers, run one after the other, train what the model itself trains.

Where there are numbers, each weight's gradient tells, bit for bit. Where there are none, the operators of both runs do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import save_on_cpu

from loadahead.executor.model.alike import OperatorLog
from loadahead.executor.model.state.tensors import has_same_bits


@dataclass(slots=True)
class Trial:
    """Holds a run with its backward pass: of a model, or of its layers.

    Attributes:
        output: the tensor that a loss is computed of.
        gradients: by the names of the weights that get one; on the CPU. Empty where there are no numbers.
        buffers: what the model's buffers hold afterwards, likewise.
        operators: what was run (:class:`OperatorLog`); None where there are numbers.
    """

    output: torch.Tensor
    gradients: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]
    operators: tuple[Hashable, ...] | None


def tried(run: Callable[[], torch.Tensor], model: nn.Module, numbers: bool) -> Trial:
    """Run a model, or its layers, with gradients; what its weights had as theirs is put back."""
    if not numbers:
        log = OperatorLog(whole=True)
        with torch.enable_grad(), log:
            output = run()
        return Trial(output.detach(), {}, {}, _without_views(log.take()))
    weights = dict(model.named_parameters())
    before = {name: weight.grad for name, weight in weights.items()}
    try:
        for weight in weights.values():
            weight.grad = None
        with torch.enable_grad():
            on_device = any(weight.device.type != "cpu" for weight in weights.values())
            # One run keeps what all layers save, which may be more than the device has.
            with save_on_cpu() if on_device else nullcontext():
                output = run()
            if output.requires_grad:
                output.backward(_gradient_of(output))  # type: ignore[no-untyped-call]
        gradients = {name: weight.grad.cpu() for name, weight in weights.items() if weight.grad is not None}
        buffers = {name: buffer.detach().cpu().clone() for name, buffer in model.named_buffers()}
        return Trial(output.detach(), gradients, buffers, None)
    finally:
        for name, weight in weights.items():
            weight.grad = before[name]


def difference(model: Trial, layers: Trial, uses: Mapping[str, int], again: Callable[[], Trial]) -> str | None:
    """Return what the layers do otherwise than the model, in words that follow "the model"; None where nothing is.

    ``uses`` says in how many layers each weight is: the gradients of several add up in an order of their own. ``again``
    runs the model once more: of kernels that do not repeat what they make nothing can be told.
    """
    if model.operators != layers.operators:
        return "runs other operators, without its weights' numbers, than its layers run one after the other"
    if has_same_bits(layers.output, model.output) is False:
        return "makes something else of its input than its layers run one after the other"
    for name, buffer in model.buffers.items():
        if name not in layers.buffers or not _are_equal(layers.buffers[name], buffer, 1):
            return f"leaves something else in its buffer {name} than its layers run one after the other do"
    repeated: Trial | None = None
    for name, count in uses.items():
        ours, theirs = layers.gradients.get(name), model.gradients.get(name)
        if ours is None or theirs is None:
            if ours is not theirs:
                has, have = ("no", "one") if theirs is None else ("a", "none")
                return f"gives the weight {name} {has} gradient, and its layers run one after the other give it {have}"
        elif not _are_equal(ours, theirs, count):
            repeated = repeated or (model if model.output.device.type == "cpu" else again())
            if _are_equal(repeated.gradients[name], theirs, 1):
                return f"gives the weight {name} another gradient than its layers run one after the other do"
    return None


def _without_views(operators: tuple[Any, ...]) -> tuple[Hashable, ...]:
    """Return operators without those that return what they are given by another name, be it without its gradient."""
    kept: list[Hashable] = []
    for given, made in zip(operators[::2], operators[1::2], strict=True):
        function, _, inputs = given
        _, outputs = made
        if function._schema.is_mutable or len(outputs) != 1 or outputs[0][:-1] != inputs[0][:-1]:
            kept += [given, made]
    return tuple(kept)


def _are_equal(ours: torch.Tensor, theirs: torch.Tensor, uses: int) -> bool:
    if ours.layout is not theirs.layout or ours.shape != theirs.shape:
        return False
    ours, theirs = (one.to_dense() if one.layout is not torch.strided else one for one in (ours, theirs))
    if has_same_bits(ours, theirs) is not False:
        return True
    largest = float(torch.maximum(ours.abs(), theirs.abs()).max())
    # As gradients of weights that several units share are compared with plain training's.
    return uses > 1 and float((ours - theirs).abs().max()) <= 4 * uses * torch.finfo(ours.dtype).eps * largest


def _gradient_of(output: torch.Tensor) -> torch.Tensor:
    """Return a gradient that differs from element to element: a sum's would be lost in a norm."""
    drawn = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    return drawn.to(output.device, output.dtype)
