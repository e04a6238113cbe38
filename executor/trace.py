"""Finds out what the planner has to know about a model, by running it once: bytes and FLOPs of every layer."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from loadahead.executor.backends import torch_device
from loadahead.executor.checkpoint import CheckpointedUnit, LossOf
from loadahead.executor.layout import own_storage
from loadahead.executor.meter import StorageMeter, storage_bytes
from loadahead.executor.session import primed_optimizer
from loadahead.executor.spec import AUTOCAST, ModelSpec, load_model
from loadahead.executor.torch_settings import single_threaded
from loadahead.executor.user_code import importable_from
from loadahead.sim.workload import LayerShape, ModuleShapes


def trace_module(spec: ModelSpec, microbatches: int = 1, device: str = "cpu") -> ModuleShapes:
    """Return every layer's input, gradient, saved and static bytes for one microbatch, and its FLOPs.

    Saved bytes are what the layer's graph keeps alive beside its input. The loss belongs to the last layer.
    Static bytes are weights, gradients, module buffers and optimizer state. Under autocast some types are the device's
    own, so that a plan for a device is made from shapes found there. Raises InputError for a model that does not run.
    """
    with single_threaded(), importable_from(spec.search_path):
        model = load_model(spec, torch_device(device))
        x, target = model.batch(0, 0, microbatches)
        x = own_storage(x)
        layers = []

        def loss(out: torch.Tensor) -> torch.Tensor:
            return model.loss(out, target.clone())

        for index, layer in enumerate(model.module):
            ends = index == len(model.module) - 1
            shape, x = _trace_layer(spec, index, layer, x, loss if ends else None)
            layers.append(shape)
    return ModuleShapes(layers=tuple(layers))


def _trace_layer(
    spec: ModelSpec, index: int, layer: nn.Module, x: torch.Tensor, loss: LossOf | None
) -> tuple[LayerShape, torch.Tensor]:
    """Return the layer's shape and its output, or the loss where the layer is the last."""
    unit = CheckpointedUnit([layer], f"(layer {index})", x.device, AUTOCAST[spec.autocast])
    with FlopCounterMode(display=False) as flops:
        out = unit.forward_with_graph(0, x.clone(), spec.seed, loss)  # a layer may change its input in place
    unit.reset()
    copied = x.clone()
    meter = StorageMeter([copied, *layer.parameters(), *layer.buffers()])
    with meter:
        unit.forward_with_graph(0, copied, spec.seed, loss)  # the output is dropped, unless the graph holds it
        kept = meter.live - meter.resident
    nbytes = storage_bytes([x])
    shape = LayerShape(
        input_bytes=nbytes,
        gradient_bytes=nbytes if x.is_floating_point() else 0,
        saved_bytes=kept,
        static_bytes=_static_bytes(spec, layer),
        flops=int(flops.get_total_flops()),
    )
    return shape, out


def _static_bytes(spec: ModelSpec, layer: nn.Module) -> int:
    parameters = list(layer.parameters())
    optimizer = primed_optimizer(spec, [p for p in parameters if p.requires_grad])
    gradients = [p.grad for p in parameters if p.grad is not None]
    states = [] if optimizer is None else [v for state in optimizer.state.values() for v in state.values()]
    tensors = [v for v in states if isinstance(v, torch.Tensor)]
    return storage_bytes([*parameters, *layer.buffers(), *gradients, *tensors])
