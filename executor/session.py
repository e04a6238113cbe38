"""Cuts a model into a plan's units and ranks, with its optimizers: all that lives from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

from loadahead.executor.checkpoint import CheckpointedUnit, autocast
from loadahead.executor.layout import Layout, own_storage
from loadahead.executor.randomness import seed_of
from loadahead.executor.spec import AUTOCAST, CPU, Batch, LoadedModel, ModelSpec, load_model
from loadahead.sim.errors import InputError
from loadahead.sim.workload import Workload

UnitKey = tuple[int, int]  # (stage, unit)


class Session:
    """Holds the units of a workload over one freshly loaded model.

    Gradients are allocated and optimizer state is made here, so that both are resident before the first step. Each
    stage has an optimizer of its own: what its step costs does not depend on the rank that holds it.

    Args:
        stage_rank: the rank that runs each stage.

    Raises InputError where workload and model do not fit.
    """

    def __init__(
        self, spec: ModelSpec, workload: Workload, stage_rank: tuple[int, ...], device: torch.device = CPU
    ) -> None:
        self.spec, self.workload, self.stage_rank, self.device = spec, workload, stage_rank, device
        self.model: LoadedModel = load_model(spec, device)
        self.dtype = AUTOCAST[spec.autocast]
        self._check_layers()
        self.units = self._units(self.model.module)
        self._check_sharing()
        self.layouts = self._trace()
        self.optimizers = [self._optimizer(stage) for stage in range(len(stage_rank))]

    @property
    def last(self) -> UnitKey:
        """Return the unit in which the model ends and the loss is computed."""
        return len(self.workload.stages) - 1, len(self.workload.stages[-1]) - 1

    def _check_layers(self) -> None:
        at, layers = 0, len(self.model.module)
        for stage in self.workload.stages:
            for unit in stage:
                if unit.layers[0] != at or unit.layers[1] <= at:
                    raise InputError(f"a unit holds layers {list(unit.layers)}; layer {at} must come next")
                at = unit.layers[1]
        if at != layers:
            raise InputError(f"the units hold {at} layers and the model has {layers}; plan for this model")

    def _units(self, module: nn.Sequential) -> dict[UnitKey, CheckpointedUnit]:
        out, layers = {}, list(module)
        shared = len(set(self.stage_rank)) > 1  # all ranks are threads of this process
        for stage, units in enumerate(self.workload.stages):
            for unit, shape in enumerate(units):
                own = layers[shape.layers[0] : shape.layers[1]]
                out[stage, unit] = CheckpointedUnit(own, f"{stage}.{unit}", self.device, self.dtype, shared)
        return out

    def _check_sharing(self) -> None:
        """Raise InputError for units that share a weight: its gradient would add up in another order."""
        owner: dict[int, str] = {}
        for unit in self.units.values():
            for parameter in unit.parameters():
                if owner.setdefault(id(parameter), unit.name) != unit.name:
                    raise InputError(
                        f"units {owner[id(parameter)]} and {unit.name} share a weight of shape "
                        f"{list(parameter.shape)}; that is not supported, untie it or put the layers into one unit"
                    )

    def _trace(self) -> dict[UnitKey, Layout]:
        """Return each unit's input layout, found by running one microbatch to its loss."""
        batch, target = self.model.batch(0, 0, 1)
        x, layouts = own_storage(batch), {}
        with torch.no_grad(), autocast(self.device, self.dtype):
            for key, unit in self.units.items():
                layouts[key] = layout = Layout.of(x)
                if len(layouts) > 1 and not x.is_floating_point():
                    raise InputError(
                        f"the model's unit {unit.name} reads {layout}; only a model's first input may hold integers, "
                        "put the layers before and after into one unit"
                    )
                x = own_storage(unit.run(x, self.loss_of(target, 1) if key == self.last else None))
        if x.numel() != 1 or not x.is_floating_point():
            raise InputError(f"{self.spec.loss_name} returns {Layout.of(x)}; it must return one number")
        return layouts

    def _optimizer(self, stage: int) -> torch.optim.Optimizer | None:
        units = [unit for (own, _), unit in self.units.items() if own == stage]
        return primed_optimizer(self.spec, [p for p in _parameters(units) if p.requires_grad])

    def _rank_units(self, rank: int) -> list[CheckpointedUnit]:
        return [unit for (stage, _), unit in self.units.items() if self.stage_rank[stage] == rank]

    def _rank_optimizers(self, rank: int) -> list[torch.optim.Optimizer]:
        pairs = zip(self.stage_rank, self.optimizers, strict=True)
        return [optimizer for own, optimizer in pairs if own == rank and optimizer is not None]

    def parameters(self, rank: int) -> list[nn.Parameter]:
        """Return a rank's parameters, each once."""
        return _parameters(self._rank_units(rank))

    def resident(self, rank: int) -> Iterator[torch.Tensor]:
        """Yield weights, gradients, module buffers and optimizer state of a rank."""
        for parameter in self.parameters(rank):
            yield parameter
            if parameter.grad is not None:
                yield parameter.grad
        for unit in self._rank_units(rank):
            for layer in unit.layers:
                yield from layer.buffers()
        for optimizer in self._rank_optimizers(rank):
            for state in optimizer.state.values():
                yield from (value for value in state.values() if isinstance(value, torch.Tensor))

    def optimizer_step(self, rank: int) -> None:
        """Take one optimizer step on each stage of a rank, one after the other."""
        for optimizer in self._rank_optimizers(rank):
            optimizer.step()

    def begin_step(self) -> None:
        """Zero the gradients in place, and forget what a failed step may have left."""
        for optimizer in self.optimizers:
            if optimizer is not None:
                optimizer.zero_grad(set_to_none=False)
        for unit in self.units.values():
            unit.reset()

    def batches(self, step: int, microbatches: int) -> list[Batch]:
        """Return the step's data, on the device; inputs lie in storages of exactly their bytes."""
        pairs = [self.model.batch(step, microbatch, microbatches) for microbatch in range(microbatches)]
        return [(own_storage(x), target) for x, target in pairs]

    def loss_of(self, target: torch.Tensor, microbatches: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the loss function of one microbatch, scaled so that a step's losses add up to their mean.

        The target is brought to the device inside the operation that needs it, as its memory is the operation's.
        """
        return lambda out: self.model.loss(out, target.clone()) / microbatches

    def seed(self, step: int, stage: int, unit: int, microbatch: int) -> int:
        """Return the seed of a unit's random numbers for one step and microbatch."""
        return seed_of(self.spec.seed, step, stage, unit, microbatch)


def _parameters(units: Iterable[CheckpointedUnit]) -> list[nn.Parameter]:
    """Return the units' parameters, each once."""
    return list({id(p): p for unit in units for p in unit.parameters()}.values())


def primed_optimizer(spec: ModelSpec, parameters: list[nn.Parameter]) -> torch.optim.Optimizer | None:
    """Zero the gradients and return an optimizer whose state exists already; None without trainable parameters.

    Optimizers make their state at their first step. One with a learning rate of 0 and gradients of 0 changes no
    parameter; the step count is then set back.
    """
    if not parameters:
        return None
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = spec.make_optimizer(parameters)
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for state in optimizer.state.values():
        if "step" in state:
            state["step"].zero_()
    return optimizer
