"""Trains with a peer: the same model, data, units, order of passes and seeds as a plan of one rank has."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from loadahead.executor.model.context import autocast
from loadahead.executor.model.spec import AUTOCAST, Batch, ModelSpec, load_model
from loadahead.executor.peers.base import Offloader, Peer
from loadahead.executor.peers.device import synchronize
from loadahead.executor.tensors.meter import StorageMeter
from loadahead.executor.tensors.randomness import seed_of
from loadahead.executor.training.optimizers import StageOptimizer
from loadahead.sim.errors import InputError
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.workload import Workload


@dataclass(frozen=True, slots=True)
class Pass:
    """Names a microbatch's way through the whole model, forward or backward."""

    backward: bool
    microbatch: int


def passes_of(plan: Plan) -> tuple[Pass, ...]:
    """Return the order of passes of a plan of one rank; InputError for more ranks."""
    if plan.ranks != 1:
        raise InputError(f"the plan has {plan.ranks} ranks; peers train on one device, give a plan of one rank")
    units = {(op.stage, op.unit) for op in plan if op.kind == Kind.FORWARD}
    first, last = min(units), max(units)
    return tuple(
        Pass(op.kind == Kind.BACKWARD, op.microbatch)
        for op in plan
        if (op.kind, (op.stage, op.unit)) in ((Kind.FORWARD, first), (Kind.BACKWARD, last))
    )


class PeerTraining:
    """Trains a model with a peer's offloading, every unit of the workload checkpointed by torch if the peer wants it.

    Gradients and optimizer state are made here and stay, as in a plan's run. The loss belongs to the last unit.
    """

    def __init__(
        self,
        peer: Peer,
        spec: ModelSpec,
        workload: Workload,
        passes: Sequence[Pass],
        device: torch.device,
        *,
        seeded: bool,
    ) -> None:
        self._checkpoints = peer.checkpoints
        self._spec, self._passes, self._device, self._seeded = spec, passes, device, seeded
        self._model = load_model(spec, device)
        self.module = self._model.module
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self._optimizer = StageOptimizer(spec, self.parameters)
        self._units = list(_units(self.module, workload))
        self._free = [peer.make(self.module, device) for _ in range(_in_flight(passes))]
        self._microbatches = 1 + max(step_pass.microbatch for step_pass in passes)

    def batches(self, step: int) -> list[Batch]:
        """Return the step's data, on the device."""
        return [self._model.batch(step, microbatch, self._microbatches) for microbatch in range(self._microbatches)]

    def train(self, step: int, batches: Sequence[Batch]) -> tuple[float, int]:
        """Train one step; return its loss and its time in ns, zeroing gradients and loading data aside."""
        self._optimizer.zero_gradients()
        synchronize(self._device)
        began = time.perf_counter_ns()
        losses = self._run(step, batches)
        self._optimizer.step()
        synchronize(self._device)
        took = time.perf_counter_ns() - began
        return sum(float(losses[microbatch]) for microbatch in sorted(losses)), took

    def metered(self, step: int, batches: Sequence[Batch]) -> tuple[float, int]:
        """Train one step on the CPU; return its loss, and the most bytes that tensors held during it."""
        meter = StorageMeter(self._resident())
        with meter:
            loss, _ = self.train(step, batches)
        return loss, meter.peak

    def _resident(self) -> Iterator[torch.Tensor]:
        yield from self.module.parameters()
        yield from self.module.buffers()
        yield from (p.grad for p in self.parameters if p.grad is not None)
        yield from self._optimizer.state()

    def _run(self, step: int, batches: Sequence[Batch]) -> dict[int, torch.Tensor]:
        """Run all passes; return the microbatches' losses."""
        entered: list[AbstractContextManager[Any]] = []
        try:
            return self._all_passes(step, batches, entered)
        except BaseException as error:
            # Hooks that stay would be called for every later tensor of the process.
            while entered:
                entered.pop().__exit__(type(error), error, error.__traceback__)
            raise

    def _all_passes(
        self, step: int, batches: Sequence[Batch], entered: list[AbstractContextManager[Any]]
    ) -> dict[int, torch.Tensor]:
        running: dict[int, tuple[torch.Tensor, Offloader, AbstractContextManager[Any]]] = {}
        losses = {}
        for current in self._passes:
            if not current.backward:
                offloader = self._free.pop()
                context = offloader.around()
                context.__enter__()
                entered.append(context)
                running[current.microbatch] = (
                    self._forward(step, current.microbatch, batches, offloader),
                    offloader,
                    context,
                )
                continue
            loss, offloader, context = running.pop(current.microbatch)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            # Contexts of saved tensors are a stack. Where several microbatches are in flight this takes another's off
            # it, which is all the same: the newest forward pass always runs under its own.
            entered.remove(context)
            context.__exit__(None, None, None)
            self._free.append(offloader)
            losses[current.microbatch] = loss.detach()
        return losses

    def _forward(self, step: int, microbatch: int, batches: Sequence[Batch], offloader: Offloader) -> torch.Tensor:
        x, target = batches[microbatch]
        dtype = AUTOCAST[self._spec.autocast]
        for (stage, unit), layers in self._units:
            if self._seeded:
                torch.manual_seed(seed_of(self._spec.seed, step, stage, unit, microbatch))
            ends = layers is self._units[-1][1]
            run = partial(self._unit, layers, target if ends else None)
            # Autocast is entered around each unit, or it would keep copies of all weights until the pass ends. Where it
            # is off, whoever runs a peer has left it, and to enter it would be charged to the peer.
            with nullcontext() if dtype is None else autocast(self._device, dtype):
                offloader.mark(x)
                x = checkpoint(run, x, use_reentrant=False) if self._checkpoints else run(x)
        return x  # type: ignore[no-any-return]

    def _unit(self, layers: Sequence[nn.Module], target: Any, x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x if target is None else self._model.loss(x, target) / self._microbatches


def _units(module: nn.Sequential, workload: Workload) -> Iterator[tuple[tuple[int, int], list[nn.Module]]]:
    layers = list(module)
    for stage, units in enumerate(workload.stages):
        for unit, shape in enumerate(units):
            yield (stage, unit), layers[shape.layers[0] : shape.layers[1]]


def _in_flight(passes: Sequence[Pass]) -> int:
    """Return the most microbatches that have run forward and not yet backward."""
    now = most = 0
    for step_pass in passes:
        now += -1 if step_pass.backward else 1
        most = max(most, now)
    return most
