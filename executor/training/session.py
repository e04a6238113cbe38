"""Training a model that is loaded anew: its loss, its data, its seeds, and an optimizer for each stage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from loadahead.executor.model.in_units import ModelInUnits, UnitKey, parameters_of
from loadahead.executor.model.spec import AUTOCAST, CPU, Batch, LoadedModel, ModelSpec, load_model, make_ready, on_meta
from loadahead.executor.model.unit import Foreseen
from loadahead.executor.tensors.randomness import seed_of
from loadahead.executor.tensors.sparse import sparse_weights
from loadahead.executor.training.optimizers import StageOptimizer
from loadahead.sim.errors import InputError
from loadahead.sim.workload import Workload


class Session:
    """Loads a model, cuts it into a workload's units, and trains it.

    Gradients are allocated and optimizer state has its memory here, so that both are resident before the first step.
    Each stage has an optimizer of its own: what its step costs does not depend on the rank that holds it.

    Args:
        stage_rank: the rank that runs each stage.
        microbatches: how many a step has, which the data is asked for.
        foreseen: what units do that a traced microbatch does not show, by their names.
        lean: the units to checkpoint the lean way, where the same comes out so.
        in_turns: the session is a calibration's, see :class:`ModelInUnits`.
        one_at_a_time: units of several ranks take turns.

    Attributes:
        model: the module, its data and its loss.
        in_units: the module in units.

    Raises InputError where workload and model do not fit.
    """

    def __init__(
        self,
        spec: ModelSpec,
        workload: Workload,
        stage_rank: tuple[int, ...],
        device: torch.device = CPU,
        microbatches: int = 1,
        foreseen: Mapping[str, Foreseen] | None = None,
        lean: Collection[UnitKey] = (),
        in_turns: bool = False,
        one_at_a_time: bool = False,
    ) -> None:
        self.spec, self.device, self.microbatches = spec, device, microbatches
        self.model: LoadedModel = load_model(spec, device, microbatches)
        if on_meta(self.model.module):
            raise InputError(
                "the model lies on the meta device, its weights have shapes and no numbers; build it on the CPU to run "
                "it, as it is it can only be planned, and simulated with costs that are given"
            )
        make_ready(self.model, microbatches)
        self.in_units = ModelInUnits(
            self.model.module,
            workload,
            stage_rank,
            device,
            autocast=AUTOCAST[spec.autocast],
            in_turns=in_turns,
            one_at_a_time=one_at_a_time,
        )
        value, target = self.model.batch(0, 0, microbatches)
        loss = self.model.loss_of(target, 1)
        self.in_units.trace(value, loss, lambda key: self.seed(0, *key, 0), foreseen, lean)
        self.optimizers = self._optimizers()

    def _optimizers(self) -> list[StageOptimizer]:
        """Return each stage's optimizer; a weight that several stages hold is the first's."""
        taken: set[int] = set()
        sparse = sparse_weights(self.model.module)
        out = []
        for stage in range(len(self.in_units.stage_rank)):
            units = self.in_units.of_stage(stage)
            own = [p for p in parameters_of(units) if p.requires_grad and id(p) not in taken]
            taken.update(map(id, own))
            out.append(StageOptimizer(self.spec, own, sparse))
        return out

    def _rank_optimizers(self, rank: int) -> list[StageOptimizer]:
        return [own for at, own in zip(self.in_units.stage_rank, self.optimizers, strict=True) if at == rank]

    # ---- what a step asks for ----

    def begin_step(self) -> None:
        """Zero the gradients in place."""
        for optimizer in self.optimizers:
            optimizer.zero_gradients()

    def loss_of(self, target: Any, microbatches: int) -> Callable[[Any], torch.Tensor]:
        """Return the loss function of one microbatch, scaled so that a step's losses add up to their mean."""
        return self.model.loss_of(target, microbatches)

    def seed(self, step: int, stage: int, unit: int, microbatch: int) -> int:
        """Return the seed of a unit's random numbers for one step and microbatch."""
        return seed_of(self.spec.seed, step, stage, unit, microbatch)

    def optimizer_step(self, rank: int) -> None:
        """Take one optimizer step on each stage of a rank, one after the other."""
        for optimizer in self._rank_optimizers(rank):
            optimizer.step()

    def resident(self, rank: int) -> Iterator[torch.Tensor]:
        """Yield weights, gradients, module buffers and optimizer state of a rank."""
        yield from self.in_units.held(rank)
        for optimizer in self._rank_optimizers(rank):
            yield from optimizer.state()

    # ---- what is looked at between steps ----

    def batches(self, step: int, count: int) -> list[Batch]:
        """Return the data of so many microbatches, on the device.

        A step has ``microbatches`` of them; where more are wanted, they begin anew.
        """
        return [self.model.batch(step, number % self.microbatches, self.microbatches) for number in range(count)]

    def unused(self) -> set[int]:
        """Return the ids of the trained weights that no microbatch of the last step has used."""
        return {id(parameter) for optimizer in self.optimizers for parameter in optimizer.unused}

    def copy_gradients(self) -> None:
        """Copy gradients before each optimizer step from now on."""
        for optimizer in self.optimizers:
            optimizer.copied = True

    def gradients(self) -> dict[int, torch.Tensor]:
        """Return the last step's gradients, as they were before the optimizer's step where they are copied, by id."""
        found = {p: p.grad for optimizer in self.optimizers for p in optimizer.parameters if p.grad is not None}
        for optimizer in self.optimizers:
            found |= optimizer.copies
        return {id(parameter): gradient for parameter, gradient in found.items()}

    def weights(self) -> dict[str, Any]:
        """Return the model's and the optimizers' state dictionaries, on the CPU and apart from the session."""
        states = [o.optimizer.state_dict() for o in self.optimizers if o.optimizer is not None]
        whole = {"model": self.model.state_dict(), "optimizer": states}
        copied: dict[str, Any] = tree_map_only(torch.Tensor, lambda t: t.detach().to("cpu", copy=True), whole)
        return copied


__all__ = ["Session", "UnitKey"]
